"""How a mistake in a formula is written down: as a subclass of the rule it is made in, mixed into the rule at hand."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_optcheck.diagnosis.replaying import Hypothesis, altered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_optcheck.diagnosis.replaying import Rules
    from pytest_optcheck.oracles.base import Rule

WORDS: Mapping[str, str] = {
    "lr": "learning rate",
    "weight_decay": "weight decay",
    "betas[0]": "beta1",
    "betas[1]": "beta2",
}
"""Settings as people call them, where that is another name."""


AnyRule: TypeAlias = Any
"""A class of rules, or several; some are abstract, which ``type[Rule]`` is not."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake in the formula of a family.

    Attributes:
        words: what is wrong.
        family: the rules it can be made in.
        alter: makes such a rule a wrong one.
        unless: the rules of the family in which it would mean something else, or nothing.
    """

    words: str
    family: AnyRule
    alter: Callable[[Any], Rule]
    unless: tuple[type[Rule], ...] = ()

    def fits(self, rule: Rule) -> bool:
        """Whether it can be made in `rule`."""
        return isinstance(rule, self.family) and not isinstance(rule, self.unless)

    def hypothesis(self) -> Hypothesis:
        """That it was made, in the rules of all groups."""
        return Hypothesis(self.words, functools.partial(altered, alter=self.alter))


def mixing(mistake: type[Rule]) -> Callable[[Rule], Rule]:
    """What mixes `mistake` into a rule: its methods, and below them those of the rule's own class."""
    return functools.partial(_mixed, mistake)


def mistakes(pattern: AnyRule, table: Mapping[str, Callable[..., Any]], **where: Any) -> tuple[Mistake, ...]:  # noqa: ANN401 - fields of a mistake
    """One for each row of `table`: a subclass of `pattern` whose ``how`` is the function that stands there."""
    family = where.pop("family", pattern.__mro__[1])
    return tuple(
        Mistake(words, family, mixing(type(pattern.__name__, (pattern,), {"how": staticmethod(how)})), **where)
        for words, how in table.items()
    )


def setting(**values: Any) -> Callable[[Rule], Rule]:  # noqa: ANN401 - any setting
    """What sets fields of a rule."""
    return lambda rule: replace(rule, **values)


def _mixed(mistake: type[Rule], rule: Rule) -> Rule:
    kind = _class(mistake, type(rule))
    return kind(**{field.name: getattr(rule, field.name) for field in fields(rule)})


@functools.cache
def _class(mistake: type[Rule], rule: type[Rule]) -> type[Rule]:
    return type(f"{mistake.__name__}{rule.__name__}", (mistake, rule), {})


def scalars(rule: Rule) -> dict[str, float]:
    """The settings of a rule that are numbers, those in pairs one by one, as ``lr`` and ``betas[0]``."""
    found: dict[str, float] = {}
    for field in fields(rule):
        if field.type == "int":  # a number of times, not a size
            continue
        value = getattr(rule, field.name)
        many = value if isinstance(value, tuple) else (value,)
        for index, number in enumerate(many):
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                found[f"{field.name}[{index}]" if isinstance(value, tuple) else field.name] = float(number)
    return found


def with_scalars(rule: Rule, values: Mapping[str, float]) -> Rule:
    """`rule` with some of its `scalars` replaced."""
    changed: dict[str, Any] = {}
    for name, value in values.items():
        field, bracket, index = name.partition("[")
        if not bracket:
            changed[field] = value
            continue
        whole = list(changed.get(field, getattr(rule, field)))
        whole[int(index.rstrip("]"))] = value
        changed[field] = tuple(whole)
    return replace(rule, **changed)


def with_step_rate(rule: Rule, lr: float) -> Rule:
    """`rule` with another learning rate of its steps, and decoupled weight decay as it was."""
    decay: float = getattr(rule, "weight_decay", 0.0)
    return with_scalars(rule, {"lr": lr, "weight_decay": decay * rule.lr / lr}) if lr else rule


def shared(rules: Rules) -> Rule:
    """The rule that stands for all groups where only their settings differ: the first."""
    return rules[0][0]


def called(name: str) -> str:
    """A setting as people call it."""
    return WORDS.get(name, name)
