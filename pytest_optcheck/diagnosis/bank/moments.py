"""Moments and other averages: coefficients exchanged or lost, the wrong power, too few bits, a tail of their own."""

# ruff: noqa: ARG005 - the rows of a table share one signature
from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np

from pytest_optcheck.diagnosis.bank.base import Mistake, mistakes
from pytest_optcheck.diagnosis.bank.formats import FORMATS
from pytest_optcheck.oracles.adagrad import Adagrad
from pytest_optcheck.oracles.adam import Adam
from pytest_optcheck.oracles.adamax import Adamax
from pytest_optcheck.oracles.base import averaged
from pytest_optcheck.oracles.lion import Lion
from pytest_optcheck.oracles.rmsprop import RMSprop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_optcheck.oracles.base import Array

    Average: TypeAlias = Callable[[Array, Array, float], Array]

CHUNKS = (4, 8, 16, 32)
"""Elements that vector registers of 128 to 1024 bits take at once; what is left after them is a path of its own."""


class First(Adam):
    """Adam with another first moment, of the old one, the gradient and beta1."""

    how: ClassVar[Average]

    def first_moment(self, moment: Array, gradient: Array) -> Array:
        """That of the mistake."""
        return type(self).how(moment, gradient, self.betas[0])


class Second(Adam):
    """Adam with another second moment, of the old one, the gradient and beta2."""

    how: ClassVar[Average]

    def second_moment(self, moment: Array, gradient: Array) -> Array:
        """That of the mistake."""
        return type(self).how(moment, gradient, self.betas[1])


class LionFirst(Lion):
    """Lion with another first moment, of the old one, the gradient and beta2."""

    how: ClassVar[Average]

    def first_moment(self, moment: Array, gradient: Array) -> Array:
        """That of the mistake."""
        return type(self).how(moment, gradient, self.betas[1])


class MaxFirst(Adamax):
    """Adamax with another first moment, of the old one, the gradient and beta1."""

    how: ClassVar[Average]

    def first_moment(self, moment: Array, gradient: Array) -> Array:
        """That of the mistake."""
        return type(self).how(moment, gradient, self.betas[0])


class MaxNorm(Adamax):
    """Adamax with another norm, of the old one, |g| and beta2."""

    how: ClassVar[Average]

    def norm(self, norm: Array, gradient: Array) -> Array:
        """That of the mistake."""
        return type(self).how(norm, np.abs(gradient) + self.eps, self.betas[1])


class Squares(RMSprop):
    """RMSprop with another average of squares, of the old one, the gradient and alpha."""

    how: ClassVar[Average]

    def second_moment(self, moment: Array, gradient: Array) -> Array:
        """That of the mistake."""
        return type(self).how(moment, gradient, self.alpha)


class Total(Adagrad):
    """Adagrad with another sum, of the old one and the gradient."""

    how: ClassVar[Callable[[Array, Array], Array]]

    def accumulated(self, total: Array, gradient: Array) -> Array:
        """That of the mistake."""
        return type(self).how(total, gradient)


def _squared_tail(moment: Array, gradient: Array, beta: float, chunk: int) -> Array:
    """m·β1 multiplied by m once more, after the last full chunk."""
    kept = np.array(averaged(moment, gradient, beta)).ravel()
    old = np.ravel(moment)
    tail = slice(kept.size // chunk * chunk, None)
    kept[tail] += beta * (old[tail] ** 2 - old[tail])
    return kept.reshape(np.shape(moment))


def _of_square(old: Array, new: Array, beta: float, how: Average) -> Array:
    return how(old, new**2, beta)


def _of_narrow_square(old: Array, new: Array, beta: float, kind: Callable[[Array], Array]) -> Array:
    return averaged(old, kind(kind(new) ** 2), beta)


_AVERAGES: Mapping[str, Average] = {
    "{}: coefficients exchanged, (1 - β)·old + β·new": lambda old, new, beta: averaged(old, new, 1.0 - beta),
    "{}: the factor 1 - β lost": lambda old, new, beta: beta * old + new,
    "{}: the factor β lost": lambda old, new, beta: old + (1.0 - beta) * new,
    "{}: a plain sum": lambda old, new, beta: old + new,
}

_SQUARES: Mapping[str, Average] = {
    **{words: partial(_of_square, how=how) for words, how in _AVERAGES.items()},
    "{}: never updated": lambda old, new, beta: old,
    "{}: |g| in the place of g²": lambda old, new, beta: averaged(old, np.abs(new), beta),
    "{}: g in the place of g²": averaged,
    "{}: a maximum in the place of an average": lambda old, new, beta: np.maximum(beta * old, new**2),
    **{f"{{}}: g² computed in {name}": partial(_of_narrow_square, kind=kind) for name, kind in FORMATS.items()},
}

_TAILS: Mapping[str, Average] = {
    f"{{}}: multiplied by itself after the last full chunk of {chunk} elements": partial(_squared_tail, chunk=chunk)
    for chunk in CHUNKS
}


def _of(what: str, *tables: Mapping[str, Average]) -> dict[str, Average]:
    return {words.format(what): how for table in tables for words, how in table.items()}


MISTAKES: tuple[Mistake, ...] = (
    *mistakes(First, _of("first moment", _AVERAGES, _TAILS)),
    *mistakes(Second, _of("second moment", _SQUARES)),
    *mistakes(LionFirst, _of("momentum", _AVERAGES)),
    *mistakes(MaxFirst, _of("first moment", _AVERAGES)),
    *mistakes(
        MaxNorm,
        {
            "a minimum in the place of the maximum": lambda old, new, beta: np.minimum(beta * old, new),
            "a sum in the place of the maximum": lambda old, new, beta: beta * old + new,
            "an average in the place of the maximum": averaged,
            "the maximum does not decay": lambda old, new, beta: np.maximum(old, new),
        },
    ),
    *mistakes(Squares, _of("average of squares", _SQUARES)),
    *mistakes(
        Total,
        {
            "|g| in the place of g²": lambda total, new: total + np.abs(new),
            "the sum of squares is not kept": lambda total, new: new**2,
            "a maximum in the place of the sum": lambda total, new: np.maximum(total, new**2),
        },
    ),
)
