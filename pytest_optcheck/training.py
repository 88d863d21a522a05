"""The one training loop: optimizer × reference model × dtype × device -> Run."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pytest_optcheck.curves import Failure, Needs, Run, norm_steps
from pytest_optcheck.determinism import deterministic
from pytest_optcheck.errors import one_line
from pytest_optcheck.jitter import RoundingJitter

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from pytest_optcheck.curves import Dtype
    from pytest_optcheck.specs import Factory
    from pytest_optcheck.workloads.base import Problem, Workload


NOTHING = Needs()
"""An optimizer in textbook form: dense gradients, any number of groups, ``step()`` without arguments."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """How to train, apart from what is trained.

    Attributes:
        dtype: ``float64`` or ``float32``.
        device: a torch device, as text.
        needs: what the optimizer needs.
        steps: updates to make; None takes the workload's.
        lr_factor: multiplies the learning rate of every group.
        jitter: seed of the rounding jitter; None trains without.
        ulps: amplitude of the jitter, in units of the last place.
    """

    dtype: Dtype = "float64"
    device: str = "cpu"
    needs: Needs = NOTHING
    steps: int | None = None
    lr_factor: float = 1.0
    jitter: int | None = None
    ulps: float = 1.0


def train(factory: Factory, workload: Workload, conditions: Conditions) -> Run:
    """Train `workload` once and keep what happened.

    An exception from building or stepping the optimizer, and a NaN or an Inf, end the training and are kept
    as the run's failure with their step. The caller's global settings and random streams are as before.
    """
    with deterministic(conditions.device):
        return _Training(factory, workload, conditions).run()


class _Training:
    """The state of one training; exists for the length of one `run`."""

    def __init__(self, factory: Factory, workload: Workload, conditions: Conditions) -> None:
        self.factory = factory
        self.conditions = conditions
        self.steps = workload.steps if conditions.steps is None else conditions.steps
        self.problem: Problem = workload.problem(getattr(torch, conditions.dtype), conditions.device)
        self.norm_steps = frozenset(norm_steps(self.steps))
        self.jitter = None
        if conditions.jitter is not None:
            dtype, device = getattr(torch, conditions.dtype), torch.device(conditions.device)
            self.jitter = RoundingJitter(conditions.jitter, dtype, device, conditions.ulps)
        self.losses: list[float] = []
        self.norms: dict[str, dict[int, float]] = {name: {} for name in self.problem.parameters}
        self.step_s = 0.0

    def run(self) -> Run:
        started = time.perf_counter()
        failure = self._train()
        return Run(
            dtype=self.conditions.dtype,
            device=self.conditions.device,
            losses=tuple(self.losses),
            norms=self.norms,
            failure=failure,
            step_s=self.step_s,
            train_s=time.perf_counter() - started,
        )

    def _train(self) -> Failure | None:
        for name in self.conditions.needs.frozen:
            self.problem.parameters[name].requires_grad_(False)
        try:
            optimizer = self._build()
        except Exception as error:  # noqa: BLE001 - foreign code: anything may come out of it, and it is recorded
            return Failure(0, "raised", one_line(error))
        for step in range(self.steps):
            failure = self._update(optimizer, step) or self._look(step + 1)
            if failure:
                return failure
        return self._keep(self.problem.final_loss(), self.steps)

    def _build(self) -> Any:  # noqa: ANN401 - optimizers are what behaves like one
        trained = {name: p for name, p in self.problem.parameters.items() if p.requires_grad}
        groups = [[trained[n] for n in names] for names in self.problem.workload.groups(list(trained))]
        one = len(groups) == 1 or self.conditions.needs.one_group
        optimizer = self.factory(list(trained.values()) if one else [{"params": group} for group in groups])
        for name in ("zero_grad", "step"):
            if not callable(getattr(optimizer, name, None)):
                raise TypeError(f"the factory made a {type(optimizer).__name__} without {name}(), not an optimizer")
        for group in [] if one else optimizer.param_groups[1:]:
            _alter(group)
        if self.conditions.lr_factor != 1.0:
            for group in optimizer.param_groups:
                group["lr"] = group["lr"] * self.conditions.lr_factor
        return optimizer

    def _update(self, optimizer: Any, step: int) -> Failure | None:  # noqa: ANN401 - see _build
        """One update; the loss before it is kept."""
        before: list[float] = []

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self.problem.backward(step)
            self._prepare_gradients()
            before.append(float(loss))
            return loss

        failure = None
        try:
            if self.conditions.needs.closure:
                self._step(optimizer, closure)
            else:
                closure()
                self._step(optimizer)
        except Exception as error:  # noqa: BLE001 - see _train
            failure = Failure(step + 1, "raised", one_line(error))
        if before:
            return self._keep(before[0], step) or failure
        return failure or Failure(step + 1, "raised", "step(closure) never called the closure")

    def _prepare_gradients(self) -> None:
        for parameter in self.problem.parameters.values():
            if parameter.grad is None:
                continue
            if self.jitter is not None:
                self.jitter.gradient(parameter.grad)
            if self.conditions.needs.sparse and parameter.dim():
                parameter.grad = parameter.grad.to_sparse(1)

    def _step(self, optimizer: Any, *closure: Callable[[], Tensor]) -> None:  # noqa: ANN401 - see _build
        started = time.perf_counter()
        try:
            with self.jitter or contextlib.nullcontext():
                optimizer.step(*closure)
        finally:
            self.step_s += time.perf_counter() - started

    def _keep(self, loss: float, step: int) -> Failure | None:
        self.losses.append(loss)
        return None if math.isfinite(loss) else Failure(step, "non-finite", f"the loss is {loss}")

    def _look(self, update: int) -> Failure | None:
        """Keep the norms after `update`, where they are kept; the first that is not finite is a failure."""
        if update not in self.norm_steps:
            return None
        with torch.no_grad():
            norms = torch._foreach_norm(list(self.problem.parameters.values()))  # noqa: SLF001 - one call for all
        for name, norm in zip(self.norms, torch.stack(norms).tolist(), strict=True):
            self.norms[name][update] = norm
            if not math.isfinite(norm):
                return Failure(update, "non-finite", f"the norm of {name} is {norm}")
        return None


def _alter(group: dict[str, Any]) -> None:
    """Give a later parameter group settings of its own, so that what one group lends another shows."""
    if "lr" in group:
        group["lr"] = group["lr"] * 0.5
    if group.get("weight_decay"):
        group["weight_decay"] *= 2.0
    if isinstance(group.get("betas"), tuple):
        group["betas"] = tuple(beta * 0.95 for beta in group["betas"])
