from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import torch
from recordings import BOWL, Forgets, Remembers, recorded, scheduled, verdict
from toys import Bowl, toy

from pytest_optcheck.curves import restart_update, route_steps
from pytest_optcheck.departures import with_routes
from pytest_optcheck.format import Curve, Departure, Golden
from pytest_optcheck.recorder import Recording

if TYPE_CHECKING:
    from collections.abc import Iterable


class ForgetsAndExplodes(Forgets):
    """Leaves the finite numbers after a load."""

    loaded = False

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.loaded = True

    def step(self) -> None:  # type: ignore[override] # no closure
        super().step()
        if self.loaded:
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(math.inf)


class CannotLoad(Forgets):
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        raise NotImplementedError(f"no load of {len(state_dict)} keys")


def departure(golden: Golden, route: str) -> Departure:
    found = golden.routes[route]
    assert isinstance(found, Departure)
    return found


def own_curve(golden: Golden, route: str) -> Curve:
    curve = departure(golden, route).curve
    assert curve is not None
    return curve


@pytest.fixture(scope="module")
def forgetful() -> Golden:
    """An optimizer that is right on the plain route and on copies, and wrong after a load."""
    return recorded(Forgets, routes=("deepcopy", "resume"))


def test_a_route_that_lands_on_the_plain_curve_is_the_same(forgetful: Golden) -> None:
    assert forgetful.routes["deepcopy"] == "same"
    assert list(forgetful.routes) == ["deepcopy", "resume"]


def test_a_route_that_departs_keeps_its_size_and_its_own_curve(forgetful: Golden) -> None:
    found = departure(forgetful, "resume")
    assert found.deviation is not None
    assert 1e-3 < found.deviation < 10.0
    assert found.refused == ""
    restart = restart_update(BOWL.steps)
    values = {point.step: point.value for point in own_curve(forgetful, "resume").losses}
    usual = {point.step: point.value for point in forgetful.curves["float64"].losses}
    assert [values[step] == usual[step] for step in (restart, restart + 1)] == [True, False]


def test_a_departing_route_is_guarded_at_its_own_curve(forgetful: Golden) -> None:
    assert {verdict(Forgets, forgetful, route="resume", jitter=seed).kind for seed in range(100, 105)} == {"match"}
    assert verdict(Remembers, forgetful).kind == "match"
    assert verdict(Remembers, forgetful, route="resume").kind == "changed"


def test_a_route_that_was_the_same_and_departs_is_a_change() -> None:
    golden = recorded(Remembers, routes=("resume",))
    assert golden.routes == {"resume": "same"}
    found = verdict(Forgets, golden, route="resume")
    assert (found.kind, found.first_step) == ("changed", restart_update(BOWL.steps) + 1)
    assert verdict(Forgets, golden).kind == "match"


def test_what_a_route_breaks_is_kept_under_its_name(forgetful: Golden) -> None:
    assert list(forgetful.broken) == ["resume"]
    assert list(forgetful.broken["resume"]) == ["state_kept"]


def test_a_route_that_raises_is_refused_in_its_own_words_and_has_no_curve() -> None:
    golden = recorded(CannotLoad, routes=("resume", "deepcopy"))
    assert golden.routes == {
        "resume": Departure(refused="NotImplementedError: no load of 2 keys"),
        "deepcopy": "same",
    }
    assert golden.reference("float64", "resume") is None


def test_a_route_that_leaves_the_finite_numbers_is_guarded_up_to_there() -> None:
    golden = recorded(ForgetsAndExplodes, routes=("resume",))
    found = departure(golden, "resume")
    assert found.deviation is None
    end = restart_update(BOWL.steps) + 1
    assert own_curve(golden, "resume").diverges == (end, end)
    assert verdict(ForgetsAndExplodes, golden, route="resume").kind == "match"
    assert verdict(Forgets, golden, route="resume").kind == "changed"


def test_a_route_in_fewer_bits_has_its_own_curve_though_it_lands_nearby() -> None:
    golden = recorded(lambda params: torch.optim.SGD(params, lr=0.125), routes=("mixed_dtypes",))
    assert own_curve(golden, "mixed_dtypes").losses
    assert (departure(golden, "mixed_dtypes").deviation or 1.0) < 1e-5


def test_a_route_that_the_optimizer_has_not_or_the_model_does_not_suit_is_left_out() -> None:
    golden = recorded(lambda params: torch.optim.SGD(params, lr=0.1), routes=("capturable", "channels_last", "foreach"))
    assert golden.routes == {"foreach": "same"}


def test_the_curve_of_a_route_is_thinned_for_the_reviewer() -> None:
    class Long(Bowl):
        name = "long_route"
        steps = 80

    curve = own_curve(recorded(Forgets, Long(), routes=("resume",)), "resume")
    assert tuple(point.step for point in curve.losses) == route_steps(80)
    assert [[point.step for point in points] for points in curve.norms.values()] == [[1, 80], [1, 80]]


def test_measuring_routes_anew_leaves_the_curves_and_the_other_routes_alone(forgetful: Golden) -> None:
    more = with_routes(Recording(toy(Remembers), BOWL, routes=("resume", "closure")), forgetful)
    assert list(more.routes) == ["deepcopy", "resume", "closure"]
    assert more.routes["resume"] == "same"
    assert more.broken == {}, "the law that the old resume broke is kept now"
    assert msgspec.structs.replace(more, routes=forgetful.routes, broken=forgetful.broken) == forgetful


def test_what_an_older_checkpoint_may_lack_is_found_by_leaving_it_out() -> None:
    golden = recorded(lambda params: torch.optim.Adam(params, lr=0.1), routes=("older_state",))
    assert golden.routes == {"older_state": "same"}
    assert {"step", "amsgrad", "maximize"} <= set(golden.optional)


def test_without_anything_to_leave_out_there_is_no_older_checkpoint() -> None:
    class Bare(torch.optim.Optimizer):
        def __init__(self, params: Iterable[Any]) -> None:
            super().__init__(params, {"lr": 0.1})

        @torch.no_grad()
        def step(self) -> None:  # type: ignore[override] # no closure
            for group in self.param_groups:
                for p in group["params"]:
                    count = self.state[p]["step"] = self.state[p].get("step", 0) + 1
                    p.sub_(p.grad * group["lr"] / operator.index(count))

    golden = recorded(Bare, routes=("older_state",))
    assert (golden.routes, golden.optional) == ({}, ())


def test_a_schedule_is_measured_on_the_routes_that_leave_its_groups_as_they_are() -> None:
    golden = recorded(scheduled, routes=("resume", "split_groups", "deepcopy"))
    assert golden.routes == {"resume": "same", "deepcopy": "same"}
