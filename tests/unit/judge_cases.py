"""What the judge has to answer, as one battery: given a judge module, which answers are wrong?

The battery takes the module as an argument, so that mutated copies of it can be put to the same questions.
"""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from msgspec import structs

from pytest_optcheck.curves import DTYPES, EPS, SCALE_FLOOR, Dtype, Failure, Needs, Run
from pytest_optcheck.format import SCHEMA, Curve, Departure, Golden, Point, Recorded, WorkloadId

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

NAN, INF = math.nan, math.inf
BLIND = 1e30  # what the recorder stores for an infinite envelope
WIDE = 2.0**-10  # an envelope whose margin, not the generous multiple, decides
FLOOR = 4 * EPS["float64"]
NARROW_TOLERANCE = 1000 * FLOOR  # of a point without a measured envelope


Judge: TypeAlias = Any  # a judge module, possibly a mutated one


class Case(NamedTuple):
    """One question to a judge module, and the right answer."""

    name: str
    ask: Callable[[Judge], object]
    answer: object


def complaints(judge: Judge) -> list[str]:
    """Names of the cases that `judge` answers wrongly or not at all."""
    return [case.name for case in CASES if not answers(judge, case)]


def answers(judge: Judge, case: Case) -> bool:
    """Whether `judge` answers this case rightly."""
    try:
        return bool(case.ask(judge) == case.answer)
    except Exception:  # noqa: BLE001 - a mutant may do anything
        return False


CURVE = Curve(
    losses=[Point(0, 4.0, 0.0), Point(1, -2.0, 0.0), Point(3, 1.0, WIDE), Point(4, 0.5, WIDE)],
    norms={"b": [Point(1, 2.0, 0.0), Point(4, 1.0, WIDE)], "a": [Point(1, 8.0, 0.0), Point(4, 16.0, WIDE)]},
)
DECOY = Curve(losses=[Point(0, 777.0, 0.0)], norms={"decoy": [Point(1, 777.0, 0.0)]})
"""In place of the curves that the judge should not look at."""

LOSSES = (4.0, -2.0, 99.0, 1.0, 0.5)  # 99: step 2 is not kept
NORMS: dict[str, dict[int, float]] = {"b": {1: 2.0, 4: 1.0}, "a": {1: 8.0, 2: 99.0, 4: 16.0}}
RUN = Run("float64", "cpu", LOSSES, NORMS)


def golden(curves: dict[Dtype, Curve] | None = None, **extra: Any) -> Golden:  # noqa: ANN401 - fields of a golden
    """A golden with these curves by dtype, and `extra` fields."""
    return Golden(
        schema=SCHEMA,
        spec="spec",
        workload=WorkloadId("toy", "digest", 4),
        recorded=Recorded(*[""] * len(Recorded.__struct_fields__)),
        needs=Needs(),
        stochastic=False,
        resolution=None,
        curves=curves or {"float64": CURVE},
        **extra,
    )


def _verdict(kind: str, note: object = "", **rest: object) -> dict[str, object]:
    """All of a verdict: final losses as in `RUN`, and nothing else found, unless `rest` tells otherwise."""
    nothing = dict.fromkeys(("first_step", "envelopes", "deviation", "tensor", "tensor_step"), None) | {
        "details": (),
        "cause": "",
    }
    found: dict[str, object] = {"largest": 0.0, "largest_step": 4, "final_old": 0.5, "final_new": 0.5}
    return {"kind": kind, "note": note, **nothing, **found, **rest}


def _out(step: int, deviation: float, envelope: float, tensor: str | None = None) -> dict[str, object]:
    """The part of a verdict on the first value that is outside."""
    first = {"first_step": step, "deviation": deviation, "envelopes": deviation / envelope}
    if tensor is None:
        return {**first, "largest": deviation, "largest_step": step}
    return {**first, "tensor": tensor, "tensor_step": step}


def _judged(
    name: str,
    run: Run,
    answer: Mapping[str, object],
    curve: Curve = CURVE,
    stored: Mapping[str, Any] | None = None,
    **policy: float,
) -> Case:
    """A run put before the judge; `answer` may leave out what does not matter, `stored` has more of the golden."""

    def ask(judge: Judge) -> object:
        curves = {dtype: curve if dtype == run.dtype else DECOY for dtype in DTYPES}
        found = asdict(judge.judge(run, golden(curves, **stored or {}), judge.Policy(**policy)))
        return {key: found[key] for key in answer}

    return Case(name, ask, answer)


def _with_losses(*losses: float, failure: Failure | None = None) -> Run:
    return replace(RUN, losses=losses, failure=failure)


def _with_loss(step: int, value: float) -> Run:
    return replace(RUN, losses=(*LOSSES[:step], value, *LOSSES[step + 1 :]))


def _with_norm(tensor: str, step: int, value: float) -> Run:
    return replace(RUN, norms={**NORMS, tensor: {**NORMS[tensor], step: value}})


