"""Is it worse? Statistics over pairs of runs of the same seed: screened, confirmed, called by name.

Pure: plain numbers in, frozen data out. Imports neither torch nor pytest, and scipy when it is called.
"""

from __future__ import annotations

import math
import statistics
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pytest_optcheck.ensembles.figures import Member

SCREEN, CONFIRM = 8, 16
"""Pairs of the screen, and of its confirmation by seeds that it has not seen."""

SEEDS = SCREEN + CONFIRM
"""Seeds of an ensemble; the screen takes the first."""

SCREEN_P, CONFIRM_P = 0.01, 1e-4
"""Levels of the two: what lies right on the margin is called worse once in a million times, so that a run of 500 checks
has a false alarm once in two thousand."""

MARGIN = 0.01
"""A relative difference up to here is none; float64 against float32 is significant at 3e-7."""

CONFIDENCE = 0.95
"""Of the intervals that are told; nothing is decided by them."""

FEWEST = 0.5
"""Share of the pairs that must come to a good end: those that do where most diverge are no sample of all."""

FLOOR = 1e-6
"""A loss below this share of the first is taken for that much: what is left there is the rounding of float32."""

BLOW_UP = 1e3
"""A last loss so many times the first counts as divergence."""

DIVERGENCE = "divergence"
"""Name of the comparison of how many runs diverge."""

Direction = Literal["worse", "better"]
DIRECTIONS: tuple[Direction, ...] = ("worse", "better")
Call = Literal["worse", "better", "within the margin", "cannot tell"]
Kind = Literal["improved", "changed", "regression"]

KINDS: tuple[Kind, ...] = ("improved", "changed", "regression")
"""What a curve that has left its envelope may be called, best first."""


class Endpoint(NamedTuple):
    """What is compared.

    Attributes:
        metric: of a member; less is better.
        words: what it is called.
        decisive: being worse in it is a regression, whatever else got better.
    """

    metric: str
    words: str
    decisive: bool


ENDPOINTS = (
    Endpoint("final_loss", "final loss", decisive=True),
    Endpoint("steps_to_target", "steps to target", decisive=True),
    Endpoint("held_out_loss", "held-out loss", decisive=False),
    Endpoint("area", "area under the curve", decisive=False),
)
"""What a change is judged by, besides how many runs diverge."""

NAMES = (*(endpoint.metric for endpoint in ENDPOINTS), DIVERGENCE)
"""Every comparison."""

POINTS = {"accuracy": "held-out accuracy", "recall": "recall", "f1": "F1", "roc_auc": "ROC-AUC"}
"""Metrics in points, more is better; the first is told to the reader, the others are in the report."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What the pairs say of one endpoint.

    Attributes:
        call: whether it got worse, or better, by more than the margin.
        change: relative change of the geometric mean, 0.03 for 3 % more; for divergence the change of its rate.
        low: end of the interval about it.
        high: the other end.
        p: of the test that decided; where none did, of the one against the margin that came nearest.
        pairs: that it is taken from.
    """

    call: Call
    change: float
    low: float
    high: float
    p: float
    pairs: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What an ensemble says of a changed optimizer.

    Attributes:
        kind: what it is called.
        effects: by metric, `DIVERGENCE` among them.
        points: mean difference by metric, of those in points; 0.01 is one.
        pairs: that were trained.
        fresh: of them those that confirmed.
        margin: against which it was judged.
    """

    kind: Kind
    effects: Mapping[str, Effect]
    points: Mapping[str, float]
    pairs: int
    fresh: int
    margin: float


Pairs: TypeAlias = "Sequence[tuple[Member, Member]]"
"""Old and new run of one seed each."""


def settle(old: Sequence[Member], again: Callable[[Sequence[int]], Sequence[Member]], margin: float = MARGIN) -> Answer:
    """Train the seeds of the screen, and the others where it has a hit; what they say.

    Args:
        old: all members of the golden's ensemble.
        again: trains seeds with the code of today.
        margin: relative difference that is none.
    """
    pairs = list(zip(old[:SCREEN], again(range(SCREEN)), strict=True))
    screened = hits(pairs, margin, SCREEN_P)
    confirmed: dict[str, tuple[Direction, float]] = {}
    if screened:
        fresh = list(zip(old[SCREEN:], again(range(SCREEN, SEEDS)), strict=True))
        found = hits(fresh, margin, CONFIRM_P)
        confirmed = {name: hit for name, hit in found.items() if name in screened and screened[name][0] == hit[0]}
        pairs += fresh
    effects = {name: _effect(name, pairs, margin, confirmed.get(name)) for name in NAMES}
    called = kind({name: effect.call for name, effect in effects.items()})
    points = {name: mean for name in POINTS if (mean := _points(name, pairs)) is not None}
    return Answer(called, effects, points, len(pairs), len(pairs) - SCREEN, margin)


def kind(calls: Mapping[str, Call]) -> Kind:
    """What a change is called by what got worse and what got better.

    Worse in a decisive endpoint, or in how many runs diverge, is a regression. Worse in another is one too, unless
    something got better: then it is a change, for its author to weigh.
    """
    worse = {name for name, call in calls.items() if call == "worse"}
    better = "better" in calls.values()
    decisive = {DIVERGENCE, *(endpoint.metric for endpoint in ENDPOINTS if endpoint.decisive)}
    if worse & decisive or (worse and not better):
        return "regression"
    return "improved" if better and not worse else "changed"


def worst(kinds: Iterable[Kind]) -> Kind:
    """The worst of several answers."""
    return max(kinds, key=KINDS.index)


def floor(first: float) -> float:
    """The least loss that counts in a run whose first loss is `first`."""
    return FLOOR * first if first > 0.0 else -math.inf


def hits(pairs: Pairs, margin: float, level: float) -> dict[str, tuple[Direction, float]]:
    """What is worse, or better, by more than the margin at this level, with its p."""
    found: dict[str, tuple[Direction, float]] = {}
    for name in NAMES:
        for direction in DIRECTIONS:
            p = _p(name, pairs, margin, direction)
            if p < level:
                found[name] = (direction, p)
    return found


def _p(name: str, pairs: Pairs, margin: float, direction: Direction) -> float:
    """Of the test that `name` is no worse, or no better, than the margin allows."""
    if name == DIVERGENCE:
        return _fisher(pairs, direction)
    differences = log_ratios(name, pairs)
    return _beyond(differences if direction == "worse" else [-d for d in differences], math.log1p(margin))


def log_ratios(name: str, pairs: Pairs) -> list[float]:
    """Log of new over old, for every pair of which both came to a good end; none where most did not."""
    found = []
    for old, new in pairs:
        if diverged(old) or diverged(new) or not (name in old.metrics and name in new.metrics):
            continue
        least = 1.0 if name == "steps_to_target" else floor(old.losses[0])
        before, after = max(least, old.metrics[name]), max(least, new.metrics[name])
        if before > 0.0 and after > 0.0:
            found.append(math.log(after / before))
    return found if len(found) >= FEWEST * len(pairs) else []


def diverged(member: Member) -> bool:
    """Whether a run raised, left the finite numbers, or blew up."""
    return member.ended is not None or member.metrics["final_loss"] > BLOW_UP * abs(member.losses[0])


def _beyond(differences: Sequence[float], bound: float) -> float:
    """Of Student's test that the mean of `differences` is not above `bound`."""
    from scipy import stats  # type: ignore[import-untyped] # at the top every import would pay a second

    if not differences:
        return 1.0
    if min(differences) == max(differences):
        return 0.0 if differences[0] > bound else 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of differences that are nearly equal
        return float(stats.ttest_1samp(differences, bound, alternative="greater").pvalue)


