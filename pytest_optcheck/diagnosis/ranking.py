"""Which mistake explains what was observed, and how well."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_optcheck.diagnosis import bank, fitting
from pytest_optcheck.diagnosis.kinds import kinds
from pytest_optcheck.diagnosis.replaying import UNALTERED, deviations, replay

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_optcheck.diagnosis.observing import Observation
    from pytest_optcheck.diagnosis.replaying import Hypothesis, Rules
    from pytest_optcheck.oracles.base import Array

FIT = 1e-6
"""The largest deviation with which a mistake is named. Rounding leaves 1e-12 between a rule and its replay, and numbers
that an implementation keeps in float32 some 1e-8. The second best explanations of what ``benchmarks/diagnosis.py`` asks
are off by 7e-5 or more, but for mistakes that differ by an eps of 1e-8 alone; of those the better one is named."""

CLEARLY = 1e-3
"""A mistake is named if its deviation is at most this share of that of the rule without any."""

DEPARTS = 1e-9
"""The deviation from which on a tensor no longer follows the rule: a hundred times what rounding does to one that
hardly moves, see `observing.STILL`."""

ALIKE = 100.0
"""Deviations within this factor of each other say the same, and so do all below `ROUNDING`."""

ROUNDING = 1e-12
"""See `ALIKE`."""

TRIED_UPDATES = 4
"""Updates on which the whole bank is tried, from the first that departs; the best are confirmed on all of them."""

TRIED_NUMBERS = 6_000
"""Elements on which it is tried: of the smallest tensors of a large net."""

CONFIRMED = 4
"""How many of those that do not fit are carried on, for the best of them to be named as the next best."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A hypothesis and how it fits.

    Attributes:
        hypothesis: what may have happened.
        fit: the largest deviation of its replay from what was observed, relative to how far a tensor moved.
        where: in which tensors it happened, in words; empty for all of them.
        trace: a hash of its deviations in those tensors.
    """

    hypothesis: Hypothesis
    fit: float
    where: str = ""
    trace: int = 0

    @property
    def words(self) -> str:
        """What happened, and where."""
        return f"{self.hypothesis.words}, {self.where}" if self.where else self.hypothesis.words

    @property
    def cost(self) -> tuple[int, bool]:
        """What has to be assumed; less is better."""
        return self.hypothesis.fitted, bool(self.where)


@dataclass(frozen=True, slots=True)
class First:
    """The first update that is not the rule's.

    Attributes:
        tensor: that departs then.
        update: its number, from 1.
        ratio: norm of its step ÷ norm of the rule's from the same place; NaN where there is no such number.
        angle: between the two, in degrees; ditto.
    """

    tensor: str
    update: int
    ratio: float
    angle: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """What became of the question.

    Attributes:
        unaltered: the deviation of the rule without any mistake.
        named: the mistakes that explain the change, indistinguishable from each other; empty if none does.
        second: the best of all others.
        first: where the rule is left first; None where it never is.
    """

    unaltered: float
    named: tuple[Candidate, ...] = ()
    second: Candidate | None = None
    first: First | None = None


def follows(observed: Observation, rules: Rules) -> bool:
    """Whether every step is that of the rule."""
    return bool((deviations(observed, rules, UNALTERED, observed.updates) <= DEPARTS).all())


def explain(observed: Observation, rules: Rules) -> Explanation:
    """Try everything; at least one update of one tensor must have been observed."""
    apart = deviations(observed, rules, UNALTERED, observed.updates)
    unaltered = _largest(apart)
    outside = ~(apart <= DEPARTS)
    if not outside.any():
        return Explanation(unaltered)
    departure = int(np.argmax(outside.any(axis=1)))
    departing = [int(index) for index in np.flatnonzero(outside.any(axis=0))]
    departing.sort(key=lambda index: -_largest(apart[: departure + fitting.FITTED_UPDATES, index]))
    first = _first(observed, rules, departure, int(np.argmax(outside[departure])))
    search = _Search(observed, rules, apart, departure, departing)
    candidates = search.confirmed(bank.hypotheses(observed, rules, departure))
    named = _named(candidates, unaltered)
    if not named:
        ratio = math.copysign(first.ratio, math.cos(math.radians(first.angle)))
        candidates += search.confirmed(fitting.hypotheses(observed, rules, departure, departing, ratio))
        named = _named(candidates, unaltered)
    others = [candidate for candidate in candidates if _far(candidate, named)]
    second = min(others, key=lambda candidate: candidate.fit, default=None)
    return Explanation(unaltered, named, second, first)


class _Search:
    """The bank tried on a part of what was observed, and the best of it on the whole."""

    def __init__(
        self, observed: Observation, rules: Rules, apart: Array, departure: int, departing: Sequence[int]
    ) -> None:
        """Choose the part."""
        self.observed, self.rules, self.apart, self.departing = observed, rules, apart, departing
        self.updates = min(observed.updates, departure + TRIED_UPDATES)
        self.part = observed
        if sum(track.start.size for track in observed.tracks) > TRIED_NUMBERS:
            smallest = min(departing, key=lambda index: observed.tracks[index].start.size)
            self.part = observed.smallest(TRIED_NUMBERS, smallest)
        kept = {id(track) for track in self.part.tracks}
        self.columns = [index for index, track in enumerate(observed.tracks) if id(track) in kept]

    def confirmed(self, hypotheses: Iterable[Hypothesis]) -> list[Candidate]:
        """Those that may fit, and the best of the others, as they fit the whole."""
        given = list(hypotheses)
        unaltered = self.apart[: self.updates, self.columns]
        tried = {}
        for number, hypothesis in enumerate(given):
            apart = deviations(self.part, self.rules, hypothesis, self.updates)
            tried[number] = _largest(np.minimum(apart, unaltered))  # it may have happened in some tensors only
        count = sum(fit <= FIT for fit in tried.values()) + CONFIRMED
        best = sorted(tried, key=tried.__getitem__)[:count]
        return [found for number in sorted(best) for found in self._whole(given[number])]

    def _whole(self, hypothesis: Hypothesis) -> Iterator[Candidate]:
        """In all tensors; and if that does not fit, in those alone that depart."""
        apart = deviations(self.observed, self.rules, hypothesis, self.observed.updates)
        everywhere = Candidate(hypothesis, _largest(apart))
        yield everywhere
        if everywhere.fit <= FIT or len(self.departing) == len(self.observed.tracks):
            return
        for where, within in kinds(self.observed.tracks, self.departing):
            inside = np.array([within(track) for track in self.observed.tracks])
            fit = _largest(np.where(inside, apart, self.apart))
            found = Candidate(hypothesis, fit, where, hash(apart[:, inside].tobytes()))
            if found.fit <= FIT:
                yield found
                return


def _named(candidates: Sequence[Candidate], unaltered: float) -> tuple[Candidate, ...]:
    """The simplest of the best, if they are good enough."""
    good = [found for found in candidates if found.fit <= min(FIT, CLEARLY * unaltered)]
    if not good:
        return ()
    best = min(found.fit for found in good)
    alike = [found for found in good if _alike(found.fit, best)]
    simplest = min(found.cost for found in alike)
    left = [found for found in alike if found.cost == simplest]
    traces = [found.trace for found in left]
    return tuple(  # what says the same of a few tensors, as "none moves" and "the tail of none moves", is said once
        found for index, found in enumerate(left) if not found.where or found.trace not in traces[:index]
    )


def _far(candidate: Candidate, named: Sequence[Candidate]) -> bool:
    """Whether a candidate fits less well than what is named."""
    return not any(_alike(candidate.fit, found.fit) for found in named)


def _alike(fit: float, best: float) -> bool:
    return fit <= max(ALIKE * best, ROUNDING)


def _largest(apart: Array) -> float:
    """The largest deviation; a NaN is infinite."""
    largest = float(np.max(apart, initial=0.0))
    return math.inf if math.isnan(largest) else largest


def _first(observed: Observation, rules: Rules, departure: int, index: int) -> First:
    """The step of tensor `index` in the first update that departs, against that of the rule from the same place."""
    expected = replay(observed, rules, UNALTERED, departure + 1)
    track, begin = observed.tracks[index], observed.offsets[index]
    before = track.values[departure - 1] if departure else track.start
    new = (track.values[departure] - before).ravel()
    ratio = angle = math.nan
    if expected is not None:
        old = expected[departure, begin : begin + track.start.size] - before.ravel()
        with np.errstate(all="ignore"):
            lengths = float(np.linalg.norm(new)), float(np.linalg.norm(old))
            ratio = lengths[0] / lengths[1] if lengths[1] else math.nan
            cosine = float(new @ old) / (lengths[0] * lengths[1]) if all(lengths) else math.nan
        angle = math.degrees(math.acos(min(1.0, max(-1.0, cosine)))) if math.isfinite(cosine) else math.nan
    return First(track.name, departure + 1, ratio if math.isfinite(ratio) else math.nan, angle)