def _without_norm(tensor: str, step: int) -> Run:
    return replace(RUN, norms={**NORMS, tensor: {at: norm for at, norm in NORMS[tensor].items() if at != step}})


def _failed(losses: Sequence[float], step: int, message: str = "the loss is nan") -> Run:
    """A run that left the finite numbers; it has the norms up to there."""
    norms = {name: {at: norm for at, norm in kept.items() if at < step} for name, kept in NORMS.items()}
    return Run("float64", "cpu", tuple(losses), norms, Failure(step, "non-finite", message))


def _raised(losses: Sequence[float], step: int) -> Run:
    return replace(_failed(losses, step), failure=Failure(step, "raised", "ValueError: no"))


INSIDE = [
    _judged("an_equal_run_matches", RUN, _verdict("match")),
    _judged(
        "a_loss_at_its_tolerance_matches",
        _with_loss(4, 0.5 * (1 + 10 * WIDE)),
        _verdict("match", largest=10 * WIDE, largest_step=4, final_new=0.5 * (1 + 10 * WIDE)),
    ),
    _judged(
        "a_loss_as_far_below_matches",
        _with_loss(3, 1 - 10 * WIDE),
        _verdict("match", largest=10 * WIDE, largest_step=3),
    ),
    _judged("a_norm_at_its_tolerance_matches", _with_norm("a", 4, 16.0 * (1 + 10 * WIDE)), _verdict("match")),
    _judged(
        "a_step_that_is_not_kept_is_not_compared",
        _with_loss(2, 98.0),
        _verdict("match"),
    ),
    _judged(
        "rounding_of_the_loss_itself_matches",
        _with_loss(0, 4.0 * (1 + NARROW_TOLERANCE)),
        _verdict("match", largest=NARROW_TOLERANCE, largest_step=0),
    ),
    _judged(
        "a_run_with_losses_beyond_the_golden_matches",
        _with_losses(*LOSSES, 77.0),
        _verdict("match", final_new=77.0),
    ),
    _judged(
        "a_tensor_the_golden_does_not_know_is_not_compared",
        replace(RUN, norms={**NORMS, "new": {1: 5.0}}),
        _verdict("match"),
    ),
]

OUTSIDE = [
    *[
        _judged(
            f"a_loss_beyond_its_tolerance_at_step_{step}_is_a_change",
            _with_loss(step, LOSSES[step] * (1 + beyond)),
            _verdict("changed", **_out(step, beyond, envelope)),
        )
        for step, beyond, envelope in ((0, 2.0**-39, FLOOR), (1, 2.0**-39, FLOOR), (3, 11 * WIDE, WIDE))
    ],
    _judged(
        "the_last_step_is_not_exempt",
        _with_loss(4, 0.5 * (1 + 11 * WIDE)),
        _verdict("changed", **_out(4, 11 * WIDE, WIDE), final_new=0.5 * (1 + 11 * WIDE)),
    ),
    _judged(
        "a_loss_too_low_is_a_change",
        _with_loss(4, 0.5 * (1 - 11 * WIDE)),
        _verdict("changed", **_out(4, 11 * WIDE, WIDE), final_new=0.5 * (1 - 11 * WIDE)),
    ),
    _judged(
        "a_loss_of_the_other_sign_is_a_change",
        _with_loss(1, 2.0),
        _verdict("changed", **_out(1, 2.0, FLOOR)),
    ),
    _judged(
        "a_norm_of_the_last_step_counts",
        _with_norm("a", 4, 16.0 * (1 + 11 * WIDE)),
        _verdict("changed", **_out(4, 11 * WIDE, WIDE, "a")),
    ),
    _judged(
        "a_norm_of_the_first_update_counts",
        _with_norm("b", 1, 2.0 * (1 + 2.0**-39)),
        _verdict("changed", **_out(1, 2.0**-39, FLOOR, "b")),
    ),
    _judged(
        "a_loss_outside_is_told_with_the_largest_deviation_elsewhere",
        _with_losses(4.0 * (1 + 2.0**-30), -2.0, 0.0, 1.25, 0.5),
        _verdict(
            "changed",
            first_step=0,
            deviation=2.0**-30,
            envelopes=2.0**-30 / FLOOR,
            largest=0.25,
            largest_step=3,
        ),
    ),
    _judged(
        "the_earliest_value_outside_is_told_first",
        replace(_with_norm("b", 1, 2.0 * (1 + 2.0**-39)), losses=_with_loss(3, 257.0).losses),
        _verdict("changed", **_out(1, 2.0**-39, FLOOR, "b"), largest=256.0, largest_step=3),
    ),
    _judged(
        "of_one_step_the_value_farthest_outside_is_told",
        replace(RUN, norms={"b": {1: 2.5, 4: 1.0}, "a": {1: 16.0, 4: 16.0}}),
        _verdict("changed", **_out(1, 1.0, FLOOR, "a")),
    ),
    _judged(
        "of_one_step_the_value_farthest_outside_is_told_in_any_order",
        replace(RUN, norms={"b": {1: 6.0, 4: 1.0}, "a": {1: 12.0, 4: 16.0}}),
        _verdict("changed", **_out(1, 2.0, FLOOR, "b")),
    ),
    _judged(
        "the_first_tensor_is_told_though_a_loss_left_before",
        replace(_with_norm("a", 4, 32.0), losses=_with_loss(1, -3.0).losses),
        _verdict("changed", **_out(1, 0.5, FLOOR), tensor="a", tensor_step=4),
    ),
    _judged(
        "a_missing_last_loss_is_a_change",
        _with_losses(*LOSSES[:4]),
        _verdict("changed", first_step=4, deviation=INF, envelopes=INF, largest_step=3, final_new=1.0),
    ),
    _judged(
        "a_missing_norm_is_a_change",
        _without_norm("a", 4),
        _verdict("changed", first_step=4, deviation=INF, envelopes=INF, tensor="a", tensor_step=4),
    ),
    _judged(
        "a_missing_tensor_is_a_change",
        replace(RUN, norms={"a": NORMS["a"]}),
        _verdict("changed", first_step=1, deviation=INF, envelopes=INF, tensor="b", tensor_step=1),
    ),
    _judged(
        "a_run_without_any_loss_is_a_change",
        replace(RUN, losses=()),
        _verdict(
            "changed",
            first_step=0,
            deviation=INF,
            envelopes=INF,
            largest=None,
            largest_step=None,
            final_new=None,
        ),
    ),
]

