"""Settings that have other values: each in turn is fitted to what was observed."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pytest_optcheck.diagnosis.bank.base import called, scalars, with_scalars, with_step_rate
from pytest_optcheck.diagnosis.bank.decay import decays
from pytest_optcheck.diagnosis.replaying import Hypothesis, altered, replay

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_optcheck.diagnosis.observing import Observation
    from pytest_optcheck.diagnosis.replaying import Rules
    from pytest_optcheck.oracles.base import Array, Rule

STEP_RATE = "learning rate of the steps, not of the decay,"
"""Fitted like a setting, where weight decay is decoupled."""

FITTED_UPDATES = 6
"""Updates that a setting is fitted to, from the first that departs: it is one number."""

FITTED_TENSORS = 6
"""Tensors that it is fitted to, those that depart the most; what comes out is held against all of them."""

FITTED_NUMBERS = 2_000
"""Elements of the largest of them, if there are smaller ones."""

SOON = 3
"""A setting that was another from the beginning shows by this update; one that shows later was changed then."""

EPS_FACTORS = (1.0, 1e-4, 1e-2, 1e2, 1e4)
"""From where eps is fitted: it changes by orders of magnitude, if it changes at all."""

VALUES = (1e-2, 0.5)
"""From where a setting is fitted that is 0."""

TRIES = 20
"""Replays that a fit may take: where the rule is the right one, it has converged after half of them."""

ROUGH = 1e-2
"""The largest deviation with which a fit is looked at any further: it ends at 1e-9, or nowhere near."""

FAR = 1e6
"""What a deviation counts in a fit that is larger, or not finite."""

DIGITS, MANY_DIGITS = 7, 12
"""Significant digits of a fitted number in a report, and of one that is as good as the old one."""

CLOSE = 1e-5
"""A factor nearer to 1 is told by what it differs by."""


@dataclass(frozen=True, slots=True)
class Change:
    """A setting that is another from some update on.

    Attributes:
        name: of the setting, or `STEP_RATE`.
        since: the update (from 0).
        by: a factor for each parameter group; what is 0 in the first group becomes this.
    """

    name: str
    since: int
    by: tuple[float, ...]

    def __call__(self, rules: Rules) -> Rules:
        """`rules` under the change."""
        return tuple(
            (*group[: self.since], *altered((group[self.since :],), partial(self._changed, by=by))[0])
            for group, by in zip(rules, self.by, strict=True)
        )

    def _changed(self, rule: Rule, by: float) -> Rule:
        if self.name == STEP_RATE:
            return with_step_rate(rule, rule.lr * by)
        value = scalars(rule)[self.name]
        return with_scalars(rule, {self.name: value * by if value else by})


def hypotheses(
    observed: Observation, rules: Rules, departure: int, which: Sequence[int], ratio: float
) -> Iterator[Hypothesis]:
    """For each setting the change that explains the most, as far as one comes near.

    Args:
        observed: what the optimizer does now.
        rules: what it should do.
        departure: the first update (from 0) that is not theirs.
        which: the tensors that depart, those first that depart the most.
        ratio: of the first step that departs to that of the rule, negative where it leads the other way; may be NaN.
    """
    updates = min(observed.updates, departure + FITTED_UPDATES)
    since = departure if departure > SOON else 0
    after = f" after update {since}" if since else ""
    few = _few(observed, which)
    numbers = scalars(rules[0][0])
    for name in (*numbers, *([STEP_RATE] if decays(rules[0][0]) else [])):
        value = numbers.get(name, numbers["lr"])
        by = _fitted(few, rules, updates, Change(name, since, ()), _starts(name, value, ratio))
        if by is not None:
            change = Change(name, since, (by,) * len(rules))
            yield Hypothesis(_words(name, value, by) + after, change, fitted=1)
    groups = sorted({observed.tracks[index].group for index in which})
    if len(groups) == len(rules) > 1:
        apart = [
            _few(observed, [index for index in which if observed.tracks[index].group == group]) for group in groups
        ]
        found = [_fitted(own, rules, updates, Change("lr", since, ()), _starts("lr", 1.0, ratio)) for own in apart]
        factors = tuple(by for by in found if by is not None)
        if len(factors) == len(rules):
            what = ", ".join(f"× {_short(by)} in parameter group {group}" for group, by in enumerate(factors))
            yield Hypothesis(f"{called('lr')} {what}{after}", Change("lr", since, factors), fitted=len(rules))


def _few(observed: Observation, which: Sequence[int]) -> Observation:
    """As many tensors as a number is fitted to, small ones if there are any."""
    sizes = {index: observed.tracks[index].start.size for index in which}
    small = [index for index in which if sizes[index] <= FITTED_NUMBERS] or [min(which, key=sizes.__getitem__)]
    return observed.only(small[:FITTED_TENSORS])


def _starts(name: str, value: float, ratio: float) -> tuple[float, ...]:
    """From where a setting of this value is fitted."""
    if not value:
        return VALUES
    if name in ("lr", STEP_RATE) and np.isfinite(ratio) and ratio:
        return (ratio, 1.0)
    return EPS_FACTORS if name.startswith("eps") else (1.0,)


def _words(name: str, value: float, by: float) -> str:
    if not value:
        return f"{called(name)} is {_short(by)}, not 0"
    digits = DIGITS if abs(by - 1.0) >= CLOSE else MANY_DIGITS
    return f"{called(name)} × {_short(by)} ({value:.{DIGITS}g} → {value * by:.{digits}g})"


def _short(by: float) -> str:
    close = abs(by - 1.0) < CLOSE
    return f"(1 {'+' if by > 1.0 else '-'} {abs(by - 1.0):.2g})" if close else f"{by:.{DIGITS}g}"


def _fitted(observed: Observation, rules: Rules, updates: int, change: Change, starts: Sequence[float]) -> float | None:
    """By what a setting would have to change in all groups; None where no change comes near what was observed."""
    from scipy import optimize  # type: ignore[import-untyped] # at the top it would take as long as a whole search

    seen = observed.values[:updates]
    scale = np.repeat(observed.scale[:updates], [track.start.size for track in observed.tracks], axis=1)

    def residuals(by: Array) -> Array:
        changed = replace(change, by=(float(by[0]),) * len(rules))
        values = replay(observed, rules, Hypothesis("", changed), updates)
        if values is None:
            return np.full(seen.size, FAR)
        with np.errstate(all="ignore"):
            apart = np.where((values == seen) | (np.isnan(values) & np.isnan(seen)), 0.0, (values - seen) / scale)
        bounded: Array = np.clip(np.nan_to_num(apart, nan=FAR), -FAR, FAR)
        return bounded.ravel()

    for start in starts:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of fits that go nowhere
            found = optimize.least_squares(
                residuals, np.array([start]), method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=TRIES
            )
        if np.abs(found.fun).max() <= ROUGH:
            return float(found.x[0])
    return None
