"""Settings that are exchanged, dropped, turned, rounded, or lent from one parameter group to the others."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from pytest_optcheck.diagnosis.bank.base import called, scalars, shared, with_scalars, with_step_rate
from pytest_optcheck.diagnosis.bank.decay import decays
from pytest_optcheck.diagnosis.bank.denominators import undefined
from pytest_optcheck.diagnosis.bank.formats import FORMATS
from pytest_optcheck.diagnosis.replaying import Hypothesis, altered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_optcheck.diagnosis.replaying import Rules
    from pytest_optcheck.oracles.base import Array, Rule

DROPPED = {
    "weight_decay": "weight decay dropped",
    "momentum": "momentum not used",
    "betas[0]": "beta1 counts as 0: momentum not used",
    "betas[1]": "beta2 counts as 0: the average it belongs to forgets at once",
    "eps": "eps dropped",
    "dampening": "dampening not used",
}
"""What it means that a setting counts as 0, where there is more to say than that."""

TURNED = {
    "nesterov": ("Nesterov momentum gained", "Nesterov momentum lost"),
    "centered": ("the second moment is centered", "the second moment is not centered"),
    "backtracking": ("where a gradient turns, the last step is taken back", "no step is taken back"),
}
"""A flag that is on, and one that is off, where there is more to say than that."""

ELSEWHERE = frozenset(("maximize", "eps_before_correction", "eps_outside"))
"""Flags that are turned elsewhere in the bank, with the mistakes they are among."""

TABLES = ("ns_coefficients", "etas", "step_sizes")
"""Settings that are several numbers of one kind: none of them is dropped, or taken for another setting."""


def hypotheses(rules: Rules) -> Iterator[Hypothesis]:
    """All of them for these rules."""
    rule = shared(rules)
    numbers = scalars(rule)
    for name in numbers:
        words = DROPPED.get(name, f"{called(name)} counts as 0")
        if name != "lr" and numbers[name] and not name.startswith(TABLES):
            yield _everywhere(words, partial(_becoming, name=name, value=0.0))
    for factor, how in ((2.0, "doubled"), (0.5, "halved")):
        yield _everywhere(f"the learning rate is {how}", partial(_multiplied, factor=factor))
    for one, other in combinations(numbers, 2):
        if _exchangeable(one, other) and 0.0 != numbers[one] != numbers[other] != 0.0:
            yield _everywhere(f"{called(one)} and {called(other)} exchanged", partial(_exchanged, one=one, other=other))
    for field in dataclasses.fields(rule):
        value = getattr(rule, field.name)
        if isinstance(value, bool) and field.name not in ELSEWHERE and not (value and field.name == "bias_correction"):
            yield _everywhere(_turned(rule, field, on=not value), partial(replace, **{field.name: not value}))
    yield from _rounded(rule)
    yield from _groups(rules)


def _groups(rules: Rules) -> Iterator[Hypothesis]:
    """Settings that one parameter group lends the others."""
    numbers = scalars(shared(rules))
    differing = [name for name in numbers if any(_differ(group, rules[0], name) for group in rules[1:])]
    for which, words in ((0, "first"), (-1, "last")):
        for name in differing:
            what = f"every parameter group has the {called(name)} of the {words}"
            yield Hypothesis(what, partial(_lent, names=(name,), which=which))
        if "lr" in differing and decays(shared(rules)):
            what = f"every parameter group has the learning rate of the {words}, its decay apart"
            yield Hypothesis(what, partial(_step_rates_lent, which=which))
        if len(differing) > 1:
            what = f"every parameter group has all settings of the {words}"
            yield Hypothesis(what, partial(_lent, names=tuple(differing), which=which))


def _differ(group: tuple[Rule, ...], other: tuple[Rule, ...], name: str) -> bool:
    return any(scalars(one)[name] != scalars(two)[name] for one, two in zip(group, other, strict=True))


def _everywhere(words: str, alter: Callable[[Rule], Rule]) -> Hypothesis:
    return Hypothesis(words, partial(altered, alter=alter))


def _exchangeable(one: str, other: str) -> bool:
    """Whether both may stand in each other's place."""
    tables = {name.partition("[")[0] for name in (one, other) if name.startswith(TABLES)}
    return not tables or {one.partition("[")[0], other.partition("[")[0]} == tables


def _becoming(rule: Rule, name: str, value: float) -> Rule:
    """With another setting; without eps there are quotients that are not defined."""
    changed = with_scalars(rule, {name: value})
    return undefined(changed) if name == "eps" and not value else changed


def _multiplied(rule: Rule, factor: float) -> Rule:
    return replace(rule, lr=rule.lr * factor)


def _exchanged(rule: Rule, one: str, other: str) -> Rule:
    numbers = scalars(rule)
    return with_scalars(rule, {one: numbers[other], other: numbers[one]})


def _turned(rule: Rule, field: dataclasses.Field[object], *, on: bool) -> str:
    if field.name in TURNED:
        return TURNED[field.name][not on]
    what = replace(rule, **{field.name: True}).departures().get(field.name, f"{field.name} is on")
    return what if on else f"no longer: {what}"


def _rounded(rule: Rule) -> Iterator[Hypothesis]:
    """Settings that pass through a format of fewer bits."""
    for name, number in scalars(rule).items():
        for narrow, kind in FORMATS.items():
            if float(kind(np.asarray(number))) != number and not name.startswith(TABLES):
                words = f"{called(name)} rounded to {narrow}"
                yield _everywhere(words, partial(_narrowed, name=name, kind=kind))
                if name == "lr" and decays(rule):
                    yield _everywhere(f"{words}, its decay apart", partial(_narrow_steps, kind=kind))


def _narrow_steps(rule: Rule, kind: Callable[[Array], Array]) -> Rule:
    return with_step_rate(rule, float(kind(np.asarray(rule.lr))))


def _narrowed(rule: Rule, name: str, kind: Callable[[Array], Array]) -> Rule:
    return _becoming(rule, name, float(kind(np.asarray(scalars(rule)[name]))))


def _step_rates_lent(rules: Rules, which: int) -> Rules:
    """The learning rate of one group in the steps of all of them."""
    return tuple(
        tuple(with_step_rate(rule, lent.lr) for rule, lent in zip(group, rules[which], strict=True)) for group in rules
    )


def _lent(rules: Rules, names: tuple[str, ...], which: int) -> Rules:
    """The settings of one group in all of them, update by update."""
    lender = rules[which]
    return tuple(
        tuple(
            with_scalars(rule, {name: scalars(lent)[name] for name in names})
            for rule, lent in zip(group, lender, strict=True)
        )
        for group in rules
    )