FLAT = Curve(losses=[Point(0, 2.0, 0.0), Point(1, 1e-20, 0.0)], norms={"a": [Point(1, 1e-20, 0.0)]})
NOISE = Curve(
    losses=[Point(0, -2.0, 0.0), Point(1, 1e-20, 0.0)], norms={"a": [Point(1, 4.0, 0.0), Point(2, 1e-20, 0.0)]}
)

SCALES = [
    _judged(
        "noise_around_zero_is_measured_by_the_height_of_the_curve",
        Run("float64", "cpu", (-2.0, 1.5e-20), {"a": {1: 4.0, 2: 2e-20}}),
        {"kind": "match", "largest": (1.5e-20 - 1e-20) / (SCALE_FLOOR * 2.0)},
        NOISE,
    ),
    _judged(
        "a_norm_is_measured_by_its_own_curve",
        Run("float64", "cpu", (2.0, 1e-20), {"a": {1: 1.5e-20}}),
        {"kind": "changed", "first_step": 1, "tensor": "a", "largest": 0.0},
        FLAT,
    ),
    *[
        _judged(
            f"a_loss_near_zero_is_rounded_as_the_terms_that_cancel_{sign}",
            Run("float64", "cpu", (sign * 4.0, 2.0**-20 * (1 + 10 * 2.0**-30))),
            {"kind": "match", "largest": 10 * 2.0**-30},
            Curve(losses=[Point(0, sign * 4.0, 0.0), Point(1, 2.0**-20, 0.0)], norms={}),
        )
        for sign in (1, -1)
    ],
    _judged(
        "a_loss_near_zero_is_not_allowed_more_than_that",
        Run("float64", "cpu", (4.0, 2.0**-20 * (1 + 11 * 2.0**-30))),
        {"kind": "changed", "first_step": 1, "envelopes": 11.0},
        Curve(losses=[Point(0, 4.0, 0.0), Point(1, 2.0**-20, 0.0)], norms={}),
    ),
    _judged(
        "nothing_cancels_in_a_norm",
        Run("float64", "cpu", (4.0,), {"a": {1: 4.0, 2: 2.0**-20 * (1 + 10 * 2.0**-30)}}),
        {"kind": "changed", "tensor": "a", "envelopes": 10 * 2.0**-30 / FLOOR},
        Curve(losses=[Point(0, 4.0, 0.0)], norms={"a": [Point(1, 4.0, 0.0), Point(2, 2.0**-20, 0.0)]}),
    ),
    _judged(
        "a_norm_is_all_of_itself",
        _with_norm("b", 1, 2.0 * (1 + 700 * 2.0**-42)),
        {"kind": "match"},
        height_ulps=2.0**10,
    ),
    _judged(
        "a_curve_of_zeros_is_measured_absolutely",
        Run("float64", "cpu", (2.0**-39,)),
        {"kind": "diverged", "deviation": 2.0**-39, "envelopes": 2.0**-39 / FLOOR},
        Curve(losses=[Point(0, 0.0, 0.0)], norms={}),
    ),
    _judged(
        "float32_is_judged_by_the_rounding_of_float32",
        Run("float32", "cpu", (1.0 + 2.0**-18,)),
        {"kind": "match", "largest": 2.0**-18},
        Curve(losses=[Point(0, 1.0, 0.0)], norms={}),
    ),
    _judged(
        "float32_is_not_judged_more_widely_than_that",
        Run("float32", "cpu", (1.0 + 2.0**-17,)),
        {"kind": "changed", "envelopes": 2.0**-17 / (4 * EPS["float32"])},
        Curve(losses=[Point(0, 1.0, 0.0)], norms={}),
    ),
]

