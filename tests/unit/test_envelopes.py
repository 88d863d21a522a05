from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from recordings import NarrowInside, Overturns, recorded, verdict
from toys import Descent

from pytest_optcheck.curves import EPS
from pytest_optcheck.envelopes import rounded_up, with_envelope

if TYPE_CHECKING:
    from pytest_optcheck.curves import Dtype
    from pytest_optcheck.format import Golden


@pytest.fixture(scope="module")
def plain() -> Golden:
    """Gradient descent on the bowl."""
    return recorded(Descent)


BLIND = 1e30  # stored in place of an infinite envelope


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
    return [p.envelope for p in with_envelope(reference, [calm, storm], list(reference))]


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
    rounded = rounded_up(value)
    assert value <= rounded <= 1.12 * value
    assert len(f"{rounded:e}".partition("e")[0].rstrip("0")) <= 3
