"""From a factory and the reference model's tensors to an optimizer: groups, and what its constructor takes first."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from inspect import Parameter
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from pytest_optcheck import routes, schedules
from pytest_optcheck.errors import FOREIGN
from pytest_optcheck.routes.base import Group
from pytest_optcheck.specs import TextSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_optcheck.curves import Needs
    from pytest_optcheck.schedules import Attach
    from pytest_optcheck.specs import Factory, OptimizerSpec
    from pytest_optcheck.workloads.base import Workload


MATRIX_DIM = 2
"""Dimensions from which on a tensor counts as a matrix for optimizers that treat those otherwise."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """A spec's optimizer with the settings of a route, and its schedulers; call it with parameters.

    Attributes:
        factory: of the optimizer.
        attach: builds the schedulers of an optimizer.
        settings: to be set in every group once the optimizer is built, where its constructor is not ours to call.
    """

    factory: Factory
    attach: Attach
    settings: Mapping[str, Any]

    def __call__(self, params: Iterable[Any]) -> Any:  # noqa: ANN401 - optimizers are what behaves like one
        """Build the optimizer."""
        built = self.factory(params)
        optimizer, _ = schedules.split(built)
        for settings in (*optimizer.param_groups, optimizer.defaults) if self.settings else ():
            settings.update(copy.deepcopy(dict(self.settings)))  # an optimizer, or a scheduler, may write into them
        return built


def plain(spec: OptimizerSpec) -> Assembly:
    """How `spec` is built as it stands.

    Raises:
        OptcheckError: it cannot be built at all.
    """
    return Assembly(spec.factory(), spec.schedules(), {})


def assemble(spec: OptimizerSpec, route: str) -> Assembly | None:
    """How `spec` is built on `route`; None where its constructor has not what the route needs.

    Raises:
        OptcheckError: as `plain`.
    """
    found = routes.load(route)
    if isinstance(spec, TextSpec):
        accepted = {**(spec.accepts() or {}), **dict(spec.keywords)}
        settings = found.settings({name: value for name, value in accepted.items() if value is not Parameter.empty})
        if settings is None:
            return None
        return Assembly(spec.with_settings(**settings).factory(), spec.schedules(), {})
    settings = found.settings(getattr(sample(spec), "defaults", {}))
    if settings is None or settings.get("differentiable"):  # a constructor must know before it sees such tensors
        return None
    return Assembly(spec.factory(), spec.schedules(), settings)


def sample(spec: OptimizerSpec) -> Any:  # noqa: ANN401 - optimizers are what behaves like one
    """The optimizer on one small matrix, to look at; None where it cannot be built so.

    Raises:
        OptcheckError: as `plain`.
    """
    factory = spec.factory()
    try:
        return schedules.split(factory([nn.Parameter(torch.zeros(2, 2))]))[0]
    except FOREIGN:  # foreign code; what it needs is found by trying elsewhere
        return None


def plan(workload: Workload, names: Sequence[str], needs: Needs) -> list[Group]:
    """The groups of the reference model over `names`; a single one where the optimizer needs that."""
    if needs.one_group or needs.first != "params":
        groups = [Group(tuple(names), 0)]
    else:
        groups = [Group(tuple(group), origin) for origin, group in enumerate(workload.groups(list(names)))]
    if not needs.flag:
        return groups
    shapes = workload.tensor_shapes
    halves = [
        Group(
            tuple(name for name in group.names if (len(shapes[name]) >= MATRIX_DIM) is flagged), group.origin, flagged
        )
        for group in groups
        for flagged in (True, False)
    ]
    return [half for half in halves if half.names]


def build(factory: Factory, tensors: Mapping[str, Tensor], groups: Sequence[Group], needs: Needs) -> Any:  # noqa: ANN401 - optimizers are what behaves like one
    """Call the factory with what it takes.

    Args:
        factory: of the optimizer, or of a pair (optimizer, schedulers).
        tensors: by name.
        groups: over those names; one of them where `needs` says so.
        needs: of the optimizer.
    """
    if needs.first == "module":
        module: Any = _module({name: tensors[name] for group in groups for name in group.names})
        return factory(module)
    if needs.first == "named":
        return factory([(name, tensors[name]) for group in groups for name in group.names])
    if len(groups) == 1 and not needs.grouped and not needs.flag:
        return factory([tensors[name] for name in groups[0].names])
    return factory([parameter_group(group, tensors, needs) for group in groups])


def parameter_group(group: Group, tensors: Mapping[str, Tensor], needs: Needs) -> dict[str, Any]:
    """`group` as ``add_param_group`` takes it."""
    flags = {needs.flag: group.flagged} if needs.flag else {}
    return {"params": [tensors[name] for name in group.names], **flags}


def first_argument(spec: OptimizerSpec) -> Literal["params", "module"]:
    """What the constructor calls its first parameter: a module, or whatever else.

    Raises:
        OptcheckError: the spec cannot be built at all.
    """
    spec.factory()
    name = spec.first_parameter() if isinstance(spec, TextSpec) else None
    return "module" if name in ("model", "module") else "params"


def _module(tensors: Mapping[str, Tensor]) -> nn.Module:
    """A module whose ``named_parameters`` are `tensors`."""
    root = nn.Module()
    for name, tensor in tensors.items():  # names may be those of methods, which register_parameter refuses
        root._parameters[name] = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor)  # noqa: SLF001 - ditto
    return root


def alter(group: dict[str, Any], *, rates: bool) -> None:
    """Give a later parameter group settings of its own, so that what one group lends another shows.

    Args:
        group: of the optimizer.
        rates: whether its learning rate too is ours to alter.
    """
    if rates and "lr" in group and group["lr"] is not None:
        group["lr"] = group["lr"] * 0.5
    if group.get("weight_decay"):
        group["weight_decay"] *= 2.0
    if isinstance(group.get("betas"), tuple):
        group["betas"] = tuple(beta * 0.95 if isinstance(beta, float) else beta for beta in group["betas"])