DIVERGING = structs.replace(CURVE, losses=CURVE.losses[:2], norms={}, diverges=(2, 3))
WINDOWED = Curve(
    losses=[Point(0, 4.0, 0.0), Point(1, 2.0, 0.0), Point(2, 8.0, BLIND)],
    norms={"a": [Point(1, 1.0, 0.0), Point(2, 4.0, BLIND), Point(3, 5.0, BLIND)]},
    diverges=(2, 3),
)
HUGE = Curve(losses=[Point(0, 4.0, BLIND), Point(1, 2.0, BLIND)], norms={"a": [Point(1, 1.0, BLIND)]})

FAILED = [
    *[
        _judged(
            f"a_run_that_fails_at_{step}_where_the_golden_does_not_diverged",
            _failed(LOSSES[:step], step),
            {"kind": "diverged", "note": f"the loss is nan after update {step}", "final_new": LOSSES[step - 1]},
        )
        for step in (1, 2, 4)
    ],
    *[
        _judged(
            f"a_loss_of_{value}_is_outside_even_where_the_envelope_is_huge",
            Run("float64", "cpu", (4.0, value), {}, Failure(1, "non-finite", "m")),
            {"kind": "diverged", "first_step": 1, "largest": INF, "largest_step": 1, "deviation": INF},
            HUGE,
        )
        for value in (NAN, INF, -INF)
    ],
    *[
        _judged(
            f"a_norm_of_{value}_is_outside_even_where_the_envelope_is_huge",
            Run("float64", "cpu", (4.0, 2.0), {"a": {1: value}}),
            {"kind": "changed", "first_step": 1, "tensor": "a", "deviation": INF},
            HUGE,
        )
        for value in (NAN, INF)
    ],
    _judged(
        "a_nan_that_no_failure_tells_of_is_a_change",
        _with_loss(3, NAN),
        {"kind": "changed", "first_step": 3, "largest": INF, "largest_step": 3},
    ),
    _judged(
        "a_raise_is_lost_whatever_the_curve",
        _raised(LOSSES[:2], 2),
        _verdict("lost", "update 2 raised ValueError: no", first_step=2, largest_step=1, final_new=-2.0),
    ),
    _judged(
        "a_raise_after_a_change_tells_of_both",
        _raised((4.0, -3.0), 2),
        _verdict("lost", "update 2 raised ValueError: no", **_out(1, 0.5, FLOOR), final_new=-3.0),
    ),
    _judged(
        "a_raise_while_building_says_so",
        _raised((), 0),
        _verdict(
            "lost", "construction raised ValueError: no", first_step=0, largest=None, largest_step=None, final_new=None
        ),
    ),
    _judged(
        "a_raise_is_lost_even_where_the_golden_diverges",
        _raised((4.0, -2.0), 2),
        {"kind": "lost", "note": "update 2 raised ValueError: no"},
        DIVERGING,
    ),
    *[
        _judged(
            f"a_run_that_fails_at_{step}_in_the_golden_s_window_matches",
            _failed(LOSSES[:2], step),
            _verdict("match", largest_step=1, final_old=-2.0, final_new=-2.0),
            DIVERGING,
        )
        for step in (2, 3)
    ],
    *[
        _judged(
            f"a_run_that_fails_at_{step}_outside_of_the_golden_s_window_diverged",
            _failed(LOSSES[:step], step, "the norm of a is inf"),
            {"kind": "diverged", "note": f"the norm of a is inf after update {step}", "first_step": step},
            DIVERGING,
        )
        for step in (1, 4)
    ],
    _judged(
        "a_run_that_fails_in_the_window_after_a_change_is_a_change",
        _failed((4.0, -3.0), 2),
        {"kind": "changed", "note": "", "first_step": 1},
        DIVERGING,
    ),
    _judged(
        "a_run_that_stays_finite_where_the_golden_does_not_is_a_change",
        _with_losses(4.0, -2.0, 0.0),
        _verdict(
            "changed",
            "the golden leaves the finite numbers after update 2, this run does not",
            largest_step=1,
            final_old=-2.0,
            final_new=0.0,
        ),
        DIVERGING,
    ),
    _judged(
        "a_loss_that_leaves_the_finite_numbers_within_the_window_matches",
        Run("float64", "cpu", (4.0, 2.0, INF), {"a": {1: 1.0}}, Failure(2, "non-finite", "the loss is inf")),
        {"kind": "match", "first_step": None},
        WINDOWED,
    ),
    _judged(
        "a_norm_that_leaves_the_finite_numbers_within_the_window_matches",
        Run("float64", "cpu", (4.0, 2.0), {"a": {1: 1.0, 2: NAN}}, Failure(2, "non-finite", "the norm is nan")),
        {"kind": "match", "first_step": None},
        WINDOWED,
    ),
    _judged(
        "a_norm_that_leaves_the_finite_numbers_at_the_end_of_the_window_matches",
        Run(
            "float64",
            "cpu",
            (4.0, 2.0, 8.0),
            {"a": {1: 1.0, 2: 4.0, 3: NAN}},
            Failure(3, "non-finite", "the norm is nan"),
        ),
        {"kind": "match", "first_step": None},
        WINDOWED,
    ),
]

