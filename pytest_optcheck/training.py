"""The one training loop: optimizer × reference model × route × dtype × device -> Run."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections import Counter
from typing import TYPE_CHECKING

import torch

from pytest_optcheck import schedules
from pytest_optcheck.clocks import Clocks
from pytest_optcheck.curves import Failure, Run, norm_steps
from pytest_optcheck.determinism import deterministic, process_group
from pytest_optcheck.errors import FOREIGN, one_line
from pytest_optcheck.handover import Handover
from pytest_optcheck.jitter import RoundingJitter
from pytest_optcheck.laws import Laws
from pytest_optcheck.laws.base import moved, values
from pytest_optcheck.routes.base import rows_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from pytest_optcheck.conditions import Conditions
    from pytest_optcheck.specs import Factory
    from pytest_optcheck.workloads.base import Workload


PAST_THE_END = 20
"""Times that schedulers are stepped after the last update: many a schedule is wrong beyond its end."""


def train(factory: Factory, workload: Workload, conditions: Conditions) -> Run:
    """Train `workload` once and keep what happened.

    An exception from building or stepping the optimizer, and a NaN or an Inf, end the training and are kept
    as the run's failure with their step. The caller's global settings and random streams are as before.

    Args:
        factory: makes the optimizer, with the settings of the route (see `routes.base.Route.settings`).
        workload: the reference model.
        conditions: everything else.
    """
    with (
        deterministic(conditions.device),
        warnings.catch_warnings(),
        process_group(needed=conditions.needs.process_group),
    ):
        warnings.simplefilter("ignore")  # of the optimizer's: a training is made dozens of times
        return Training(factory, workload, conditions).run()


class Training(Handover):
    """The state of one training; exists for the length of one `run`, and is what a route may alter.

    Attributes:
        steps: updates to make.
        effective: updates with a gradient, by tensor name.
        laws: what is watched.
        clocks: where the seconds went.
    """

    def __init__(self, factory: Factory, workload: Workload, conditions: Conditions) -> None:
        """Draw the parameters; the optimizer is built by `run`."""
        super().__init__(factory, workload, conditions)
        self.steps = conditions.updates(workload)
        self.effective: Counter[str] = Counter()
        self.laws = Laws(self.steps, watch=conditions.watch)
        self.norm_steps = frozenset(norm_steps(self.steps))
        self.jitter = None
        if conditions.jitter is not None:
            dtype, device = getattr(torch, conditions.dtype), torch.device(conditions.device)
            self.jitter = RoundingJitter(conditions.jitter, dtype, device, conditions.ulps)
        self.losses: list[float] = []
        self.norms: dict[str, dict[int, float]] = {name: {} for name in self.problem.parameters}
        self.rates: list[tuple[float, ...]] = []
        self.clocks = Clocks()

    @property
    def closure_needed(self) -> bool:
        """Whether ``step`` is given a closure."""
        return self.conditions.needs.closure or self.conditions.needs.evaluated or self.route.closure

    def run(self) -> Run:
        """Train from the first update to the last."""
        started = time.perf_counter()
        failure = self._train()
        train_s = time.perf_counter() - started
        if failure is None and self.conditions.watch:
            self.laws.end(self)
        return Run(
            dtype=self.conditions.dtype,
            device=self.conditions.device,
            losses=tuple(self.losses),
            norms=self.norms,
            failure=failure,
            route=self.conditions.route,
            broken=self.laws.broken,
            rates=_by_group(self.rates),
            step_s=self.clocks.step_s,
            model_s=self.clocks.model_s,
            train_s=train_s,
        )

    def extra_update(self) -> str | None:
        """One more update with the last batch; what it raised, or None."""
        failure = self._update(self.steps - 1)
        self.losses.pop()
        return failure.message if failure is not None and failure.kind == "raised" else None

    def _train(self) -> Failure | None:
        self.freeze()
        try:
            self.build()
        except FOREIGN as error:  # foreign code: anything may come out of it, and it is recorded
            return Failure(0, "raised", one_line(error))
        self._keep_rates()
        for step in range(self.steps):
            failure = self._whole_update(step) or self._look(step + 1)
            if failure:
                return failure
        try:
            failure = self._keep(self._final_loss(), self.steps)
        except FOREIGN as error:  # an optimizer may switch to evaluation first
            return Failure(self.steps, "raised", one_line(error))
        self._past_the_end()
        return failure

    def _whole_update(self, step: int) -> Failure | None:
        """Everything from one loss to the next: joins, update, schedulers, laws, what the route does after."""
        try:
            if self.updates and self.updates in (*self.joins.values(), *self.problem.workload.joins.values()):
                self.join(self.updates)
            failure = self._update(step)
            if failure is not None:
                return failure
            self.schedules.step(self.losses[-1])
            self._keep_rates()
            self.route.after(self)
        except FOREIGN as error:  # see _train
            return Failure(step + 1, "raised", one_line(error))
        return None

    def _update(self, step: int) -> Failure | None:
        """One update; the loss before it is kept."""
        before: list[float] = []
        present: set[str] = set()

        def closure() -> Tensor:
            with self.clocks.model():
                self.route.clear(self)
                loss = self.route.backward(self, step)
            self.route.gradients(self)
            present.update(self._prepare_gradients())
            before.append(float(loss))
            return loss

        failure = None
        needs = self.conditions.needs
        try:
            if needs.evaluated:
                loss = closure()
                self._step(lambda: loss)
            elif self.closure_needed:
                if needs.primed:
                    closure()
                self._step(closure)
            else:
                closure()
                self._step()
        except FOREIGN as error:  # see _train
            failure = Failure(step + 1, "raised", one_line(error))
        self.effective.update(present)
        if before:
            return self._keep(before[0], step) or failure
        return failure or Failure(step + 1, "raised", "step(closure) never called the closure")

    def _prepare_gradients(self) -> Iterator[str]:
        """Make the gradients what the optimizer needs; names of the tensors that have one."""
        for name, tensor in self.tensors.items():
            if tensor.grad is None:
                continue
            if self.jitter is not None:
                self.jitter.gradient(tensor.grad)
            if self.conditions.needs.sparse and tensor.dim():
                tensor.grad = rows_only(tensor.grad)
            yield name

    def _step(self, *closure: Callable[[], Tensor]) -> None:
        snapshot = self.laws.before(self)
        with self.clocks.step(), self.jitter or contextlib.nullcontext(), self.scaled_rates():
            self.route.step(self, *closure)
        self.updates += 1
        if snapshot is not None:
            self.laws.after(self, snapshot)

    def _final_loss(self) -> float:
        if not self.switches:
            return self.problem.final_loss()
        before = values(self)
        self.optimizer.eval()
        self.route.follow(self)
        loss = self.problem.final_loss()
        self.optimizer.train()
        name = moved(self, before)
        if name is not None:
            self.laws.breaks("switch_exact", f"eval() and train() moved {name}")
        return loss

    def _keep_rates(self) -> None:
        if self.schedules.schedulers:
            self.rates.append(schedules.current(self.optimizer))

    def _past_the_end(self) -> None:
        """Step the schedulers on, as a training does that is longer than it was planned."""
        for _ in range(PAST_THE_END if self.schedules.schedulers else 0):
            try:
                self.schedules.step(self.losses[-1])
            except FOREIGN:  # a schedule may refuse to go on; where it does is kept by its length
                return
            self._keep_rates()

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


def _by_group(rates: list[tuple[float, ...]]) -> tuple[tuple[float, ...], ...]:
    """Group after group; zero while a group is not there yet."""
    groups = max(map(len, rates), default=0)
    return tuple(zip(*[(*now, *[0.0] * (groups - len(now))) for now in rates], strict=True))
