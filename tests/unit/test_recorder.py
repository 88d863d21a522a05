from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from recordings import BOWL, NarrowInside, recorded, scheduled, verdict
from toys import Bowl, Descent, TwoGroups, toy

from pytest_optcheck import judge, recorder
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.curves import Needs, Run, curve_steps
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.format import SCHEMA, Golden, decode, encode
from pytest_optcheck.recorder import Recording
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from torch import Tensor

    from pytest_optcheck.curves import Dtype
    from pytest_optcheck.workloads.base import Tensors


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


class Ten(Bowl):
    name = "ten"
    steps = 10


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


def test_without_routes_none_is_measured(plain: Golden) -> None:
    assert (plain.routes, plain.broken, plain.rates, plain.optional) == ({}, {}, [], ())


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