BLOWN_UP = 4.0 * 1e3
SIGNED = Curve(losses=[Point(0, -4.0, 0.0), Point(1, 1.0, 1e5)], norms={})

BLOW_UPS = [
    *[
        _judged(
            f"a_loss_of_{sign:+d}000_times_the_largest_is_a_change",
            _with_loss(4, sign * BLOWN_UP),
            {"kind": "changed", "note": ""},
        )
        for sign in (1, -1)
    ],
    *[
        _judged(
            f"a_loss_of_more_than_{sign:+d}000_times_the_largest_diverged",
            _with_loss(4, sign * BLOWN_UP * 1.001),
            {
                "kind": "diverged",
                "note": "the loss grew to more than 1000 times the golden's largest",
                "first_step": 4,
                "final_new": sign * BLOWN_UP * 1.001,
            },
        )
        for sign in (1, -1)
    ],
    _judged(
        "a_blow_up_at_a_step_that_is_not_kept_counts",
        replace(_with_loss(1, -3.0), losses=(4.0, -3.0, 1e5, 1.0, 0.5)),
        {"kind": "diverged", "first_step": 1},
    ),
    _judged("a_blow_up_within_the_envelope_matches", _with_losses(-4.0, 1e5), {"kind": "match"}, SIGNED),
    _judged(
        "the_largest_of_the_golden_is_a_magnitude",
        _with_losses(-5.0, 3999.0),
        {"kind": "changed"},
        SIGNED,
    ),
    _judged(
        "the_policy_says_what_a_blow_up_is",
        _with_loss(4, 9.0),
        {"kind": "diverged", "note": "the loss grew to more than 2 times the golden's largest"},
        blow_up=2.0,
    ),
    _judged(
        "a_blow_up_in_the_window_of_a_diverging_golden_counts",
        _failed((4.0, -5000.0), 2),
        {"kind": "diverged", "first_step": 1},
        DIVERGING,
    ),
    _judged(
        "a_run_without_losses_has_not_grown",
        replace(RUN, losses=()),
        {"kind": "changed", "final_new": None},
        blow_up=0.125,
    ),
]

ROUTE, OTHER_ROUTE = "resume", "foreach"
ON_ROUTE = replace(RUN, route=ROUTE)
DEPARTED = {"routes": {ROUTE: Departure(0.5, CURVE), OTHER_ROUTE: Departure(0.5, DECOY)}}


def _no_curve(name: str, run: Run, text: str, **stored: Any) -> Case:  # noqa: ANN401 - fields of a golden
    """The judge must not invent a reference: it raises and says which is not there."""

    def ask(judge: Judge) -> object:
        try:
            judge.judge(run, golden(**stored), judge.Policy())
        except ValueError as error:
            return str(error)
        return None

    return Case(name, ask, text)


ROUTES = [
    _judged(
        "a_route_that_was_the_same_is_judged_by_the_plain_curve",
        ON_ROUTE,
        _verdict("match"),
        stored={"routes": {ROUTE: "same", OTHER_ROUTE: Departure(0.5, DECOY)}},
    ),
    _judged(
        "a_route_that_was_the_same_and_departs_is_a_change",
        replace(_with_loss(4, 0.5 * (1 + 11 * WIDE)), route=ROUTE),
        _verdict("changed", **_out(4, 11 * WIDE, WIDE), final_new=0.5 * (1 + 11 * WIDE)),
        stored={"routes": {ROUTE: "same"}},
    ),
    _judged(
        "a_route_with_a_curve_of_its_own_is_judged_by_that_one",
        ON_ROUTE,
        _verdict("match"),
        DECOY,
        DEPARTED,
    ),
    _judged(
        "a_route_that_leaves_its_own_curve_is_a_change",
        replace(_with_norm("a", 4, 16.0 * (1 + 11 * WIDE)), route=ROUTE),
        _verdict("changed", **_out(4, 11 * WIDE, WIDE, "a")),
        DECOY,
        DEPARTED,
    ),
    _judged(
        "a_route_that_lands_on_the_plain_curve_instead_of_its_own_is_a_change",
        ON_ROUTE,
        {"kind": "changed", "first_step": 0},
        stored={"routes": {ROUTE: Departure(0.5, DECOY)}},
    ),
    _judged(
        "the_plain_route_is_not_judged_by_the_curve_of_another",
        RUN,
        _verdict("match"),
        stored={"routes": {ROUTE: Departure(0.5, DECOY)}},
    ),
    _judged(
        "a_raise_on_a_route_is_lost",
        replace(_raised(LOSSES[:2], 2), route=ROUTE),
        {"kind": "lost", "note": "update 2 raised ValueError: no", "first_step": 2},
        stored={"routes": {ROUTE: "same"}},
    ),
    _no_curve(
        "a_route_that_was_refused_has_no_curve_to_judge_by",
        ON_ROUTE,
        "spec on toy holds no curve for float64, resume",
        routes={ROUTE: Departure(refused="ValueError: no")},
    ),
    _no_curve(
        "a_dtype_that_was_not_recorded_has_no_curve_to_judge_by",
        replace(RUN, dtype="float32"),
        "spec on toy holds no curve for float32, plain",
    ),
]

