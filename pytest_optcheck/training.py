"""The one training loop: optimizer × reference model × route × dtype × device -> Run."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from pytest_optcheck import building, routes, schedules
from pytest_optcheck.building import Assembly
from pytest_optcheck.curves import PLAIN, Failure, Needs, Run, norm_steps
from pytest_optcheck.determinism import deterministic
from pytest_optcheck.errors import one_line
from pytest_optcheck.jitter import RoundingJitter
from pytest_optcheck.laws import Laws
from pytest_optcheck.routes.base import rows_only
from pytest_optcheck.schedules import Schedules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from pytest_optcheck.curves import Dtype
    from pytest_optcheck.routes.base import Group
    from pytest_optcheck.specs import Factory
    from pytest_optcheck.workloads.base import Problem, Workload


NOTHING = Needs()
"""An optimizer in textbook form: dense gradients, any number of groups, ``step()`` without arguments."""

PAST_THE_END = 20
"""Times that schedulers are stepped after the last update: many a schedule is wrong beyond its end."""


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
        route: one of `routes.NAMES`, or the plain one.
        watch: whether the laws are watched.
        optional: what the route ``older_state`` leaves out of a state dict.
    """

    dtype: Dtype = "float64"
    device: str = "cpu"
    needs: Needs = NOTHING
    steps: int | None = None
    lr_factor: float = 1.0
    jitter: int | None = None
    ulps: float = 1.0
    route: str = PLAIN
    watch: bool = False
    optional: tuple[str, ...] = ()

    def updates(self, workload: Workload) -> int:
        """How many updates are made."""
        return (self.needs.steps or workload.steps) if self.steps is None else self.steps


def train(factory: Factory, workload: Workload, conditions: Conditions) -> Run:
    """Train `workload` once and keep what happened.

    An exception from building or stepping the optimizer, and a NaN or an Inf, end the training and are kept
    as the run's failure with their step. The caller's global settings and random streams are as before.

    Args:
        factory: makes the optimizer, with the settings of the route (see `routes.base.Route.settings`).
        workload: the reference model.
        conditions: everything else.
    """
    with deterministic(conditions.device), warnings.catch_warnings(), _process_group(conditions.needs):
        warnings.simplefilter("ignore")  # of the optimizer's: a training is made dozens of times
        return Training(factory, workload, conditions).run()


