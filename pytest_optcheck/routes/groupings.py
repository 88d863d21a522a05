"""Routes on which the same tensors come in other groups, in another order, or later."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_optcheck.routes.base import BYSTANDER, Route

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from pytest_optcheck.curves import Needs
    from pytest_optcheck.routes.base import Group
    from pytest_optcheck.workloads.base import Problem, Workload


class _Grouping(Route):
    regroups = True

    def suits(self, workload: Workload, needs: Needs) -> bool:
        """Where there may be more than one group."""
        del workload
        return not needs.one_group and needs.first == "params"


class SplitGroups(_Grouping):
    """Every group in two, with the same settings."""

    def plan(self, groups: Sequence[Group], workload: Workload) -> list[Group]:
        """Odd and even tensors apart, so that shapes are mixed in both."""
        del workload
        halves = [replace(group, names=group.names[start::2]) for group in groups for start in (0, 1)]
        return [half for half in halves if half.names]


class AddGroupLate(_Grouping):
    """Tensors without a gradient so far join by ``add_param_group``."""

    def suits(self, workload: Workload, needs: Needs) -> bool:
        """Where the reference model has such tensors."""
        return (
            super().suits(workload, needs) and bool(self.joins(workload)) and not set(workload.idle) & set(needs.frozen)
        )

    def joins(self, workload: Workload) -> Mapping[str, int]:
        """When they get their first gradient."""
        return workload.idle


class Reordered(Route):
    """Every group backwards, behind a frozen tensor that must not move."""

    def suits(self, workload: Workload, needs: Needs) -> bool:
        """Where the order is ours to choose."""
        del workload
        return needs.first == "params"

    def tensors(self, problem: Problem) -> dict[str, Tensor]:
        """The parameters and a bystander."""
        first = next(iter(problem.parameters.values()))
        return {**problem.parameters, BYSTANDER: first.detach().new_ones(3, 2)}

    def plan(self, groups: Sequence[Group], workload: Workload) -> list[Group]:
        """Reversed, the bystander first."""
        del workload
        backwards = [replace(group, names=group.names[::-1]) for group in groups]
        return [replace(backwards[0], names=(BYSTANDER, *backwards[0].names)), *backwards[1:]]