COUNTED = {"steps_counted": "the counter of a is 3"}
WRITTEN = {"settings_kept": "group 0 has lr=0.1"}

LAWS = [
    _judged(
        "a_law_newly_broken_is_lost",
        replace(RUN, broken=COUNTED),
        _verdict("lost", "law steps_counted: the counter of a is 3"),
    ),
    *[
        _judged(
            f"a_law_that_was_broken_on_{run.route}_already_is_not_held_against_it",
            replace(run, broken={"steps_counted": "in other words"}),
            _verdict("match"),
            stored={"broken": {run.route: COUNTED}},
        )
        for run in (RUN, ON_ROUTE)
    ],
    _judged(
        "a_law_that_was_broken_on_another_route_only_is_lost",
        replace(ON_ROUTE, broken=COUNTED),
        _verdict("lost", "law steps_counted: the counter of a is 3"),
        stored={"broken": {"plain": WRITTEN, OTHER_ROUTE: COUNTED}},
    ),
    _judged(
        "a_law_that_was_broken_on_the_plain_route_is_excused_on_every_other",
        replace(ON_ROUTE, broken=COUNTED),
        _verdict("match"),
        stored={"broken": {"plain": COUNTED, ON_ROUTE.route: WRITTEN}},
    ),
    _judged(
        "of_two_broken_laws_the_new_one_is_told",
        replace(RUN, broken={**COUNTED, **WRITTEN}),
        _verdict("lost", "law settings_kept: group 0 has lr=0.1"),
        stored={"broken": {"plain": COUNTED}},
    ),
    _judged(
        "of_two_new_broken_laws_the_first_is_told",
        replace(RUN, broken={**COUNTED, **WRITTEN}),
        _verdict("lost", "law steps_counted: the counter of a is 3"),
    ),
    _judged(
        "a_law_that_is_kept_again_matches",
        RUN,
        _verdict("match"),
        stored={"broken": {"plain": COUNTED}},
    ),
    _judged(
        "a_change_that_breaks_a_law_too_is_a_change_that_tells_of_it",
        replace(_with_loss(4, 0.25), broken=COUNTED),
        {"kind": "changed", "note": "law steps_counted: the counter of a is 3", "first_step": 4},
    ),
    _judged(
        "a_raise_is_told_before_a_broken_law",
        replace(_raised(LOSSES[:2], 2), broken=COUNTED),
        {"kind": "lost", "note": "update 2 raised ValueError: no"},
    ),
    _judged(
        "a_divergence_is_told_before_a_broken_law",
        replace(_failed(LOSSES[:2], 2), broken=COUNTED),
        {"kind": "diverged", "note": "the loss is nan after update 2"},
    ),
]

RATES = ((2.0, 0.5, 1.0), (-4.0, 1.0))
"""Of two groups; the second schedule ends before the first."""

RATE = 2.0**-30  # a policy that numbers near one can meet exactly


def _scheduled(name: str, rates: Sequence[Sequence[float]], answer: object, run: Run = RUN, **more: Any) -> Case:  # noqa: ANN401 - see _judged
    """A run with these learning rates against a golden with `RATES`; the answer is its note, None for a match."""
    found = replace(run, rates=tuple(map(tuple, rates)))
    stored = {"rates": [list(rates) for rates in RATES]}
    kind = _verdict("match") if answer is None else _verdict("changed", answer)
    return _judged(name, found, kind, **{"stored": stored, **more})


def _rate_is(group: int, updates: int, found: float) -> str:
    expected = RATES[group][updates]
    return f"the learning rate of group {group} is {found!r} after {updates} updates, the golden has {expected!r}"


