from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from pytest_optcheck.curves import (
    EPS,
    PLAIN,
    SCALE_FLOOR,
    Dtype,
    Needs,
    Run,
    curve_steps,
    deviation,
    norm_steps,
    restart_update,
    route_steps,
    same,
)

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_eps_is_the_gap_after_one(dtype: Dtype) -> None:
    assert EPS[dtype] == float(np.finfo(dtype).eps)


@pytest.mark.parametrize("steps", [1, 5, 15, 16])
def test_a_short_curve_keeps_every_step(steps: int) -> None:
    assert curve_steps(steps) == tuple(range(steps + 1))


@pytest.mark.parametrize("steps", [17, 18, 40, 80, 100, 1000, 123_457])
def test_a_long_curve_keeps_its_first_17_steps_and_its_last(steps: int) -> None:
    kept = curve_steps(steps)
    assert kept[:17] == tuple(range(17))
    assert kept[-1] == steps
    assert list(kept) == sorted(set(kept))


def test_a_long_curve_keeps_about_48_log_spaced_steps() -> None:
    kept = curve_steps(100_000)
    assert len(kept) == 17 + 48
    ratios = [later / earlier for earlier, later in pairwise(kept[16:])]
    expected = (100_000 / 16) ** (1 / 48)
    assert all(ratio == pytest.approx(expected, rel=0.05) for ratio in ratios)


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        (0, ()),
        (1, (1,)),
        (2, (1, 2)),
        (3, (1, 2, 3)),
        (4, (1, 2, 3, 4)),
        (5, (1, 2, 3, 4, 5)),
        (8, (1, 2, 3, 4, 6, 8)),
        (30, (1, 2, 3, 4, 6, 8, 12, 16, 24, 30)),
        (64, (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)),
    ],
)
def test_norms_are_kept_at_powers_of_two_at_the_half_way_between_and_at_the_end(
    steps: int, kept: tuple[int, ...]
) -> None:
    assert norm_steps(steps) == kept


@pytest.mark.parametrize(("steps", "update"), [(1, 1), (2, 1), (3, 1), (6, 3), (30, 15), (60, 30)])
def test_a_restart_comes_in_mid_run(steps: int, update: int) -> None:
    assert restart_update(steps) == update


@pytest.mark.parametrize("steps", [3, 17, 40, 80, 150, 1000, 12_345])
def test_the_loss_after_the_update_after_a_restart_is_kept_wherever_there_is_one(steps: int) -> None:
    restart = restart_update(steps)
    assert steps / 3 - 1 < restart <= steps / 2
    assert restart + 1 in curve_steps(steps)
    assert {restart, restart + 1} & set(curve_steps(steps)) <= set(route_steps(steps))


@pytest.mark.parametrize("steps", [1, 2, 8, 60, 1000])
def test_a_route_keeps_start_end_restart_and_the_steps_of_the_norms_as_far_as_a_curve_does(steps: int) -> None:
    kept = route_steps(steps)
    assert list(kept) == sorted(set(kept))
    assert {0, steps, restart_update(steps), *norm_steps(steps)} & set(curve_steps(steps)) <= set(kept)
    assert set(kept) <= set(curve_steps(steps))
    assert kept[-1] == steps
    assert len(kept) <= len(norm_steps(steps)) + 3


@pytest.mark.parametrize(
    ("value", "reference", "largest", "expected"),
    [
        (2.0, 2.0, 2.0, 0.0),
        (3.0, 2.0, 2.0, 0.5),
        (1.0, 2.0, 2.0, 0.5),
        (1.0, -2.0, 2.0, 1.5),
        (-2.5, -2.0, 2.0, 0.25),
        (1.5, 1.0, 100.0, 0.5),  # relative to the value, not to the curve
    ],
)
def test_a_deviation_is_relative_to_the_reference(
    value: float, reference: float, largest: float, expected: float
) -> None:
    assert deviation(value, reference, largest) == expected


def test_rounding_noise_is_measured_by_the_floor_of_the_curve() -> None:
    assert deviation(3e-20, 1e-20, 1.0) == pytest.approx(2e-20 / SCALE_FLOOR)


def test_a_value_just_above_the_floor_is_its_own_scale() -> None:
    above = 2.0 * SCALE_FLOOR
    assert deviation(2.0 * above, above, 1.0) == 1.0


def test_a_reference_of_zeros_is_compared_absolutely() -> None:
    assert deviation(0.25, 0.0, 0.0) == 0.25


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("reference", [0.0, 1.0])
def test_what_is_not_finite_is_infinitely_far(value: float, reference: float) -> None:
    assert deviation(value, reference, 1e300) == INF


def test_a_run_cannot_be_changed_afterwards() -> None:
    run = Run("float64", "cpu", (1.0,))
    with pytest.raises(FrozenInstanceError):
        run.losses = ()  # type: ignore[misc] # the point of the test


def test_two_runs_do_not_share_their_norms() -> None:
    assert Run("float64", "cpu", ()).norms is not Run("float64", "cpu", ()).norms


def test_a_run_is_plain_keeps_the_laws_and_has_no_schedule_unless_it_says_otherwise() -> None:
    run = Run("float64", "cpu", ())
    assert (run.route, run.broken, run.rates) == (PLAIN, {}, ())


def test_an_optimizer_in_textbook_form_needs_nothing() -> None:
    assert msgspec.to_builtins(Needs()) == {}
    assert not any(getattr(Needs(), name) for name in Needs.__struct_fields__ if name != "first")
    assert Needs().first == "params"


def test_two_runs_are_the_same_bit_for_bit_a_nan_included() -> None:
    run = Run("float64", "cpu", (1.0, NAN), {"a": {1: NAN}})
    assert same(run, Run("float64", "cpu", (1.0, NAN), {"a": {1: NAN}}))
    assert not same(run, Run("float64", "cpu", (1.0, NAN), {"a": {1: 0.0}}))
    assert not same(run, Run("float64", "cpu", (1.0 + EPS["float64"], NAN), run.norms))
    assert not same(Run("float64", "cpu", (0.0,)), Run("float64", "cpu", (-0.0,)))
