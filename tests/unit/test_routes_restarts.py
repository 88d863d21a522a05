from __future__ import annotations

import copy
from typing import Any, ClassVar

import pytest
import torch
from route_mutants import SHAPES, Mixed, Rule
from torch import Tensor

from pytest_optcheck.conditions import Conditions
from pytest_optcheck.curves import Needs, restart_update
from pytest_optcheck.routes.base import BYSTANDER
from pytest_optcheck.training import Training, train

MIXED = Mixed()
RESTART = restart_update(MIXED.steps)
RESUMED = ["resume", "resume_float32_state", "older_state", "bfloat16"]
COPIED = ["deepcopy", "pickle"]


class Notes(Rule):
    """Keeps what it was loaded with, and its own settings just before."""

    loads: ClassVar[list[tuple[dict[str, Any], dict[str, Any]]]] = []

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loads.append((dict(self.param_groups[0]), copy.deepcopy(state_dict)))
        super().load_state_dict(state_dict)


@pytest.fixture(autouse=True)
def _no_loads() -> None:
    Notes.loads.clear()


def training(route: str, optimizer: Any = Notes, **conditions: Any) -> Training:  # noqa: ANN401 - see Training
    """A training that has been made."""
    made = Training(optimizer, MIXED, Conditions(route=route, **conditions))
    assert made.run().failure is None
    return made


def loaded(route: str, **conditions: Any) -> dict[str, Any]:  # noqa: ANN401 - of Conditions
    """The one state dict that was loaded."""
    training(route, **conditions)
    ((_, state),) = Notes.loads
    return state


@pytest.mark.parametrize("route", RESUMED)
def test_a_resumed_training_is_loaded_once_in_mid_run(route: str) -> None:
    counters = {float(kept["step"]) for kept in loaded(route)["state"].values()}
    assert counters == {RESTART, RESTART - MIXED.idle["late"]}


@pytest.mark.parametrize(("lr", "weight_decay"), [(0.05, 0.1), (1, 0), (torch.tensor(0.05), 0.0)])
def test_settings_are_disturbed_before_the_load_that_must_put_them_right(lr: Any, weight_decay: float) -> None:  # noqa: ANN401 - a number or a tensor
    made = training("resume", lambda params: Notes(params, lr=lr, weight_decay=weight_decay))
    ((before, _),) = Notes.loads
    assert before["lr"] == lr * 0.5 + 1e-3
    assert before["weight_decay"] == weight_decay * 0.5 + 1e-3
    (group,) = made.optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (lr, weight_decay)


def test_a_load_that_leaves_settings_as_they_are_departs() -> None:
    class KeepsGroups(Rule):
        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            kept = {key: value for key, value in self.param_groups[0].items() if key != "params"}
            super().load_state_dict(state_dict)
            self.param_groups[0].update(kept)

    plain, resumed = (train(KeepsGroups, MIXED, Conditions(route=route)) for route in ("plain", "resume"))
    assert resumed.losses[: RESTART + 1] == plain.losses[: RESTART + 1]
    assert resumed.losses[RESTART + 1] != pytest.approx(plain.losses[RESTART + 1], rel=1e-9)


def test_a_nan_in_the_state_is_not_a_change_of_it() -> None:
    class Marks(Rule):
        def moments(self, p: Tensor, state: dict[str, Any], gradient: Tensor) -> None:
            super().moments(p, state, gradient)
            state["unread"] = torch.full_like(p, torch.nan)

    assert training("resume", Marks).laws.broken == {}


def test_resumed_objects_are_fresh() -> None:
    built: list[Rule] = []

    def build(params: Any) -> Rule:  # noqa: ANN401 - see specs.Factory
        built.append(Rule(params))
        return built[-1]

    made = training("resume", build)
    first, second = built
    assert made.optimizer is second
    olds, news = (group["params"] for optimizer in built for group in optimizer.param_groups)
    assert all(old is not new and old.data_ptr() != new.data_ptr() for old, new in zip(olds, news, strict=True))
    assert all(new is made.problem.parameters[name] for name, new in zip(SHAPES, news, strict=True))
    assert first.param_groups[0]["lr"] == second.param_groups[0]["lr"]


def test_a_checkpoint_in_float32_narrows_floating_state() -> None:
    for kept in loaded("resume_float32_state")["state"].values():
        assert {key: value.dtype for key, value in kept.items()} == dict.fromkeys(kept, torch.float32)
    Notes.loads.clear()
    for kept in loaded("resume")["state"].values():
        assert {key: value.dtype for key, value in kept.items()} == dict.fromkeys(kept, torch.float64)