SCHEDULES = [
    _scheduled("equal_learning_rates_match", RATES, None),
    _scheduled("a_rate_at_its_tolerance_matches", ((2.0, 0.5 + 2 * RATE, 1.0), RATES[1]), None, rate=RATE),
    _scheduled("a_rate_as_far_below_matches", ((2.0, 0.5 - 2 * RATE, 1.0), RATES[1]), None, rate=RATE),
    _scheduled("a_negative_rate_has_a_tolerance_too", (RATES[0], (-4.0, 1.0 + 4 * RATE)), None, rate=RATE),
    *[
        _scheduled(
            f"a_rate_beyond_its_tolerance_in_group_{group}_after_{updates}_is_a_change",
            [
                [rate + 5 * RATE if (group, updates) == (g, k) else rate for k, rate in enumerate(rates)]
                for g, rates in enumerate(RATES)
            ],
            _rate_is(group, updates, RATES[group][updates] + 5 * RATE),
            rate=RATE,
        )
        for group, updates in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1))
    ],
    _scheduled(
        "a_rate_too_low_is_a_change",
        ((2.0, 0.5 - 3 * RATE, 1.0), RATES[1]),
        _rate_is(0, 1, 0.5 - 3 * RATE),
        rate=RATE,
    ),
    _scheduled("the_default_tolerance_is_a_billionth", ((2.0, 0.5 + 1.9e-9, 1.0), RATES[1]), None),
    _scheduled(
        "the_default_tolerance_is_not_wider", ((2.0, 0.5 + 2.1e-9, 1.0), RATES[1]), _rate_is(0, 1, 0.5 + 2.1e-9)
    ),
    _scheduled("a_rate_of_nan_is_a_change", ((2.0, NAN, 1.0), RATES[1]), _rate_is(0, 1, NAN)),
    _scheduled("the_first_departure_is_told", ((2.0, 0.75, 4.0), (0.0, 0.0)), _rate_is(0, 1, 0.75)),
    _scheduled("a_departure_is_told_before_a_wrong_length", ((2.0, 0.75), RATES[1]), _rate_is(0, 1, 0.75)),
    _scheduled(
        "a_schedule_that_ends_early_is_a_change",
        (RATES[0], RATES[1][:1]),
        "the schedule of group 1 ends after 1 updates, the golden's after 2",
    ),
    _scheduled(
        "a_schedule_that_goes_on_is_a_change",
        ((*RATES[0], 1.0), RATES[1]),
        "the schedule of group 0 ends after 4 updates, the golden's after 3",
    ),
    _scheduled("another_number_of_groups_is_a_change", RATES[:1], "1 groups are scheduled, the golden has 2"),
    _scheduled("no_schedule_where_there_was_one_is_a_change", (), "0 groups are scheduled, the golden has 2"),
    _scheduled(
        "a_schedule_where_there_was_none_is_a_change", RATES, "2 groups are scheduled, the golden has 0", stored={}
    ),
    _judged(
        "a_change_of_curve_and_schedule_tells_of_both",
        replace(_with_loss(4, 0.25), rates=((2.0, 0.75, 1.0), RATES[1]), broken=COUNTED),
        {"kind": "changed", "note": _rate_is(0, 1, 0.75), "first_step": 4},
        stored={"rates": [list(rates) for rates in RATES]},
    ),
    _judged(
        "another_schedule_and_a_broken_law_are_a_change",
        replace(RUN, rates=((2.0, 0.75, 1.0), RATES[1]), broken=COUNTED),
        {"kind": "changed", "note": _rate_is(0, 1, 0.75), "first_step": None},
        stored={"rates": [list(rates) for rates in RATES]},
    ),
    *[
        _judged(
            f"a_run_that_{kind}_says_so_whatever_its_schedule",
            replace(run, rates=((3.0,), (3.0,))),
            {"kind": kind, "note": note},
            stored={"rates": [list(rates) for rates in RATES]},
        )
        for kind, note, run in (
            ("lost", "update 2 raised ValueError: no", _raised(LOSSES[:2], 2)),
            ("diverged", "the loss is nan after update 2", _failed(LOSSES[:2], 2)),
        )
    ],
]

ENDED = _failed(LOSSES[:2], 2)
"""A run that ends where its golden, too, leaves the finite numbers."""

ENDED_SCHEDULES = [
    *[
        _judged(
            f"a_declared_end_{name}_matches",
            replace(ENDED, rates=rates),
            {"kind": "match", "note": ""},
            DIVERGING,
            {"rates": [list(rates) for rates in RATES]},
        )
        for name, rates in (("cuts_the_schedule", ((2.0,), (-4.0, 1.0))), ("leaves_no_schedule", ()))
    ],
    _judged(
        "another_rate_before_a_declared_end_is_a_change",
        replace(ENDED, rates=((2.0,), (-3.0,))),
        {"kind": "changed", "note": _rate_is(1, 0, -3.0)},
        DIVERGING,
        {"rates": [list(rates) for rates in RATES]},
    ),
]


def _tolerance(name: str, measured: float, dtype: str, expected: float, **policy: float) -> Case:
    return Case(name, lambda judge: judge.Policy(**policy).tolerance(measured, dtype), expected)