def _fisher(pairs: Pairs, direction: Direction) -> float:
    """Of Fisher's exact test that no more, or no fewer, runs diverge; that they share seeds makes it conservative."""
    from scipy import stats

    counts = [[count, len(pairs) - count] for count in _divergences(pairs)]
    return float(stats.fisher_exact(counts, alternative="less" if direction == "worse" else "greater").pvalue)


def _divergences(pairs: Pairs) -> tuple[int, int]:
    """How many of the old runs diverged, and of the new."""
    return sum(diverged(old) for old, _ in pairs), sum(diverged(new) for _, new in pairs)


def _effect(name: str, pairs: Pairs, margin: float, hit: tuple[Direction, float] | None) -> Effect:
    """What is told of one comparison: its size by all pairs, its call by the confirmation."""
    nearest = min(_p(name, pairs, margin, direction) for direction in DIRECTIONS)
    if name == DIVERGENCE:
        before, after = _divergences(pairs)
        change = (after - before) / len(pairs)
        call, p = hit or ("cannot tell" if change else "within the margin", nearest)
        return Effect(call, change, change, change, p, len(pairs))
    differences = log_ratios(name, pairs)
    if not differences:
        return Effect("cannot tell", 0.0, 0.0, 0.0, 1.0, 0)
    inside = _inside(differences, margin)
    undecided: tuple[Call, float] = ("within the margin", inside) if inside < SCREEN_P else ("cannot tell", nearest)
    call, p = hit or undecided
    low, high = map(math.expm1, interval(differences))
    return Effect(call, math.expm1(statistics.fmean(differences)), low, high, p, len(differences))


def _inside(differences: Sequence[float], margin: float) -> float:
    """Of the two one-sided tests that the mean lies outside the margin, the larger."""
    bound = math.log1p(margin)
    return max(_beyond(differences, -bound), _beyond([-d for d in differences], -bound))


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Student's interval about the mean."""
    from scipy import stats

    if min(differences) == max(differences):
        return differences[0], differences[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # see _beyond
        found = stats.ttest_1samp(differences, 0.0).confidence_interval(CONFIDENCE)
    return float(found.low), float(found.high)


def _points(name: str, pairs: Pairs) -> float | None:
    """The mean difference of a metric in points; None where no pair has it."""
    both = [(old.metrics, new.metrics) for old, new in pairs if name in old.metrics and name in new.metrics]
    return statistics.fmean(new[name] - old[name] for old, new in both) if both else None
