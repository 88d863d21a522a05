from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch
from test_training import BOWL, halved_every_two, sgd
from toys import Descent, TwoGroups

from pytest_optcheck.conditions import Conditions
from pytest_optcheck.curves import Needs, restart_update
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor


class KeepsGroups(Descent):
    """Leaves its parameter groups where the test finds them."""

    built: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, params: Iterable[Any], **settings: object) -> None:
        super().__init__(params)
        for group in self.param_groups:
            group.update(settings)
        type(self).built = self.param_groups


def test_a_frozen_tensor_is_not_handed_to_the_optimizer() -> None:
    train(KeepsGroups, TwoGroups(), Conditions(needs=Needs(frozen=("matrix",), one_group=True)))
    assert [tuple(p.shape) for p in KeepsGroups.built[0]["params"]] == [(3,)]


class KeepsRates(KeepsGroups):
    """Leaves the learning rates of every update where the test finds them."""

    seen: ClassVar[list[list[float]]] = []

    def step(self) -> None:
        if not self.updates:
            self.seen.clear()
        self.seen.append([group["lr"] for group in self.param_groups])
        super().step()


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_the_learning_rate_factor_multiplies_every_group_around_each_update(factor: float) -> None:
    train(KeepsRates, TwoGroups(), Conditions(lr_factor=factor))
    assert KeepsRates.seen == [[0.1 * factor, 0.05 * factor]] * BOWL.steps
    assert [group["lr"] for group in KeepsRates.built] == [0.1, 0.05]


def test_a_scheduler_knows_nothing_of_the_learning_rate_factor() -> None:
    scaled = train(halved_every_two, BOWL, Conditions(lr_factor=2.0))
    assert scaled.rates == train(halved_every_two, BOWL, Conditions()).rates
    assert scaled.losses == train(lambda p: halved_every_two(p, 0.2), BOWL, Conditions()).losses


class Joining(TwoGroups):
    """The bowl whose second tensor is handed over after three updates."""

    name = "bowl_joining"
    joins: ClassVar[Mapping[str, int]] = {"matrix": 3}


@pytest.mark.parametrize(
    "needs",
    [Needs(), Needs(one_group=True), Needs(first="named")],
    ids=["groups", "one_group", "named"],
)
def test_a_tensor_that_joins_late_is_frozen_until_then_and_trained_from_then_on(needs: Needs) -> None:
    run = train(sgd, Joining(), Conditions(needs=needs, watch=True))
    initial = float(BOWL.problem(torch.float64).parameters["matrix"].detach().norm())
    norms = run.norms["matrix"]
    assert [norms[update] == initial for update in (1, 2, 3, 4)] == [True, True, True, False]
    assert norms[4] != norms[6]
    assert run.broken == {}


def test_a_tensor_that_joins_right_after_the_restart_joins_once() -> None:
    assert restart_update(Joining.steps) == Joining.joins["matrix"]
    resumed = train(torch.optim.SGD, Joining(), Conditions(route="resume"))
    assert resumed.failure is None
    assert resumed.losses == train(torch.optim.SGD, Joining(), Conditions()).losses


@pytest.mark.parametrize("one_group", [False, True])
def test_a_tensor_that_the_optimizer_refuses_never_joins(one_group: bool) -> None:
    handed: list[Tensor] = []

    class Keeps(torch.optim.SGD):
        def add_param_group(self, param_group: dict[str, Any]) -> None:
            super().add_param_group(param_group)
            handed.extend(param_group["params"])

    run = train(Keeps, Joining(), Conditions(needs=Needs(one_group=one_group, frozen=("matrix",))))
    assert [tuple(tensor.shape) for tensor in handed] == [(3,)]
    assert len(set(run.norms["matrix"].values())) == 1


def test_the_learning_rate_of_a_group_that_is_not_there_yet_is_zero() -> None:
    first, second = train(halved_every_two, Joining(), Conditions()).rates
    assert len(first) == len(second) == Joining.steps + 21
    assert [rate == 0.0 for rate in second[:6]] == [True, True, True, True, False, False]
    assert all(first)


def test_a_learning_rate_factor_is_another_learning_rate() -> None:
    scaled = train(Descent, BOWL, Conditions(lr_factor=2.0))
    assert scaled.losses == train(lambda p: Descent(p, 0.2), BOWL, Conditions()).losses


def test_a_later_group_gets_settings_of_its_own() -> None:
    def factory(params: Iterable[Any]) -> KeepsGroups:
        return KeepsGroups(params, weight_decay=0.1, betas=(0.9, 0.99), eps=1e-8)

    train(factory, TwoGroups(), Conditions())
    first, second = KeepsGroups.built
    assert {key: first[key] for key in first if key != "params"} == {
        "lr": 0.1,
        "weight_decay": 0.1,
        "betas": (0.9, 0.99),
        "eps": 1e-8,
    }
    assert (second["lr"], second["weight_decay"], second["eps"]) == (0.05, 0.2, 1e-8)
    assert second["betas"] == pytest.approx((0.855, 0.9405))
    assert [tuple(p.shape) for group in (first, second) for p in group["params"]] == [(3,), (2, 2)]


def test_settings_that_a_group_lacks_are_not_invented() -> None:
    class Bare(KeepsGroups):
        def __init__(self, params: Iterable[Any]) -> None:
            super().__init__(params)
            for group in self.param_groups:
                del group["lr"]

        def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
            """Stay."""

        def step(self) -> None:
            """Stay."""

    assert train(Bare, TwoGroups(), Conditions()).failure is None
    assert [list(group) for group in Bare.built] == [["params"], ["params"]]


def test_one_group_is_handed_over_as_a_list_of_tensors() -> None:
    handed: list[list[Any]] = []

    def factory(params: Iterable[Any]) -> Descent:
        handed.append(list(params))
        return Descent(handed[-1])

    train(factory, BOWL, Conditions())
    train(factory, TwoGroups(), Conditions(needs=Needs(one_group=True)))
    train(factory, TwoGroups(), Conditions())
    assert [isinstance(items[0], dict) for items in handed] == [False, False, True]
    assert [len(items) for items in handed] == [2, 2, 2]
