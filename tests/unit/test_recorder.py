from __future__ import annotations

import datetime as dt
import math
import operator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import pytest
import torch
from toys import Bowl, Descent, TwoGroups, toy

from pytest_optcheck import judge, recorder
from pytest_optcheck.curves import EPS, Needs, Run, curve_steps, restart_update, route_steps
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.goldens import SCHEMA, Curve, Departure, Golden, decode, encode
from pytest_optcheck.recorder import Recording, record
from pytest_optcheck.training import Conditions, train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from torch import Tensor

    from pytest_optcheck.curves import Dtype
    from pytest_optcheck.workloads.base import Tensors

BLIND = 1e30  # stored in place of an infinite envelope

Fields: TypeAlias = Any
"""Fields of a recording, or of the conditions of a training."""

BOWL = Bowl()


class NarrowInside(Descent):
    """Computes its update in bfloat16."""

    def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        parameter.add_(gradient.bfloat16().to(parameter.dtype), alpha=-lr)


class Unrepeatable(Descent):
    """Is never the same twice, although the random streams are."""

    built = 0

    def __init__(self, params: Iterable[Any]) -> None:
        type(self).built += 1
        super().__init__(params, lr=0.1 + 0.001 * type(self).built)


class Explodes(Descent):
    """Writes a number into the first tensor at its third update."""

    number = math.inf

    def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        super().update(parameter, gradient, lr)
        if self.updates == 3:
            parameter.fill_(self.number)


class TurnsNan(Explodes):
    number = math.nan


class RaisesLate(Descent):
    def step(self) -> None:
        super().step()
        if self.updates == 8:
            raise RuntimeError("cannot go on")


class NoRate(Descent):
    def __init__(self, params: Iterable[Any]) -> None:
        super().__init__(params)
        for group in self.param_groups:
            del group["lr"]

    def step(self) -> None:
        with torch.no_grad():
            for parameter in self.parameters:
                assert parameter.grad is not None
                parameter.sub_(0.1 * parameter.grad)


class IgnoresRate(Descent):
    def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        del lr
        super().update(parameter, gradient, 0.1)


class OnlyFloat32(Descent):
    def __init__(self, params: Iterable[Any]) -> None:
        super().__init__(params)
        if any(parameter.dtype != torch.float32 for parameter in self.parameters):
            raise TypeError("float32 only")


class RaisesInFloat32(Descent):
    def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        if parameter.dtype == torch.float32:
            raise TypeError("no float32")
        super().update(parameter, gradient, lr)


class Overturns(Descent):
    """Holds a decision that one ulp hardly ever overturns, and a storm always: 50 ulps beside its threshold."""

    def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        rounded = (torch.ones(256, dtype=parameter.dtype) * 1.0).min()
        threshold = 1.0 - 50.0 * torch.finfo(parameter.dtype).eps
        super().update(parameter, gradient, lr if float(rounded) > threshold else 0.9 * lr)


class Ten(Bowl):
    name = "ten"
    steps = 10


class Forgets(torch.optim.SGD):
    """Heavy-ball momentum whose buffers a loaded state dict does not bring back."""

    def __init__(self, params: Iterable[Any]) -> None:
        super().__init__(params, lr=0.1, momentum=0.9)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "state": {}})


