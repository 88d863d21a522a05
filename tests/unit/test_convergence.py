from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from interpreter import imported

from pytest_optcheck.convergence import (
    BLOW_UP,
    CONFIRM,
    DIVERGENCE,
    ENDPOINTS,
    FLOOR,
    NAMES,
    SCREEN,
    SEEDS,
    Answer,
    Call,
    Kind,
    Pairs,
    hits,
    interval,
    kind,
    log_ratios,
    settle,
    worst,
)
from pytest_optcheck.ensembles.figures import Member

if TYPE_CHECKING:
    from collections.abc import Sequence

OLD = {"final_loss": 0.1, "steps_to_target": 40.0, "held_out_loss": 0.2, "area": 0.4, "accuracy": 0.9}
NOISE = np.concatenate(
    [drawn - drawn.mean() for drawn in np.split(np.random.RandomState(1).uniform(-1.0, 1.0, SEEDS), [SCREEN])]
)
"""Of mean zero in the screen and in its confirmation."""


DIVERGED = Member(ended=3, losses=[1.0])


def member(first: float = 1.0, **metrics: float) -> Member:
    """A run; what is not given is as in `OLD`."""
    found = {**OLD, **metrics}
    return Member(found, target=0.15, losses=[first, found["final_loss"]])


def runs(noise: float = 0.0, **changes: float) -> list[Member]:
    """All seeds, each metric changed by this share give or take the noise."""
    return [
        member(**{name: OLD[name] * (1.0 + change + noise * float(drawn)) for name, change in changes.items()})
        for drawn in NOISE
    ]


def settled(new: Sequence[Member], old: Sequence[Member] | None = None, **extra: float) -> Answer:
    """The answer where these are trained again."""
    return settle(old or runs(), lambda seeds: [new[seed] for seed in seeds], **extra)


def test_equal_runs_are_a_change_within_the_margin_and_need_the_screen_alone() -> None:
    asked: list[int] = []

    def again(seeds: Sequence[int]) -> list[Member]:
        asked.extend(seeds)
        return [runs()[seed] for seed in seeds]

    found = settle(runs(), again)
    assert asked == list(range(SCREEN))
    assert (found.kind, found.pairs, found.fresh) == ("changed", SCREEN, 0)
    assert {effect.call for effect in found.effects.values()} == {"within the margin"}
    assert all((effect.change, effect.low, effect.high) == (0.0, 0.0, 0.0) for effect in found.effects.values())


@pytest.mark.parametrize("metric", [endpoint.metric for endpoint in ENDPOINTS])
@pytest.mark.parametrize(("change", "expected", "call"), [(0.03, "regression", "worse"), (-0.03, "improved", "better")])
def test_three_percent_more_of_anything_is_worse_and_less_is_better(
    metric: str, change: float, expected: Kind, call: Call
) -> None:
    found = settled(runs(0.005, **{metric: change}))
    effect = found.effects[metric]
    assert (found.kind, found.pairs, found.fresh, effect.call, effect.pairs) == (
        expected,
        SEEDS,
        CONFIRM,
        call,
        SEEDS,
    )
    assert effect.low < change < effect.high
    assert effect.change == pytest.approx(change, abs=0.002)
    assert effect.p < 1e-4
    others = [effect for name, effect in found.effects.items() if name != metric]
    assert {other.call for other in others} == {"within the margin"}


def test_a_significant_difference_inside_the_margin_is_none() -> None:
    """Float64 against float32 differs by 3e-7, and significantly."""
    found = settled(runs(1e-7, final_loss=0.005))
    assert (found.kind, found.pairs) == ("changed", SCREEN)
    effect = found.effects["final_loss"]
    assert effect.call == "within the margin"
    assert 0.005 - 1e-6 < effect.low < effect.high < 0.005 + 1e-6
    assert effect.p < 0.01


@pytest.mark.parametrize(("margin", "expected"), [(0.01, "regression"), (0.05, "changed")])
def test_the_margin_can_be_chosen(margin: float, expected: Kind) -> None:
    found = settled(runs(0.005, final_loss=0.03), margin=margin)
    assert (found.kind, found.margin) == (expected, margin)


def test_the_margin_is_that_of_what_got_better_too() -> None:
    assert settled(runs(0.005, final_loss=-0.03), margin=0.05).kind == "changed"


