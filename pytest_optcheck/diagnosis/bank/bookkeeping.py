"""Updates lost, doubled or made with the wrong gradient, and counts of updates that are shared, stuck or off by one."""

# ruff: noqa: ARG005 - the rows of a table share one signature
from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_optcheck.diagnosis.replaying import Hypothesis, Road
from pytest_optcheck.oracles.sgd import SGD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_optcheck.diagnosis.observing import Observation
    from pytest_optcheck.diagnosis.replaying import Rules
    from pytest_optcheck.oracles.base import Array, Rule


class Dropped(Road):
    """The update is computed and never applied."""

    def stepped(self, k: int, index: int, gradient: Array) -> Array:
        """The old value; the state goes on."""
        super().stepped(k, index, gradient)
        return self.values[index]


class Repeated(Road):
    """An update is made several times with one gradient; `how` says how many times the update of a number is."""

    how: ClassVar[Callable[[int], int]]

    def stepped(self, k: int, index: int, gradient: Array) -> Array:
        """The value after the last time."""
        for _ in range(type(self).how(self.counts[index] + 1)):
            self.values[index] = super().stepped(k, index, gradient)
        return self.values[index]


class Ascending(Road):
    """The gradient has the wrong sign."""

    def gradient(self, k: int, index: int) -> Array | None:
        """The negative one."""
        gradient = super().gradient(k, index)
        return None if gradient is None else -gradient


class Late(Road):
    """Each update is made with the gradient of the one before, the first with its own."""

    def gradient(self, k: int, index: int) -> Array | None:
        """The last one before this, if this tensor has one now."""
        given = self.tracks[index].gradients
        earlier = [gradient for gradient in given[:k] if gradient is not None]
        return given[k] if given[k] is None or not earlier else earlier[-1]


class FirstDecides(Road):
    """A parameter group is left alone wherever its first tensor has no gradient."""

    def gradient(self, k: int, index: int) -> Array | None:
        """None for all of the group."""
        first = next(track for track in self.tracks if track.group == self.tracks[index].group)
        return None if first.gradients[k] is None else super().gradient(k, index)


class Counted(Road):
    """The rule is told another number of the update; `how` makes it of this replay, the update and the tensor."""

    how: ClassVar[Callable[[Counted, int, int], int]]

    def __init__(self, observed: Observation, rules: Rules) -> None:
        """Nothing has been visited."""
        super().__init__(observed, rules)
        self.visits: Counter[int] = Counter()

    def count(self, k: int, index: int) -> int:
        """That of the mistake."""
        self.visits[self.tracks[index].group] += 1
        return type(self).how(self, k, index)

    def first(self, k: int, index: int) -> int:
        """The first tensor of the group that has a gradient."""
        group = self.tracks[index].group
        return next(i for i, t in enumerate(self.tracks) if t.group == group and t.gradients[k] is not None)


ROADS: Mapping[str, type[Road]] = {
    "the update is never applied": Dropped,
    "the gradient has the wrong sign": Ascending,
    "each update is made with the gradient of the one before": Late,
    "a parameter group is left alone where its first tensor has no gradient": FirstDecides,
}

TIMES: Mapping[str, Callable[[int], int]] = {
    "every update is made twice": lambda number: 2,
    "the first update is made twice": lambda number: 2 if number == 1 else 1,
    "the first update is made three times": lambda number: 3 if number == 1 else 1,
}

COUNTS: Mapping[str, Callable[[Counted, int, int], int]] = {
    "the count of updates is one behind": lambda road, k, index: road.counts[index] - 1,
    "the count of updates is one ahead": lambda road, k, index: road.counts[index] + 1,
    "the count of updates does not advance": lambda road, k, index: 1,
    "the count of updates advances with every tensor of the group": lambda road, k, index: road.visits[
        road.tracks[index].group
    ],
    "the count of updates advances with every tensor": lambda road, k, index: road.visits.total(),
    "the count of updates is that of the group's first tensor": lambda road, k, index: road.counts[
        road.first(k, index)
    ],
    "the count of updates is the optimizer's, not the tensor's own": lambda road, k, index: k + 1,
}


def hypotheses(rules: Rules) -> Iterator[Hypothesis]:
    """All of them for these rules."""
    for words, road in ROADS.items():
        yield Hypothesis(words, road=road)
    for words, times in TIMES.items():
        yield Hypothesis(words, road=told(Repeated, how=staticmethod(times)))
    rule = rules[0][0]
    for words, count in COUNTS.items() if counting(rule) and not isinstance(rule, SGD) else ():  # it knows the first
        yield Hypothesis(words, road=told(Counted, how=staticmethod(count)))


def told(road: type[Road], **what: object) -> type[Road]:
    """A subclass of `road` that knows what it leaves open."""
    return type(road.__name__, (road,), what)


def counting(rule: Rule) -> bool:
    """Whether it makes a difference to `rule` which of its updates one is."""
    value, gradient = np.array([[0.5, -0.3], [0.2, 0.7]]), np.array([[0.1, 0.4], [-0.6, 0.2]])
    with np.errstate(all="ignore"):
        early, late = (rule.step(value, gradient, rule.start(value), t) for t in (1, 7))
    return not np.array_equal(early, late, equal_nan=True)
