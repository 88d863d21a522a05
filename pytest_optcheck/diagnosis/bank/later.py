"""What goes wrong with time: state or counts lost in mid-run, and learning rates that are written back and compound."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_optcheck.diagnosis.bank.bookkeeping import counting, told
from pytest_optcheck.diagnosis.replaying import Hypothesis, Road
from pytest_optcheck.oracles.adafactor import Adafactor, rms
from pytest_optcheck.oracles.adagrad import Adagrad
from pytest_optcheck.oracles.adam import Adam
from pytest_optcheck.oracles.adamax import Adamax

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_optcheck.diagnosis.observing import Observation
    from pytest_optcheck.diagnosis.replaying import Rules
    from pytest_optcheck.oracles.base import Array, Rule

    Factor = Callable[[Any, int, Array], float]

EVERYTHING = "everything"
"""In the place of the name of one item of the state."""


class Forgetting(Road):
    """At the beginning of update `when` something is lost: an item of the state, or all of it, and the count."""

    when: ClassVar[int]
    what: ClassVar[str]
    recount: ClassVar[bool]

    def update(self, k: int) -> None:
        """Lose it when it is time."""
        for index in range(len(self.tracks)) if k == self.when else ():
            self._forget(k, index)
        super().update(k)

    def _forget(self, k: int, index: int) -> None:
        if self.recount:
            self.counts[index] = 0
        state = self.states[index]
        if state is not None and self.what:
            anew = self.rule(k, index).start(self.values[index])
            state.update({name: value for name, value in anew.items() if self.what in (EVERYTHING, name)})


class Stopped(Road):
    """From update `when` on no update is applied."""

    when: ClassVar[int]

    def stepped(self, k: int, index: int, gradient: Array) -> Array:
        """The old value then."""
        return super().stepped(k, index, gradient) if k < self.when else self.values[index]


class Compounding(Road):
    """The learning rate of a group is multiplied by `how` for good, after every tensor or after every update.

    `how` makes the factor of the rule, the count of the update and the parameter before it.
    """

    how: ClassVar[Factor]
    each_tensor: ClassVar[bool]

    def __init__(self, observed: Observation, rules: Rules) -> None:
        """Nothing has been multiplied yet."""
        super().__init__(observed, rules)
        self.factors = [1.0] * len(rules)
        self.pending = list(self.factors)

    def update(self, k: int) -> None:
        """And what is due at its end."""
        super().update(k)
        if not self.each_tensor:
            self.factors = [factor * due for factor, due in zip(self.factors, self.pending, strict=True)]
        self.pending = [1.0] * len(self.factors)

    def rule(self, k: int, index: int) -> Rule:
        """With the learning rate that has come about."""
        rule = super().rule(k, index)
        return replace(rule, lr=rule.lr * self.factors[self.tracks[index].group])

    def stepped(self, k: int, index: int, gradient: Array) -> Array:
        """The step, and the factor of the next."""
        group, before = self.tracks[index].group, self.values[index]
        new = super().stepped(k, index, gradient)
        factor = float(type(self).how(super().rule(k, index), self.counts[index], before))
        self.pending[group] = factor
        if self.each_tensor:
            self.factors[group] *= factor
        return new


def _first_correction(rule: Adam, t: int, before: Array) -> float:  # noqa: ARG001 - of the count alone
    return 1.0 / rule.corrections(t)[0]


def _both_corrections(rule: Adam, t: int, before: Array) -> float:  # noqa: ARG001 - ditto
    first, second = rule.corrections(t)
    return float(second**0.5 / first)


def _correction(rule: Adamax, t: int, before: Array) -> float:  # noqa: ARG001 - ditto
    return 1.0 / rule.correction(t)


def _decay(rule: Adagrad, t: int, before: Array) -> float:  # noqa: ARG001 - ditto
    return 1.0 / (1.0 + (t - 1) * rule.lr_decay)


def _size(rule: Adafactor, t: int, before: Array) -> float:  # noqa: ARG001 - of the parameter alone
    return max(rule.eps[1], rms(before))


COMPOUNDING: tuple[tuple[str, type[Any], Factor], ...] = (
    ("divided by the first moment's correction", Adam, _first_correction),
    ("multiplied by both corrections", Adam, _both_corrections),
    ("divided by the first moment's correction", Adamax, _correction),
    ("decayed", Adagrad, _decay),
    ("multiplied by the size of the parameter", Adafactor, _size),
)
"""What is done to the learning rate, in which family, and the factor."""


def hypotheses(rules: Rules, departure: int, start: Array) -> Iterator[Hypothesis]:
    """All of them for these rules.

    Args:
        rules: as they should be.
        departure: the first update (from 0) that is not theirs.
        start: a parameter, whose state is looked at.
    """
    rule = rules[0][0]
    for what, family, how in COMPOUNDING:
        for each_tensor, often in ((True, "every tensor"), (False, "every update")):
            if isinstance(rule, family):
                words = f"the learning rate, {what}, is written back and compounds with {often}"
                road = told(Compounding, how=staticmethod(how), each_tensor=each_tensor)
                yield Hypothesis(words, road=road)
    if not departure:
        return
    yield Hypothesis(f"no update is applied after update {departure}", road=told(Stopped, when=departure))
    state = rule.start(start)
    forget = partial(told, Forgetting, when=departure)
    after = f"after update {departure}"
    if state:
        yield Hypothesis(f"the state is lost {after}", road=forget(what=EVERYTHING, recount=False))
    for name in state if len(state) > 1 else ():
        yield Hypothesis(f"{name} is lost {after}", road=forget(what=name, recount=False))
    if counting(rule):
        yield Hypothesis(f"the count of updates is lost {after}", road=forget(what="", recount=True))
    if state and counting(rule):
        yield Hypothesis(f"state and count of updates are lost {after}", road=forget(what=EVERYTHING, recount=True))