def test_an_older_checkpoint_lacks_the_optional_keys() -> None:
    state = loaded("older_state", optional=("maximize", "fused"))
    assert {"maximize", "fused"} & state["param_groups"][0].keys() == set()
    assert {"lr", "foreach", "params"} <= state["param_groups"][0].keys()
    assert all(isinstance(kept["step"], Tensor) for kept in state["state"].values())


def test_an_older_checkpoint_may_count_in_plain_numbers() -> None:
    state = loaded("older_state", optional=("step",))
    assert all(type(kept["step"]) is float for kept in state["state"].values())
    assert "maximize" in state["param_groups"][0]


def test_without_optional_keys_an_older_checkpoint_is_a_checkpoint() -> None:
    older = loaded("older_state")
    Notes.loads.clear()
    assert repr(older) == repr(loaded("resume"))


@pytest.mark.parametrize("route", COPIED)
def test_the_copies_go_on_and_the_originals_are_ruined(route: str) -> None:
    built: list[Rule] = []

    def build(params: Any) -> Rule:  # noqa: ANN401 - see specs.Factory
        built.append(Rule(params))
        return built[-1]

    made = training(route, build)
    assert made.optimizer is not built[0]
    copies = made.optimizer.param_groups[0]["params"]
    assert all(
        new is made.tensors[name] is made.problem.parameters[name] for name, new in zip(SHAPES, copies, strict=True)
    )
    for original in built[0].param_groups[0]["params"]:
        assert original.isnan().all()
        state = built[0].state[original]
        assert all(tensor.isnan().all() for key, tensor in state.items() if key != "step" and tensor.dim())


def test_a_tensor_joins_what_was_pickled_and_stays_where_it_is() -> None:
    made = training("pickle", watch=True)
    first, second = made.optimizer.param_groups
    assert len(first["params"]) == len(SHAPES)
    assert second["params"] == [made.tensors[BYSTANDER]]
    assert torch.equal(made.tensors[BYSTANDER], torch.ones(3, 2, dtype=torch.float64))
    assert made.laws.broken == {}


class DecaysJoined(Rule):
    """Decays whatever joined, with or without a gradient."""

    def update(self, group: dict[str, Any]) -> None:
        super().update(group)
        for p in group["params"] if group is not self.param_groups[0] else ():
            p.mul_(0.9)


def test_a_bystander_that_moves_breaks_a_law() -> None:
    made = training("pickle", DecaysJoined, watch=True)
    assert made.laws.broken["no_gradient_no_move"] == f"update {RESTART + 1} moved bystander, which has no gradient"


@pytest.mark.parametrize("needs", [Needs(one_group=True), Needs(first="module")])
def test_nothing_joins_where_there_is_one_group(needs: Needs) -> None:
    def build(given: Any) -> Rule:  # noqa: ANN401 - see specs.Factory
        return Rule(given.parameters() if isinstance(given, torch.nn.Module) else given)

    assert len(training("pickle", build, needs=needs).optimizer.param_groups) == 1


def test_nothing_joins_a_schedule() -> None:
    def build(params: Any) -> Any:  # noqa: ANN401 - see specs.Factory
        optimizer = Rule(params)
        return optimizer, [torch.optim.lr_scheduler.StepLR(optimizer, 5)]

    made = training("pickle", build)
    assert len(made.optimizer.param_groups) == 1
    assert made.schedules.schedulers[0].optimizer is made.optimizer
    assert made.schedules.schedulers[0].last_epoch > MIXED.steps


@pytest.mark.parametrize("route", ["resume", *COPIED])
def test_schedules_go_on_where_they_were(route: str) -> None:
    def build(params: Any) -> Any:  # noqa: ANN401 - see specs.Factory
        optimizer = Rule(params)
        return optimizer, [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)]

    plain, restarted = (train(build, MIXED, Conditions(route=name)) for name in ("plain", route))
    assert restarted.failure is None
    assert restarted.rates == plain.rates
    assert restarted.losses == plain.losses


def test_a_copy_without_its_parameters_departs() -> None:
    class Stays(Rule):
        def __deepcopy__(self, memo: dict[int, Any]) -> Stays:
            return self

    plain, copied = (train(Stays, MIXED, Conditions(route=route)) for route in ("plain", "deepcopy"))
    assert copied.losses[RESTART + 1] != plain.losses[RESTART + 1]
