"""What a training holds and hands over: parameters, optimizer and schedulers, built, joined, renewed and replaced.

The route says on which tensors and in which groups; the reference model says which of them come late.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from pytest_optcheck import building, routes, schedules
from pytest_optcheck.building import Assembly
from pytest_optcheck.schedules import Schedules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from pytest_optcheck.conditions import Conditions
    from pytest_optcheck.routes.base import Group
    from pytest_optcheck.specs import Factory
    from pytest_optcheck.workloads.base import Problem, Workload


class Handover:
    """Parameters, and the optimizer they are handed over to.

    Attributes:
        conditions: as given.
        updates: updates made so far.
        route: alters what is handed over, and how it is trained.
        problem: the reference model's parameters and data.
        tensors: what the optimizer holds, by name: the model's parameters unless the route has others.
        optimizer: the optimizer.
        schedules: its schedulers.
        joins: tensor -> number of updates after which it is handed over by ``add_param_group``.
    """

    def __init__(self, factory: Factory, workload: Workload, conditions: Conditions) -> None:
        """Draw the parameters; the optimizer is made by `build`."""
        self.factory = factory
        self.conditions = conditions
        self.updates = 0
        self.route = routes.load(conditions.route)
        self.problem: Problem = workload.problem(getattr(torch, conditions.dtype), conditions.device)
        self.problem.create_graph = conditions.needs.create_graph
        self.tensors: dict[str, Tensor] = {}
        self.optimizer: Any = None
        self.schedules = Schedules()
        self.joins = dict(workload.joins if self.grouped else {}) | dict(self.route.joins(workload))

    @property
    def grouped(self) -> bool:
        """Whether the optimizer takes parameter groups."""
        return not self.conditions.needs.one_group and self.conditions.needs.first == "params"

    @property
    def switches(self) -> bool:
        """Whether the optimizer has a train and an eval mode, as schedule-free ones do."""
        return callable(getattr(self.optimizer, "train", None)) and callable(getattr(self.optimizer, "eval", None))

    def freeze(self) -> None:
        """Freeze what the optimizer refuses, and what joins later."""
        for name in (*self.conditions.needs.frozen, *self.problem.workload.joins):
            self.problem.parameters[name].requires_grad_(False)

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
        for updates in sorted({at for at in self.joins.values() if 0 < at < self.updates}):
            self.join(updates)
        if self.switches:
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

    def join(self, updates: int) -> None:
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
    def scaled_rates(self) -> Iterator[None]:
        """The learning rates that were asked for, during one update: a scheduler knows nothing of them."""
        factor = self.conditions.lr_factor
        groups = [group for group in getattr(self.optimizer, "param_groups", ()) if group.get("lr") is not None]
        kept = [group["lr"] for group in groups]
        for group in groups if factor != 1.0 else ():
            group["lr"] = group["lr"] * factor
        yield
        for group, lr in zip(groups, kept, strict=True) if factor != 1.0 else ():
            group["lr"] = lr


def _without(group: Group, names: list[str]) -> Group:
    """`group` without `names`."""
    return replace(group, names=tuple(name for name in group.names if name not in names))