def _envelope(name: str, measured: float, dtype: str, expected: float, **policy: float) -> Case:
    return Case(name, lambda judge: judge.Policy(**policy).envelope(measured, dtype), expected)


POLICIES = [
    _tolerance("a_narrow_envelope_is_allowed_generously", 1e-14, "float64", 1e-14 * 1000),
    _tolerance("generosity_ends_at_what_is_free", 5e-12, "float64", 1e-9),
    _tolerance("what_is_free_does_not_narrow_the_margin", 1e-9, "float64", 1e-8),
    _tolerance("a_wide_envelope_is_allowed_its_margin", 0.5, "float64", 5.0),
    _tolerance("no_envelope_means_four_ulps", 0.0, "float64", 1000 * 4 * 2.0**-52),
    _tolerance("no_envelope_means_four_ulps_of_float32", 0.0, "float32", 10 * 4 * 2.0**-23),
    _tolerance("the_margin_can_be_chosen", 0.5, "float64", 1.5, margin=3.0),
    _tolerance("the_generosity_can_be_chosen", 2.0**-48, "float64", 2.0**-42, generous=64.0),
    _tolerance("what_is_free_can_be_chosen", 1e-14, "float64", 1e-12, free=1e-12),
    _tolerance("the_floor_can_be_chosen", 0.0, "float64", 8000 * 2.0**-52, floor_ulps=8.0),
    _tolerance("what_cancels_can_be_chosen", 0.0, "float64", 16000 * 2.0**-52, height_ulps=16.0),
    _envelope("an_envelope_above_the_floor_stands", 1e-3, "float32", 1e-3),
    _envelope("an_envelope_below_the_floor_is_the_floor", 1e-9, "float32", 4 * 2.0**-23),
    _envelope("an_envelope_below_what_cancels_is_that", 1e-15, "float64", 16 * 2.0**-52, height_ulps=16.0),
    _judged("the_chosen_margin_is_used", _with_loss(3, 1 + 3.5 * WIDE), {"kind": "changed"}, margin=3.0),
    Case(
        "the_verdicts_are_told_best_first",
        lambda judge: judge.KINDS,
        (
            *("match", "incomparable", "slower", "heavier", "improved", "changed"),
            *("regression", "diverged", "lost", "missing", "stale"),
        ),
    ),
    Case("what_cannot_be_compared_fails_no_test", lambda judge: judge.PASSING, ("match", "incomparable")),
    Case(
        "a_verdict_says_nothing_but_its_kind_by_default",
        lambda judge: asdict(judge.Verdict("match")),
        _verdict("match", largest=None, largest_step=None, final_old=None, final_new=None),
    ),
]


def _prechecked(name: str, stored: Golden | None, answer: tuple[str, str] | None, **asked: str | bool) -> Case:
    keywords = {"exists": True, "digest": "digest", "dtype": "float64", **asked}

    def ask(judge: Judge) -> object:
        found = judge.precheck(stored, **keywords)
        return found and (found.kind, found.note)

    return Case(name, ask, answer)


PRECHECKS = [
    _prechecked("a_fitting_golden_can_judge", golden(), None),
    _prechecked("no_file_is_missing", None, ("missing", "no golden"), exists=False),
    _prechecked("a_file_without_a_golden_is_stale", None, ("stale", "the golden is of an older schema")),
    _prechecked(
        "a_golden_of_another_digest_is_stale",
        golden(),
        ("stale", "the golden was recorded on another toy (digest digest, now other)"),
        digest="other",
    ),
    _prechecked(
        "a_dtype_that_was_not_recorded_is_missing",
        golden(),
        ("missing", "the golden holds no float32 curve, only float64"),
        dtype="float32",
    ),
    _prechecked("a_route_that_was_recorded_can_be_judged", golden(routes={ROUTE: "same"}), None, route=ROUTE),
    _prechecked("a_route_that_departed_can_be_judged", golden(routes=DEPARTED["routes"]), None, route=ROUTE),
    _prechecked(
        "a_route_that_was_not_recorded_is_missing",
        golden(routes={OTHER_ROUTE: "same"}),
        ("missing", "the golden was recorded without the route resume"),
        route=ROUTE,
    ),
    _prechecked("the_plain_route_is_never_missing", golden(), None, route="plain"),
    _prechecked(
        "a_dtype_that_nobody_records_is_missing",
        golden({"float64": CURVE, "float32": DECOY}),
        ("missing", "the golden holds no float16 curve, only float64, float32"),
        dtype="float16",
    ),
]

CASES: tuple[Case, ...] = (
    *INSIDE,
    *OUTSIDE,
    *SCALES,
    *FAILED,
    *BLOW_UPS,
    *ROUTES,
    *LAWS,
    *SCHEDULES,
    *ENDED_SCHEDULES,
    *POLICIES,
    *PRECHECKS,
)