class Training:
    """The state of one training; exists for the length of one `run`, and is what a route may alter.

    Attributes:
        conditions: as given.
        steps: updates to make.
        updates: updates made so far.
        effective: updates with a gradient, by tensor name.
        problem: the reference model's parameters and data.
        tensors: what the optimizer holds, by name: the model's parameters unless the route has others.
        optimizer: the optimizer.
        schedules: its schedulers.
        laws: what is watched.
    """

    def __init__(self, factory: Factory, workload: Workload, conditions: Conditions) -> None:
        """Draw the parameters; the optimizer is built by `run`."""
        self.factory = factory
        self.conditions = conditions
        self.steps = conditions.updates(workload)
        self.updates = 0
        self.effective: Counter[str] = Counter()
        self.route = routes.load(conditions.route)
        self.laws = Laws(self.steps, watch=conditions.watch)
        self.problem: Problem = workload.problem(getattr(torch, conditions.dtype), conditions.device)
        self.problem.create_graph = conditions.needs.create_graph
        self.tensors: dict[str, Tensor] = {}
        self.optimizer: Any = None
        self.schedules = Schedules()
        self.joins = dict(workload.joins if self.grouped else {}) | dict(self.route.joins(workload))
        self.norm_steps = frozenset(norm_steps(self.steps))
        self.jitter = None
        if conditions.jitter is not None:
            dtype, device = getattr(torch, conditions.dtype), torch.device(conditions.device)
            self.jitter = RoundingJitter(conditions.jitter, dtype, device, conditions.ulps)
        self.losses: list[float] = []
        self.norms: dict[str, dict[int, float]] = {name: {} for name in self.problem.parameters}
        self.rates: list[tuple[float, ...]] = []
        self.step_s = self.model_s = 0.0

    @property
    def grouped(self) -> bool:
        """Whether the optimizer takes parameter groups."""
        return not self.conditions.needs.one_group and self.conditions.needs.first == "params"

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
            step_s=self.step_s,
            model_s=self.model_s,
            train_s=train_s,
        )

    def build(self) -> None:
        """Make the optimizer and its schedulers anew, on tensors with the model's values."""
        self.tensors = self.route.tensors(self.problem)
        joining = set(self.problem.workload.joins) - set(self.conditions.needs.frozen)
        trained = [name for name, p in self.problem.parameters.items() if p.requires_grad or name in joining]
        whole = building.plan(self.problem.workload, trained, self.conditions.needs)
        present = [_without(group, [n for n, at in self.joins.items() if at > 0]) for group in whole]
        plan = self.route.plan([group for group in present if group.names], self.problem.workload)
        built = building.build(self.factory, self.tensors, plan, self.conditions.needs)
        self.optimizer, made = schedules.split(built)
        for name in ("zero_grad", "step"):
            if not callable(getattr(self.optimizer, name, None)):
                kind = type(self.optimizer).__name__
                raise TypeError(f"the factory made a {kind} without {name}(), not an optimizer")
        for group, settled in zip(plan, getattr(self.optimizer, "param_groups", ()), strict=False):
            if group.origin:
                building.alter(settled, rates=not made)
        attached = self.factory.attach(self.optimizer) if isinstance(self.factory, Assembly) else []
        self.schedules = Schedules((*made, *attached))
        for updates in sorted({at for at in self.joins.values() if 0 < at <= self.updates}):
            self._join(updates)
        if _switches(self.optimizer):
            self.optimizer.train()

    def renew(self) -> None:
        """Fresh parameters with the values of now, and a fresh optimizer on them."""
        self.problem.renew()
        self.build()

    def whole(self) -> dict[str, Any]:
        """Everything that a copy of this training's optimizer has to bring along."""
        return {"optimizer": self.optimizer, "schedules": self.schedules, "tensors": self.tensors}

    def replace(self, whole: dict[str, Any]) -> None:
        """Go on with another `whole`."""
        self.optimizer, self.schedules, self.tensors = whole["optimizer"], whole["schedules"], whole["tensors"]
        for name in self.problem.parameters:
            parameter = self.tensors[name]
            assert isinstance(parameter, torch.nn.Parameter)  # noqa: S101 - routes that copy have no tensors of their own
            self.problem.parameters[name] = parameter

    def extra_update(self) -> str | None:
        """One more update with the last batch; what it raised, or None."""
        failure = self._update(self.steps - 1)
        self.losses.pop()
        return failure.message if failure is not None and failure.kind == "raised" else None

    def _train(self) -> Failure | None:
        for name in self.conditions.needs.frozen:
            self.problem.parameters[name].requires_grad_(False)
        for name in self.problem.workload.joins:
            self.problem.parameters[name].requires_grad_(False)
        try:
            self.build()
        except Exception as error:  # noqa: BLE001 - foreign code: anything may come out of it, and it is recorded
            return Failure(0, "raised", one_line(error))
        self._keep_rates()
        for step in range(self.steps):
            failure = self._whole_update(step) or self._look(step + 1)
            if failure:
                return failure
        try:
            failure = self._keep(self._final_loss(), self.steps)
        except Exception as error:  # noqa: BLE001 - an optimizer may switch to evaluation first
            return Failure(self.steps, "raised", one_line(error))
        self._past_the_end()
        return failure

    def _whole_update(self, step: int) -> Failure | None:
        """Everything from one loss to the next: joins, update, schedulers, laws, what the route does after."""
        try:
            if self.updates and self.updates in (*self.joins.values(), *self.problem.workload.joins.values()):
                self._join(self.updates)
            failure = self._update(step)
            if failure is not None:
                return failure
            self.schedules.step(self.losses[-1])
            self._keep_rates()
            self.route.after(self)
        except Exception as error:  # noqa: BLE001 - see _train
            return Failure(step + 1, "raised", one_line(error))
        return None

    def _update(self, step: int) -> Failure | None:
        """One update; the loss before it is kept."""
        before: list[float] = []
        present: set[str] = set()

        def closure() -> Tensor:
            started = time.perf_counter()
            self.route.clear(self)
            loss = self.route.backward(self, step)
            self.model_s += time.perf_counter() - started
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
        except Exception as error:  # noqa: BLE001 - see _train
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
        model_s, started = self.model_s, time.perf_counter()
        try:
            with self.jitter or contextlib.nullcontext(), self._scaled_rates():
                self.route.step(self, *closure)
        finally:
            self.step_s += time.perf_counter() - started - (self.model_s - model_s)
        self.updates += 1
        if snapshot is not None:
            self.laws.after(self, snapshot)

    def _join(self, updates: int) -> None:
        """Hand over the tensors whose time has come."""
        due = [name for name, at in {**self.problem.workload.joins, **self.joins}.items() if at == updates]
        due = [name for name in due if name not in self.conditions.needs.frozen]
        for name in due:
            self.problem.parameters[name].requires_grad_()
            self.tensors[name].requires_grad_()
        for group in building.plan(self.problem.workload, list(self.problem.parameters), self.conditions.needs):
            names = [name for name in group.names if name in due and name in self.joins]
            if names:
                joining = replace(group, names=tuple(names))
                self.optimizer.add_param_group(building.parameter_group(joining, self.tensors, self.conditions.needs))
                if group.origin:
                    building.alter(self.optimizer.param_groups[-1], rates=not self.schedules.schedulers)

    @contextlib.contextmanager
    def _scaled_rates(self) -> Iterator[None]:
        """The learning rates that were asked for, during one update: a scheduler knows nothing of them."""
        factor = self.conditions.lr_factor
        groups = [group for group in getattr(self.optimizer, "param_groups", ()) if group.get("lr") is not None]
        kept = [group["lr"] for group in groups]
        for group in groups if factor != 1.0 else ():
            group["lr"] = group["lr"] * factor
        yield
        for group, lr in zip(groups, kept, strict=True) if factor != 1.0 else ():
            group["lr"] = lr

    def _final_loss(self) -> float:
        if not _switches(self.optimizer):
            return self.problem.final_loss()
        before = {name: tensor.detach().clone() for name, tensor in self.tensors.items()}
        self.optimizer.eval()
        self.route.follow(self)
        loss = self.problem.final_loss()
        self.optimizer.train()
        moved = next((name for name, old in before.items() if not torch.equal(self.tensors[name].detach(), old)), None)
        if moved is not None:
            self.laws.breaks("switch_exact", f"eval() and train() moved {moved}")
        return loss

    def _keep_rates(self) -> None:
        if self.schedules.schedulers:
            self.rates.append(schedules.current(self.optimizer))

    def _past_the_end(self) -> None:
        """Step the schedulers on, as a training does that is longer than it was planned."""
        for _ in range(PAST_THE_END if self.schedules.schedulers else 0):
            try:
                self.schedules.step(self.losses[-1])
            except Exception:  # noqa: BLE001 - a schedule may refuse to go on; where it does is kept by its length
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


@contextlib.contextmanager
def _process_group(needs: Needs) -> Iterator[None]:
    """A process group of this process alone, where one is needed and there is none."""
    distributed = torch.distributed
    if not needs.process_group or distributed.is_initialized():
        yield
        return
    store = distributed.HashStore()  # type: ignore[attr-defined] # torch exports it and does not say so
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _without(group: Group, names: list[str]) -> Group:
    """`group` without `names`."""
    return replace(group, names=tuple(name for name in group.names if name not in names))


def _by_group(rates: list[tuple[float, ...]]) -> tuple[tuple[float, ...], ...]:
    """Group after group; zero while a group is not there yet."""
    groups = max(map(len, rates), default=0)
    return tuple(zip(*[(*now, *[0.0] * (groups - len(now))) for now in rates], strict=True))


def _switches(optimizer: Any) -> bool:  # noqa: ANN401 - see Training
    """Whether the optimizer has a train and an eval mode, as schedule-free ones do."""
    return callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))
