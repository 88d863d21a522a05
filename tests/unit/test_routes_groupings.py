from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from route_mutants import SHAPES, Mixed, Rule
from torch import Tensor

from pytest_optcheck import routes
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.curves import Needs
from pytest_optcheck.routes.base import BYSTANDER, Group
from pytest_optcheck.training import Training

if TYPE_CHECKING:
    from collections.abc import Sequence


class TwoGroups(Mixed):
    """The conv alone in a second group."""

    name = "two_groups"

    def groups(self, names: Sequence[str]) -> list[list[str]]:
        """In order, without empty ones."""
        halves = [[n for n in names if n != "conv"], [n for n in names if n == "conv"]]
        return [half for half in halves if half]


MIXED, TWO = Mixed(), TwoGroups()


class Grows(Rule):
    """Keeps how many tensors its groups have at each update."""

    def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - see Rule
        self.sizes = [*getattr(self, "sizes", []), [len(group["params"]) for group in self.param_groups]]
        return super().step(closure)


def training(route: str, workload: Mixed = MIXED, **conditions: Any) -> Training:  # noqa: ANN401 - of Conditions
    """A training that has been made."""
    made = Training(Grows, workload, Conditions(route=route, **conditions))
    assert made.run().failure is None
    return made


def members(made: Training) -> list[list[str]]:
    """Names of the tensors in each group."""
    names = {id(tensor): name for name, tensor in made.tensors.items()}
    return [[names[id(p)] for p in group["params"]] for group in made.optimizer.param_groups]


def test_the_plain_route_has_the_groups_of_the_model() -> None:
    assert members(training("plain")) == [list(SHAPES)]
    assert members(training("plain", TWO)) == [["matrix", "scalar", "vector", "late"], ["conv"]]


def test_every_group_is_split_in_two() -> None:
    assert members(training("split_groups")) == [["matrix", "vector", "late"], ["scalar", "conv"]]
    assert members(training("split_groups", TWO)) == [["matrix", "vector"], ["scalar", "late"], ["conv"]]


def test_halves_keep_the_settings_of_their_group() -> None:
    plan = routes.load("split_groups").plan([Group(("a", "b", "c"), 0), Group(("d",), 1)], MIXED)
    assert plan == [Group(("a", "c"), 0), Group(("b",), 0), Group(("d",), 1)]
    rates = [group["lr"] for group in training("split_groups", TWO).optimizer.param_groups]
    assert rates == [rates[0], rates[0], rates[0] * 0.5]


def test_a_tensor_joins_when_it_gets_its_first_gradient() -> None:
    made = training("add_group_late")
    assert made.optimizer.sizes == [[4]] * 3 + [[4, 1]] * (MIXED.steps - 3)
    assert members(made)[1] == ["late"]


def test_a_tensor_that_joins_late_has_the_settings_of_its_group() -> None:
    class Idle(TwoGroups):
        idle = {"conv": 2}  # noqa: RUF012 - never written

    made = training("add_group_late", Idle())
    first, second = made.optimizer.param_groups
    assert members(made)[1] == ["conv"]
    assert second["lr"] == first["lr"] * 0.5


def test_every_group_is_reversed_behind_a_frozen_tensor() -> None:
    made = training("reordered", TWO)
    assert members(made) == [[BYSTANDER, "late", "vector", "scalar", "matrix"], ["conv"]]
    assert made.tensors[BYSTANDER].requires_grad is False
    assert made.tensors[BYSTANDER].grad is None
    assert torch.equal(made.tensors[BYSTANDER], torch.ones(3, 2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("route", "regroups"), [("split_groups", True), ("add_group_late", True), ("reordered", False)]
)
def test_routes_say_whether_a_schedule_is_another_one(route: str, regroups: bool) -> None:
    assert routes.load(route).regroups is regroups


class Joins(Mixed):
    """A model that hands a tensor over by itself."""

    joins = {"conv": 4}  # noqa: RUF012 - never written


def test_a_model_hands_tensors_over_when_it_says() -> None:
    made = training("plain", Joins())
    assert made.optimizer.sizes == [[4]] * 4 + [[4, 1]] * (MIXED.steps - 4)
    assert made.effective["conv"] == MIXED.steps - 4


def test_an_optimizer_of_one_group_holds_them_frozen_until_then() -> None:
    made = training("plain", Joins(), needs=Needs(one_group=True))
    assert made.optimizer.sizes == [[5]] * MIXED.steps
    assert made.effective["conv"] == MIXED.steps - 4


@pytest.mark.parametrize("needs", [Needs(), Needs(one_group=True)])
def test_a_tensor_that_is_handed_over_breaks_no_law(needs: Needs) -> None:
    assert training("plain", Joins(), watch=True, needs=needs).laws.broken == {}


def test_both_end_where_the_other_does() -> None:
    grouped, single = (training("plain", Joins(), needs=Needs(one_group=one)) for one in (False, True))
    assert single.losses == grouped.losses


@pytest.mark.parametrize("route", ["resume", "split_groups", "reordered"])
def test_a_model_hands_tensors_over_on_every_route(route: str) -> None:
    plain, other = training("plain", Joins()), training(route, Joins())
    assert other.losses == pytest.approx(plain.losses, rel=1e-13)


def test_moving_a_tensor_before_it_joins_is_moving_a_frozen_one() -> None:
    class DecaysAll(Rule):
        def members(self, group: dict[str, Any]) -> list[Tensor]:
            for p in group["params"]:
                if not p.requires_grad:
                    p.mul_(0.9)
            return super().members(group)

    made = Training(DecaysAll, Joins(), Conditions(watch=True, needs=Needs(one_group=True)))
    made.run()
    assert made.laws.broken == {"frozen_no_move": "update 1 moved conv, which is frozen"}
