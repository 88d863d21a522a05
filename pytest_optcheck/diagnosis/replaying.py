"""Rules run over the gradients of an observed training: where would the parameters have gone?

The gradients are those that the observed optimizer got, so a replay departs from what was observed by what the two
rules do with the same gradients, and by nothing that a network makes of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pytest_optcheck import building
from pytest_optcheck.oracles.adapter import settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from pytest_optcheck.diagnosis.observing import Observation
    from pytest_optcheck.oracles.base import Array, Rule, State

Rules: TypeAlias = "tuple[tuple[Rule, ...], ...]"
"""Parameter group × update -> the rule with the settings that hold there."""

BROKEN = (ArithmeticError, ValueError, np.linalg.LinAlgError)
"""What a rule may raise that was altered: it divides by zero, or hands on what is not finite."""


def rules_of(
    rule: Rule, grouped: Collection[str], rates: Sequence[Sequence[float]], groups: int, updates: int
) -> Rules:
    """`rule` with the settings of each parameter group and the learning rates of its schedule.

    Args:
        rule: of the first group, without a schedule.
        grouped: names of the settings that the optimizer keeps in its groups, where later ones are altered.
        rates: by group and update, as a golden keeps them; empty without a schedule.
        groups: how many there are.
        updates: how many.
    """
    settings = {name: value for name, value in settings_of(rule).items() if name in grouped}
    found = []
    for group in range(groups):
        own = dict(settings)
        if group:
            building.alter(own, rates=not rates)
        settled = replace(rule, **own)
        scheduled = rates[min(group, len(rates) - 1)] if rates else ()
        found.append(
            tuple(replace(settled, lr=lr) for lr in scheduled[:updates]) if scheduled else (settled,) * updates
        )
    return tuple(found)


def altered(rules: Rules, alter: Callable[[Rule], Rule]) -> Rules:
    """`rules` with each of them altered, once where it is the same in many places."""
    known: dict[int, Rule] = {}
    for group in rules:
        for rule in group:
            if id(rule) not in known:
                known[id(rule)] = alter(rule)
    return tuple(tuple(known[id(rule)] for rule in group) for group in rules)


class Road:
    """One replay: parameters, state and counts on their way; a subclass gets the bookkeeping wrong in one way."""

    def __init__(self, observed: Observation, rules: Rules) -> None:
        """Everything as it was before the first update."""
        self.tracks = observed.tracks
        self.rules = rules
        self.values = [track.start for track in self.tracks]
        self.states: list[State | None] = [None] * len(self.tracks)
        self.counts = [0] * len(self.tracks)

    def update(self, k: int) -> None:
        """Update number `k` (from 0) of all tensors that have a gradient."""
        for index in range(len(self.tracks)):
            gradient = self.gradient(k, index)
            if gradient is not None:
                self.values[index] = self.stepped(k, index, gradient)

    def gradient(self, k: int, index: int) -> Array | None:
        """What tensor `index` gets; None leaves it alone."""
        return self.tracks[index].gradients[k]

    def stepped(self, k: int, index: int, gradient: Array) -> Array:
        """Its value after the update."""
        value, state = self.values[index], self.state(k, index)
        self.counts[index] += 1
        return np.asarray(self.rule(k, index).step(value, gradient, state, self.count(k, index)))

    def state(self, k: int, index: int) -> State:
        """What its rule remembers of it."""
        known = self.states[index]
        if known is None:
            known = self.states[index] = self.rule(k, index).start(self.values[index])
        return known

    def rule(self, k: int, index: int) -> Rule:
        """What updates it."""
        return self.rules[self.tracks[index].group][k]

    def count(self, k: int, index: int) -> int:  # noqa: ARG002 - others count otherwise
        """The number of its update, as the rule is told."""
        return self.counts[index]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One thing that may have happened to an optimizer.

    Attributes:
        words: what, in the words of a report.
        alter: makes the rules that it follows then; None where it says nothing of such rules.
        road: how they are run.
        fitted: how many numbers were fitted to what was observed: with enough of them anything is explained.
    """

    words: str
    alter: Callable[[Rules], Rules | None] = lambda rules: rules
    road: Callable[[Observation, Rules], Road] = Road
    fitted: int = 0


UNALTERED = Hypothesis("unaltered")


def replay(observed: Observation, rules: Rules, hypothesis: Hypothesis, updates: int) -> Array | None:
    """The values after each of the first `updates`, as `Observation.values`; None where the rule breaks down."""
    followed = hypothesis.alter(rules)
    if followed is None:
        return None
    ways: list[list[Array]] = [[] for _ in observed.tracks]
    with np.errstate(all="ignore"):
        road = hypothesis.road(observed, followed)
        for k in range(updates):
            try:
                road.update(k)
            except BROKEN:
                return None
            for way, value in zip(ways, road.values, strict=True):
                way.append(value)
    return observed.rows(ways)


def deviations(observed: Observation, rules: Rules, hypothesis: Hypothesis, updates: int) -> Array:
    """Updates × tensors: how far the replay lies from what was observed; infinitely far where there is none."""
    values = replay(observed, rules, hypothesis, updates)
    if values is None:
        return np.full((updates, len(observed.tracks)), np.inf)
    return observed.deviations(values)