def test_what_scatters_too_much_cannot_be_told() -> None:
    found = settled(runs(0.8, final_loss=0.03))
    assert (found.kind, found.pairs, found.effects["final_loss"].call) == ("changed", SCREEN, "cannot tell")


def test_a_hit_that_fresh_seeds_do_not_confirm_is_none() -> None:
    """Chance found it in the screen; the seeds of the screen have no say in its confirmation."""
    new = runs(0.005, final_loss=0.2)[:SCREEN] + runs(0.005, final_loss=0.0)[SCREEN:]
    found = settled(new)
    assert (found.kind, found.pairs) == ("changed", SEEDS)
    assert found.effects["final_loss"].call in ("within the margin", "cannot tell")


def test_a_hit_that_fresh_seeds_find_the_other_way_round_is_none() -> None:
    new = runs(0.005, final_loss=0.1)[:SCREEN] + runs(0.005, final_loss=-0.1)[SCREEN:]
    assert settled(new).kind == "changed"


def test_what_fresh_seeds_alone_find_is_none() -> None:
    """Something else brought the confirmation about."""
    new = [
        member(steps_to_target=50.0, final_loss=0.1 if number < SCREEN else 0.05 + 1e-4 * number)
        for number in range(SEEDS)
    ]
    found = settled(new)
    assert found.kind == "regression"
    assert [found.effects[name].call for name in ("steps_to_target", "final_loss")] == ["worse", "cannot tell"]


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ({}, "changed"),
        ({"final_loss": "cannot tell", "area": "within the margin"}, "changed"),
        ({"final_loss": "worse"}, "regression"),
        ({"steps_to_target": "worse"}, "regression"),
        ({DIVERGENCE: "worse"}, "regression"),
        ({"held_out_loss": "worse"}, "regression"),
        ({"area": "worse"}, "regression"),
        ({"final_loss": "better"}, "improved"),
        ({"area": "better"}, "improved"),
        ({DIVERGENCE: "better"}, "improved"),
        ({"final_loss": "worse", "steps_to_target": "better"}, "regression"),
        ({"final_loss": "better", DIVERGENCE: "worse"}, "regression"),
        ({"final_loss": "better", "held_out_loss": "worse"}, "changed"),
        ({"area": "worse", "steps_to_target": "better"}, "changed"),
    ],
)
def test_what_a_change_is_called(calls: dict[str, Call], expected: Kind) -> None:
    assert kind({**dict.fromkeys(NAMES, "within the margin"), **calls}) == expected


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (("improved",), "improved"),
        (("improved", "changed"), "changed"),
        (("regression", "improved", "changed"), "regression"),
    ],
)
def test_the_worst_answer_counts(kinds: tuple[Kind, ...], expected: Kind) -> None:
    assert worst(kinds) == expected


def test_runs_that_all_diverge_are_a_regression_though_no_loss_can_be_compared() -> None:
    found = settled([DIVERGED] * SEEDS)
    assert (found.kind, found.effects[DIVERGENCE].call) == ("regression", "worse")
    assert (found.effects[DIVERGENCE].change, found.effects[DIVERGENCE].pairs) == (1.0, SEEDS)
    assert (found.effects["final_loss"].call, found.effects["final_loss"].pairs) == ("cannot tell", 0)
    assert found.points == {}


def test_runs_that_no_longer_diverge_are_an_improvement() -> None:
    assert settled(runs(), old=[DIVERGED] * SEEDS).kind == "improved"


def test_a_run_or_two_that_diverge_decide_nothing_and_leave_the_others_to_compare() -> None:
    new = [DIVERGED, *runs(0.005, final_loss=0.03)[1:]]
    found = settled(new)
    assert found.effects[DIVERGENCE].call == "cannot tell"
    assert found.effects[DIVERGENCE].change == pytest.approx(1 / SEEDS)
    assert (found.kind, found.effects["final_loss"].pairs) == ("regression", SEEDS - 1)


def test_the_survivors_of_many_divergences_are_not_compared() -> None:
    new = [DIVERGED if number % 4 else member(final_loss=0.2) for number in range(SEEDS)]
    found = settled(new)
    assert (found.kind, found.effects["final_loss"].pairs) == ("regression", 0)