class Remembers(Forgets):
    """The mended one."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        torch.optim.SGD.load_state_dict(self, state_dict)


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


def recorded(build: Callable[[Iterable[Any]], Any], workload: Bowl = BOWL, **what: Fields) -> Golden:
    return record(Recording(toy(build), workload, **what))


def verdict(
    build: Callable[[Iterable[Any]], Any],
    golden: Golden,
    workload: Bowl = BOWL,
    **conditions: Fields,
) -> judge.Verdict:
    run = train(build, workload, Conditions(needs=golden.needs, **conditions))
    return judge.judge(run, golden, judge.Policy())


@pytest.fixture(scope="module")
def plain() -> Golden:
    """Gradient descent on the bowl."""
    return recorded(Descent, reason="because")


def test_a_golden_tells_what_was_recorded(plain: Golden) -> None:
    assert (plain.schema, plain.spec) == (SCHEMA, "toy")
    assert (plain.workload.name, plain.workload.digest, plain.workload.steps) == ("bowl", BOWL.digest, 6)
    assert (plain.needs, plain.stochastic) == (Needs(), False)
    assert (plain.recorded.reason, plain.recorded.device) == ("because", "cpu")
    assert plain.recorded.torch == torch.__version__
    assert dt.datetime.fromisoformat(plain.recorded.when).tzinfo is not None


def test_a_golden_can_be_stored(plain: Golden, tmp_path: Path) -> None:
    assert decode(encode(plain), tmp_path) == plain


def test_a_golden_holds_both_dtypes(plain: Golden) -> None:
    assert list(plain.curves) == ["float64", "float32"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_golden_holds_the_curve_of_a_training_without_jitter(plain: Golden, dtype: Dtype) -> None:
    run = train(Descent, BOWL, Conditions(dtype))
    curve = plain.curves[dtype]
    assert {point.step: point.value for point in curve.losses} == dict(enumerate(run.losses))
    assert {name: {p.step: p.value for p in points} for name, points in curve.norms.items()} == run.norms


def test_a_long_curve_is_kept_at_the_curve_steps() -> None:
    class Long(Bowl):
        name = "long"
        steps = 80

    curve = recorded(Descent, Long()).curves["float64"]
    kept = tuple(point.step for point in curve.losses)
    assert kept == curve_steps(80)
    assert len(kept) < 81


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_envelope_never_shrinks(plain: Golden, dtype: Dtype) -> None:
    curve = plain.curves[dtype]
    for points in (curve.losses, *curve.norms.values()):
        assert all(later.envelope >= earlier.envelope for earlier, later in pairwise(points))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_envelope_of_a_tame_training_is_of_the_size_of_rounding(plain: Golden, dtype: Dtype) -> None:
    last = plain.curves[dtype].losses[-1].envelope
    assert 0.0 < last < 100 * EPS[dtype]


def test_an_envelope_knows_what_is_narrow_inside(plain: Golden) -> None:
    narrow = recorded(NarrowInside).curves["float64"]
    assert narrow.losses[-1].envelope > 1e5 * plain.curves["float64"].losses[-1].envelope


@pytest.mark.parametrize("build", [Descent, NarrowInside, Overturns])
def test_every_jittered_training_matches(build: type[Descent]) -> None:
    golden = recorded(build)
    kinds = {verdict(build, golden, jitter=seed, dtype=d).kind for seed in range(100, 110) for d in golden.curves}
    assert kinds == {"match"}


def test_a_decision_that_only_the_storm_overturns_is_in_the_envelope() -> None:
    last = recorded(Overturns).curves["float64"].losses[-1]
    assert last.envelope > 1e-3


def test_the_horizon_is_the_first_step_whose_envelope_passes_a_thousandth(plain: Golden) -> None:
    assert plain.curves["float64"].horizon is None
    wide = recorded(Overturns).curves["float64"]
    assert wide.horizon == next(point.step for point in wide.losses if point.envelope > 1e-3)


def points(reference: dict[int, float], calm: list[dict[int, float]], storm: list[dict[int, float]]) -> list[float]:
    return [p.envelope for p in recorder._points(reference, [calm, storm], list(reference))]  # noqa: SLF001 - the one formula behind every envelope


def test_a_proportional_answer_to_the_storm_leaves_the_calm_envelope() -> None:
    (found,) = points({1: 1.0}, [{1: 1.0}, {1: 1.0 + 2.0**-30}], [{1: 1.0 - 2.0**-22}])
    assert 2.0**-30 <= found < 1.2 * 2.0**-30


def test_a_disproportionate_answer_to_the_storm_is_the_envelope() -> None:
    (found,) = points({1: 1.0}, [{1: 1.0 + 2.0**-30}], [{1: 1.0}, {1: 1.0 - 2.0**-18}])
    assert 2.0**-18 <= found < 1.2 * 2.0**-18


def test_an_envelope_that_shrank_is_held_at_its_largest() -> None:
    first, second = points({1: 1.0, 2: 1.0}, [{1: 1.5, 2: 1.0}], [{1: 1.0, 2: 1.0}])
    assert first == second >= 0.5


@pytest.mark.parametrize("gone", [{1: math.nan}, {1: math.inf}, {}])
def test_a_jittered_run_that_ended_makes_the_envelope_blind(gone: dict[int, float]) -> None:
    (found,) = points({1: 1.0}, [{1: 1.0}, gone], [{1: 1.0}])
    assert BLIND <= found < math.inf


def test_an_envelope_is_relative_to_the_largest_value_where_the_curve_has_vanished() -> None:
    _, found = points({1: 1.0, 2: 0.0}, [{1: 1.0, 2: 1e-20}], [{1: 1.0, 2: 1e-20}])
    assert found == pytest.approx(1e-12, rel=0.1)


@pytest.mark.parametrize("value", [1.0, 1.04e-16, 9.99e-5, 123456.0, 2.0**-52])
def test_rounding_up_never_rounds_down_nor_far(value: float) -> None:
    rounded = recorder._rounded_up(value)  # noqa: SLF001 - a promise that is easy to break
    assert value <= rounded <= 1.12 * value
    assert len(f"{rounded:e}".partition("e")[0].rstrip("0")) <= 3


def test_an_optimizer_that_repeats_itself_is_not_stochastic(plain: Golden) -> None:
    assert not plain.stochastic


def test_a_seeded_random_optimizer_is_not_stochastic() -> None:
    class Draws(Descent):
        def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
            parameter.sub_(lr * gradient * torch.rand_like(gradient))

    assert not recorded(Draws).stochastic


def test_an_optimizer_that_differs_from_itself_is_recorded_as_stochastic() -> None:
    assert recorded(Unrepeatable).stochastic


@pytest.mark.parametrize(("build", "word"), [(Explodes, "inf"), (TurnsNan, "nan")])
def test_leaving_the_finite_numbers_undeclared_is_refused(build: type[Explodes], word: str) -> None:
    with pytest.raises(OptcheckError) as caught:
        recorded(build)
    assert str(caught.value) == (
        f"not recorded: toy on bowl in float64: the norm of vector is {word} after update 3; if that is meant, "
        "declare it (ini optcheck_diverging, or diverges=True in the marker)"
    )


@pytest.mark.parametrize("build", [Explodes, TurnsNan])
def test_a_declared_divergence_is_stored_with_its_window(build: type[Explodes]) -> None:
    golden = recorded(build, diverges=True)
    for curve in golden.curves.values():
        assert curve.diverges == (3, 3)
        assert [point.step for point in curve.losses] == [0, 1, 2]
        assert [point.step for point in curve.norms["vector"]] == [1, 2]


@pytest.mark.parametrize("build", [Explodes, TurnsNan])
def test_a_declared_divergence_that_repeats_itself_is_not_stochastic(build: type[Explodes]) -> None:
    """Although NaN differs from NaN."""
    assert not recorded(build, diverges=True).stochastic


@pytest.mark.parametrize("build", [Explodes, TurnsNan])
def test_a_declared_divergence_matches_itself_and_nothing_that_stays_finite(build: type[Explodes]) -> None:
    golden = recorded(build, diverges=True)
    assert verdict(build, golden).kind == "match"
    assert verdict(Descent, golden).kind == "changed"


def test_a_divergence_that_rounding_moves_matches_wherever_rounding_took_it() -> None:
    class Wavers(Descent):
        """Jitter decides whether it leaves the finite numbers at its third or at its fourth update."""

        def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
            drawn = float((torch.ones(2, dtype=parameter.dtype) * 1.0)[0])
            super().update(parameter, gradient, lr)
            if self.updates == (3 if drawn > 1.0 else 4):
                parameter.fill_(math.inf)

    golden = recorded(Wavers, diverges=True)
    assert golden.curves["float64"].diverges == (3, 4)
    runs = [train(Wavers, BOWL, Conditions(jitter=seed)) for seed in range(100, 110)]
    assert {run.failure.step for run in runs if run.failure} == {3, 4}
    assert {judge.judge(run, golden, judge.Policy()).kind for run in runs} == {"match"}


def test_a_declaration_that_is_not_needed_does_no_harm(plain: Golden) -> None:
    golden = recorded(Descent, diverges=True)
    assert golden.curves == plain.curves


def test_a_training_that_starts_beyond_the_finite_numbers_is_refused() -> None:
    class Abyss(Bowl):
        name = "abyss"

        def loss(self, params: Tensors, batch: Tensors) -> Tensor:
            return super().loss(params, batch) * math.inf

    with pytest.raises(OptcheckError) as caught:
        recorded(Descent, Abyss(), diverges=True)
    assert str(caught.value) == "not recorded: toy on abyss in float64: there is no finite loss to record"


def test_an_exception_is_refused_though_a_divergence_was_declared() -> None:
    with pytest.raises(OptcheckError) as caught:
        recorded(RaisesLate, Ten(), diverges=True)
    assert str(caught.value) == ("not recorded: toy on ten in float64: update 8 raised RuntimeError: cannot go on")


def test_an_optimizer_that_trains_nothing_is_refused() -> None:
    with pytest.raises(OptcheckError, match="toy does not train bowl: "):
        recorded(lambda params: math.sqrt(-len(list(params))))


@pytest.mark.parametrize("build", [Descent, lambda params: torch.optim.Adam(params, lr=0.01), NarrowInside])
def test_the_golden_sees_its_resolution_and_not_a_hundredth_of_it(
    build: Callable[[Iterable[Any]], Any],
) -> None:
    golden = recorded(build)
    assert golden.resolution is not None
    assert verdict(build, golden, lr_factor=1.0 + golden.resolution).kind == "changed"
    assert verdict(build, golden, lr_factor=1.0 + golden.resolution / 100).kind == "match"


def test_the_resolution_of_a_tame_training_is_fine(plain: Golden) -> None:
    assert plain.resolution is not None
    assert 0.0 < plain.resolution < 1e-8


def test_the_resolution_is_confirmed_by_a_run(plain: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    """An estimate that is a thousand times too small is tried, not believed."""
    true = plain.resolution
    assert true is not None
    monkeypatch.setattr(recorder, "_estimate", lambda *_: true / 1000)
    found = recorder.resolution(Recording(toy(Descent), BOWL), plain, Conditions())
    assert found is not None
    assert 0.09 * true < found < 11 * true
    assert verdict(Descent, plain, lr_factor=1.0 + found).kind == "changed"


@pytest.mark.parametrize("build", [NoRate, IgnoresRate])
def test_an_optimizer_whose_learning_rate_does_nothing_has_no_resolution(build: type[Descent]) -> None:
    golden = recorded(build)
    assert golden.resolution is None
    assert len(golden.curves) == 2


def test_a_change_that_is_never_seen_ends_the_search(plain: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "judge", lambda *_: judge.Verdict("match"))
    assert recorder.resolution(Recording(toy(Descent), BOWL), plain, Conditions()) is None


def test_the_golden_of_an_optimizer_of_float32_holds_only_float32() -> None:
    golden = recorded(OnlyFloat32)
    assert list(golden.curves) == ["float32"]
    assert golden.resolution is not None
    assert 1e-8 < golden.resolution < 1e-3
    assert verdict(OnlyFloat32, golden, dtype="float32").kind == "match"


def test_an_optimizer_that_takes_float64_and_not_float32_is_refused_in_one_line() -> None:
    with pytest.raises(OptcheckError, match=r"^not recorded: toy on bowl in float32: update 1 raised TypeError: "):
        recorded(RaisesInFloat32)


def test_needs_are_kept_and_used() -> None:
    golden = recorded(lambda params: torch.optim.LBFGS(params, lr=0.1, max_iter=2), TwoGroups())
    assert golden.needs == Needs(closure=True, one_group=True)
    assert len(golden.curves["float64"].losses) == BOWL.steps + 1


def test_a_frozen_tensor_is_guarded_at_its_place() -> None:
    golden = recorded(lambda params: torch.optim.Muon(params, lr=0.1))
    assert golden.needs == Needs(frozen=("vector",))
    norms = golden.curves["float64"].norms["vector"]
    assert len({point.value for point in norms}) == 1
    assert {point.envelope for point in norms} == {0.0}


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


def test_without_routes_none_is_measured(plain: Golden) -> None:
    assert (plain.routes, plain.broken, plain.rates, plain.optional) == ({}, {}, [], ())


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


def test_a_law_that_is_broken_at_record_time_is_kept_and_not_held_against_it() -> None:
    class Writes(Descent):
        def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
            super().update(parameter, gradient, lr)
            gradient.zero_()

    golden = recorded(Writes)
    assert golden.broken == {"plain": {"gradients_untouched": "update 1 changed the gradient of vector"}}
    assert verdict(Writes, golden, watch=True).kind == "match"


def test_a_law_that_is_newly_broken_is_lost(plain: Golden) -> None:
    class Writes(Descent):
        def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
            super().update(parameter, gradient, lr)
            gradient.zero_()

    found = verdict(Writes, plain, watch=True)
    assert (found.kind, found.note) == ("lost", "law gradients_untouched: update 1 changed the gradient of vector")


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
    more = recorder.with_routes(Recording(toy(Remembers), BOWL, routes=("resume", "closure")), forgetful)
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


def scheduled(params: Iterable[Any], every: int = 2) -> tuple[Any, list[Any]]:
    optimizer = torch.optim.SGD(params, lr=0.1)
    return optimizer, [torch.optim.lr_scheduler.StepLR(optimizer, every, 0.5)]


def test_the_learning_rates_of_a_schedule_are_kept_and_compared() -> None:
    golden = recorded(scheduled)
    assert golden.rates == [[0.1 * 0.5 ** (updates // 2) for updates in range(BOWL.steps + 21)]]
    assert verdict(scheduled, golden).kind == "match"
    found = verdict(lambda params: scheduled(params, 3), golden)
    assert (found.kind, found.first_step) == ("changed", 3)
    assert found.note == "the learning rate of group 0 is 0.1 after 2 updates, the golden has 0.05"


def test_a_schedule_that_departs_beyond_the_last_update_only_is_seen() -> None:
    golden = recorded(lambda params: scheduled(params, BOWL.steps + 2))
    found = verdict(lambda params: scheduled(params, BOWL.steps + 3), golden)
    assert (found.kind, found.first_step, found.largest) == ("changed", None, 0.0)
    assert found.note == "the learning rate of group 0 is 0.1 after 8 updates, the golden has 0.05"


def test_a_schedule_is_measured_on_the_routes_that_leave_its_groups_as_they_are() -> None:
    golden = recorded(scheduled, routes=("resume", "split_groups", "deepcopy"))
    assert golden.routes == {"resume": "same", "deepcopy": "same"}


def test_a_planted_mistake_is_seen(plain: Golden) -> None:
    """A learning rate that is a millionth too high, on the last of six updates."""

    class Mistaken(Descent):
        def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
            super().update(parameter, gradient, lr * (1.0 + 1e-6 * (self.updates == 6)))

    found = verdict(Mistaken, plain)
    assert (found.kind, found.first_step) == ("changed", 6)


def test_a_harmless_rewrite_matches(plain: Golden) -> None:
    class Rewritten(Descent):
        def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
            parameter.copy_((parameter / lr - gradient) * lr)

    assert verdict(Rewritten, plain).kind == "match"
    run: Run = train(Rewritten, BOWL, Conditions())
    assert run.losses != train(Descent, BOWL, Conditions()).losses
