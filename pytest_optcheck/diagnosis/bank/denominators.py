"""What is divided by: eps in the wrong place, squared, doubled, and roots that are lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_optcheck.diagnosis.bank.base import Mistake, mistakes, mixing
from pytest_optcheck.oracles.adadelta import Adadelta
from pytest_optcheck.oracles.adafactor import Adafactor
from pytest_optcheck.oracles.adagrad import Adagrad
from pytest_optcheck.oracles.adam import Adam
from pytest_optcheck.oracles.lamb import LAMB
from pytest_optcheck.oracles.rmsprop import RMSprop

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_optcheck.oracles.base import Array, Rule


class Denominator(Adam):
    """Adam with another denominator, of the second moment, its correction and eps."""

    how: ClassVar[Callable[[Array, float, float], Array]]

    def denominator(self, moment: Array, correction: float) -> Array:
        """That of the mistake."""
        return type(self).how(moment, correction, self.eps)


class Quotient(Adam):
    """Adam whose step is another function of the direction, the root of the second moment, eps and learning rate."""

    how: ClassVar[Callable[[Array, Array, float, float], Array]]

    def denominator(self, moment: Array, correction: float) -> Array:
        """The root alone."""
        return np.sqrt(moment / correction)

    def moved(self, parameter: Array, direction: Array, denominator: Array) -> Array:
        """By the step of the mistake."""
        return parameter - type(self).how(direction, denominator, self.eps, self.lr)


class Total(Adagrad):
    """Adagrad with another denominator, of the sum of squares and eps."""

    how: ClassVar[Callable[[Array, float], Array]]

    def denominator(self, total: Array) -> Array:
        """That of the mistake."""
        return type(self).how(total, self.eps)


class Variance(RMSprop):
    """RMSprop with another denominator, of the variance and eps."""

    how: ClassVar[Callable[[Array, float], Array]]

    def denominator(self, square: Array, mean: Array) -> Array:
        """That of the mistake."""
        return type(self).how(square - mean**2, self.eps)


class Root(Adadelta):
    """Adadelta with other roots of its averages, of an average and eps."""

    how: ClassVar[Callable[[Array, float], Array]]

    def root(self, average: Array) -> Array:
        """That of the mistake."""
        return type(self).how(average, self.eps)


class EpsOutside(Adafactor):
    """Adafactor that adds eps to the root and not to the squares."""

    @property
    def eps1(self) -> float:
        """Nothing is added to the squares."""
        return 0.0

    @property
    def added(self) -> float:
        """What is added elsewhere."""
        return super().eps1

    def root(self, estimate: Array) -> Array:
        """√V + ε₁."""
        return np.sqrt(estimate) + self.added


class EpsUnderRoot(EpsOutside):
    """Adafactor that adds eps under the root and not to the squares."""

    def root(self, estimate: Array) -> Array:
        """√(V + ε₁)."""
        return np.sqrt(estimate + self.added)


class UndefinedAdam(Adam):
    """Adam in which 0/0 is not a number, as it is wherever eps is lost; the textbook lets such an element be."""

    def denominator(self, moment: Array, correction: float) -> Array:
        """Its own, or not a number."""
        return _undefined(super().denominator(moment, correction))


class UndefinedAdagrad(Adagrad):
    """The same of Adagrad."""

    def denominator(self, total: Array) -> Array:
        """Its own, or not a number."""
        return _undefined(super().denominator(total))


class UndefinedRMSprop(RMSprop):
    """The same of RMSprop."""

    def denominator(self, square: Array, mean: Array) -> Array:
        """Its own, or not a number."""
        return _undefined(super().denominator(square, mean))


def _undefined(denominator: Array) -> Array:
    return np.where(denominator == 0.0, np.nan, denominator)


def undefined(rule: Rule) -> Rule:
    """`rule` in which 0/0 is not a number, if it is of a family that knows such a thing."""
    for family, kind in ((Adam, UndefinedAdam), (Adagrad, UndefinedAdagrad), (RMSprop, UndefinedRMSprop)):
        if isinstance(rule, family):
            return mixing(kind)(rule)
    return rule


_OF_ONE: dict[str, Callable[[Array, float], Array]] = {
    "eps under the root": lambda square, eps: np.sqrt(square + eps),
    "eps beside the root": lambda square, eps: np.sqrt(square) + eps,
    "eps under the root and beside it": lambda square, eps: np.sqrt(square + eps) + eps,
    "eps squared under the root": lambda square, eps: np.sqrt(square + eps**2),
    "eps is a floor of the root": lambda square, eps: np.maximum(np.sqrt(square), eps),
    "eps is a floor under the root": lambda square, eps: np.sqrt(np.maximum(square, eps)),
    "root missing": lambda square, eps: square + eps,
}

MISTAKES: tuple[Mistake, ...] = (
    *mistakes(
        Denominator,
        {
            "eps added before the second moment is corrected": lambda v, c, eps: (np.sqrt(v) + eps) / np.sqrt(c),
            "eps added after the second moment is corrected": lambda v, c, eps: np.sqrt(v / c) + eps,
            "eps under the root": lambda v, c, eps: np.sqrt(v / c + eps),
            "eps under the root, before the second moment is corrected": lambda v, c, eps: np.sqrt((v + eps) / c),
            "eps under the root and beside it": lambda v, c, eps: np.sqrt(v / c + eps) + eps,
            "eps squared": lambda v, c, eps: np.sqrt(v / c) + eps**2,
            "eps squared under the root": lambda v, c, eps: np.sqrt(v / c + eps**2),
            "the root of eps in the place of eps": lambda v, c, eps: np.sqrt(v / c) + np.sqrt(eps),
            "eps subtracted": lambda v, c, eps: np.sqrt(v / c) - eps,
            "eps is a floor of the root": lambda v, c, eps: np.maximum(np.sqrt(v / c), eps),
            "eps is a floor under the root": lambda v, c, eps: np.sqrt(np.maximum(v / c, eps)),
            "root of the second moment missing": lambda v, c, eps: v / c + eps,
        },
    ),
    *mistakes(
        Quotient,
        {
            "eps added to the quotient (m/√v + eps)": lambda m, root, eps, lr: lr * (m / root + eps),
            "eps added to the reciprocal root (1/√v + eps)": lambda m, root, eps, lr: lr * m * (1.0 / root + eps),
            "step size folded into the denominator, which a rate of 0 makes infinite": lambda m, root, eps, lr: (
                m / (np.divide(root, lr) + np.divide(eps, lr))
            ),
            "step size folded into the root and not into eps": lambda m, root, eps, lr: m / (np.divide(root, lr) + eps),
            "multiplied by the root, not divided": lambda m, root, eps, lr: lr * m * (root + eps),
        },
        unless=(LAMB,),
    ),
    *mistakes(Total, _OF_ONE),
    *mistakes(Variance, _OF_ONE),
    *mistakes(Root, {words: how for words, how in _OF_ONE.items() if words != "root missing"}),
    Mistake("eps added to the root, not to the squares", Adafactor, mixing(EpsOutside)),
    Mistake("eps added under the root, not to the squares", Adafactor, mixing(EpsUnderRoot)),
)