@pytest.mark.parametrize(("final", "diverges"), [(BLOW_UP * 2.1, True), (BLOW_UP * 1.9, False)])
def test_a_last_loss_far_above_the_first_counts_as_divergence(final: float, diverges: bool) -> None:
    found = settled([member(first=2.0, final_loss=final)] * SEEDS)
    assert (found.effects[DIVERGENCE].call == "worse") == diverges


def pairs_of(before: float, after: float, first: float = 1.0, metric: str = "final_loss") -> Pairs:
    """A pair that differs in one metric."""
    return [(member(first=first, **{metric: before}), member(first=first, **{metric: after}))]


@pytest.mark.parametrize(
    ("before", "after", "first", "expected"),
    [
        (0.1, 0.2, 1.0, [math.log(2.0)]),
        (0.1, 0.2, -1.0, [math.log(2.0)]),
        (1e-12, 1e-9, 1.0, [0.0]),
        (0.0, 2e-6, 1.0, [math.log(2e-6 / FLOOR)]),
        (0.0, 1e-3, 0.0, []),
        (-0.1, 0.2, -1.0, []),
    ],
)
def test_losses_are_compared_by_their_ratio_above_the_floor(
    before: float, after: float, first: float, expected: list[float]
) -> None:
    assert log_ratios("final_loss", pairs_of(before, after, first)) == pytest.approx(expected)


@pytest.mark.parametrize(("before", "after", "expected"), [(40.0, 44.0, math.log(1.1)), (0.0, 0.5, 0.0)])
def test_steps_are_compared_by_their_ratio_above_one(before: float, after: float, expected: float) -> None:
    assert log_ratios("steps_to_target", pairs_of(before, after, metric="steps_to_target")) == [pytest.approx(expected)]


def test_what_one_side_does_not_know_is_not_compared() -> None:
    old, new = (Member({"final_loss": 0.1, **extra}, losses=[1.0]) for extra in ({"held_out_loss": 0.2}, {}))
    assert log_ratios("held_out_loss", [(old, new)]) == []
    assert log_ratios("area", [(old, new)]) == []
    found = settled([new] * SEEDS, old=[old] * SEEDS)
    assert (found.kind, found.effects["held_out_loss"].pairs) == ("changed", 0)


def test_points_are_the_mean_difference_over_the_pairs_that_were_trained() -> None:
    found = settled([member(accuracy=0.9 - 0.001 * seed) for seed in range(SEEDS)])
    assert found.points == {"accuracy": pytest.approx(-0.0035)}


@pytest.mark.parametrize("spread", [0.0, 1e-16, 1e-9])
def test_differences_that_are_nearly_equal_are_decided_without_a_warning(spread: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert settled(runs(spread, final_loss=0.03)).kind == "regression"
        assert settled(runs(spread, final_loss=0.009)).kind == "changed"


def test_a_screen_and_its_confirmation_have_levels_of_their_own() -> None:
    pairs = list(zip(runs(), runs(0.02, final_loss=0.03), strict=True))
    ((name, (direction, p)),) = hits(pairs[:SCREEN], 0.01, 0.01).items()
    assert (name, direction) == ("final_loss", "worse")
    assert 1e-9 < p < 0.01
    assert hits(pairs[:SCREEN], 0.01, 1e-9) == {}


def test_the_interval_is_students() -> None:
    reach = 4.302652729911275 * 0.01 / math.sqrt(3)  # the 97.5 % quantile with 2 degrees of freedom
    assert list(interval([0.01, 0.02, 0.03])) == pytest.approx([0.02 - reach, 0.02 + reach])
    assert interval([0.02, 0.02]) == (0.02, 0.02)


@pytest.mark.parametrize("spread", [0.001, 0.05, 1.0])
def test_reruns_that_differ_by_chance_alone_are_never_called_better_or_worse(spread: float) -> None:
    """Skewed and heavy-tailed on purpose: of rounding, some seeds take another way and most do not."""
    random = np.random.RandomState(7)
    for _ in range(15):
        drawn: Any = np.exp(spread * random.standard_t(3, (SEEDS, 2)) * random.binomial(1, 0.4, (SEEDS, 1)))
        old, new = ([member(final_loss=0.1 * x, area=0.4 * x) for x in side] for side in drawn.T.tolist())
        assert settled(new, old).kind == "changed"


def test_the_statistics_import_neither_torch_nor_scipy() -> None:
    assert imported("pytest_optcheck.convergence", "torch", "numpy", "scipy", "pytest") == []
