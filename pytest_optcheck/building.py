"""From a factory and the reference model's tensors to an optimizer: groups, and what its constructor takes first."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import Parameter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pytest_optcheck import routes, schedules
from pytest_optcheck.routes.base import Group
from pytest_optcheck.specs import TextSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_optcheck.curves import Needs
    from pytest_optcheck.schedules import Attach
    from pytest_optcheck.specs import Factory, OptimizerSpec
    from pytest_optcheck.workloads.base import Workload


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
        for group in optimizer.param_groups if self.settings else ():
            group.update(self.settings)
        if self.settings:
            optimizer.defaults.update(self.settings)
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
    settings = found.settings(_defaults(spec.factory()))
    return None if settings is None else Assembly(spec.factory(), spec.schedules(), settings)


def _defaults(factory: Factory) -> Mapping[str, Any]:
    """What a Python factory's optimizer keeps as defaults of its groups; nothing where it cannot be built to look."""
    try:
        optimizer, _ = schedules.split(factory([nn.Parameter(torch.zeros(2, 2))]))
        return dict(optimizer.defaults)
    except Exception:  # noqa: BLE001 - foreign code; what it needs is found by trying elsewhere
        return {}


def plan(workload: Workload, names: Sequence[str], needs: Needs) -> list[Group]:
    """The groups of the reference model over `names`; a single one where the optimizer needs that."""
    if needs.one_group or needs.first != "params":
        return [Group(tuple(names), 0)]
    return [Group(tuple(group), origin) for origin, group in enumerate(workload.groups(list(names)))]


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
    members = [[tensors[name] for name in group.names] for group in groups]
    return factory(members[0] if len(members) == 1 else [{"params": tensors} for tensors in members])


def _module(tensors: Mapping[str, Tensor]) -> nn.Module:
    """A module whose parameters are `tensors`, a dot in a name opening a submodule."""
    root = nn.Module()
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_parameter(last, tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor))
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
