"""Elements that are left out, or end up in another's place, and numbers that are kept in too few bits."""

# ruff: noqa: ARG005 - the rows of a table share one signature
from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_optcheck.diagnosis.bank.bookkeeping import told
from pytest_optcheck.diagnosis.bank.decay import decays
from pytest_optcheck.diagnosis.bank.formats import FORMATS
from pytest_optcheck.diagnosis.bank.moments import CHUNKS
from pytest_optcheck.diagnosis.replaying import Hypothesis, Road

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_optcheck.diagnosis.replaying import Rules
    from pytest_optcheck.oracles.base import Array, Rule

    Shape = tuple[int, ...]

MATRIX, IMAGES = 2, 4
"""Dimensions of a matrix, and of the weights of a convolution."""


class Partly(Road):
    """Some elements are left where they are: those that `how` names, of a size and a shape."""

    how: ClassVar[Callable[[int, Shape], slice]]

    def stepped(self, k: int, index: int, gradient: Array) -> Array:
        """Old values in those; the state goes on in all."""
        old = self.left(k, index)
        new = np.array(super().stepped(k, index, gradient)).ravel()
        left = type(self).how(old.size, old.shape)
        new[left] = old.ravel()[left]
        return new.reshape(old.shape)

    def left(self, k: int, index: int) -> Array:  # noqa: ARG002 - see PartlyDecayed
        """What stays."""
        return self.values[index]


class PartlyDecayed(Partly):
    """The same under weight decay that is a loop of its own and misses nothing."""

    def left(self, k: int, index: int) -> Array:
        """What the decay makes of it."""
        return _decayed(self.rule(k, index), super().left(k, index))


class MemoryOrder(Road):
    """A tensor is walked in the order of memory beside an update in that of its dimensions.

    The memory is that of a transposed matrix, or of a convolution whose channels come last.
    """

    def stepped(self, k: int, index: int, gradient: Array) -> Array:
        """The step of one element ends up in another."""
        old = self.left(k, index)
        step = super().stepped(k, index, gradient) - old
        if old.ndim == MATRIX:
            return old + step.reshape(old.shape[::-1]).T
        if old.ndim == IMAGES:
            count, channels, rows, columns = old.shape
            return old + np.moveaxis(step.reshape(count, rows, columns, channels), -1, 1)
        return old + step

    def left(self, k: int, index: int) -> Array:  # noqa: ARG002 - see MemoryOrderDecayed
        """What the step is taken from."""
        return self.values[index]


class MemoryOrderDecayed(MemoryOrder):
    """The same under weight decay that is a loop of its own."""

    def left(self, k: int, index: int) -> Array:
        """What the decay makes of it."""
        return _decayed(self.rule(k, index), super().left(k, index))


class NarrowState(Road):
    """The state is kept in fewer bits."""

    how: ClassVar[Callable[[Array], Array]]

    def stepped(self, k: int, index: int, gradient: Array) -> Array:
        """Round what the update leaves behind."""
        new = super().stepped(k, index, gradient)
        state = self.state(k, index)
        for name, value in state.items():
            if isinstance(value, (np.ndarray, np.generic)):  # no counts, no products of settings
                state[name] = type(self).how(np.asarray(value))
        return new


class NarrowValues(Road):
    """The parameter is kept in fewer bits."""

    how: ClassVar[Callable[[Array], Array]]

    def stepped(self, k: int, index: int, gradient: Array) -> Array:
        """Round what the update makes."""
        return np.asarray(type(self).how(super().stepped(k, index, gradient)))


class NarrowGradients(Road):
    """The gradient is taken in fewer bits."""

    how: ClassVar[Callable[[Array], Array]]

    def gradient(self, k: int, index: int) -> Array | None:
        """Round it."""
        gradient = super().gradient(k, index)
        return None if gradient is None else np.asarray(type(self).how(gradient))


def _decayed(rule: Rule, value: Array) -> Array:
    decay: float = getattr(rule, "weight_decay", 0.0)
    return (1.0 - rule.lr * decay) * value


def _rows(size: int, shape: Shape) -> slice:  # noqa: ARG001 - of the shape alone
    return slice(shape[0] if shape else 1, None)


def _tail(size: int, shape: Shape, chunk: int) -> slice:  # noqa: ARG001 - of the size alone
    return slice(size // chunk * chunk, None)


LEFT: Mapping[str, Callable[[int, Shape], slice]] = {
    "only the first size(0) elements of a tensor are updated": _rows,
    **{
        f"elements after the last full chunk of {chunk} are not updated": partial(_tail, chunk=chunk)
        for chunk in CHUNKS
    },
    "only the first element of a tensor is updated": lambda size, shape: slice(1, None),
    "the first element of a tensor is not updated": lambda size, shape: slice(0, 1),
    "the last element of a tensor is not updated": lambda size, shape: slice(max(size - 1, 0), None),
}

KEPT: Mapping[str, type[Road]] = {
    "the state is kept in {}": NarrowState,
    "the parameter is kept in {}": NarrowValues,
    "the gradient is taken in {}": NarrowGradients,
}


def hypotheses(rules: Rules) -> Iterator[Hypothesis]:
    """All of them for these rules."""
    decaying = decays(rules[0][0])
    for words, left in LEFT.items():
        yield Hypothesis(words, road=told(Partly, how=staticmethod(left)))
        if decaying:
            yield Hypothesis(f"{words}, but for their decay", road=told(PartlyDecayed, how=staticmethod(left)))
    walked = "a transposed tensor is walked in memory order, its update is not"
    yield Hypothesis(walked, road=MemoryOrder)
    if decaying:
        yield Hypothesis(f"{walked}; its decay is right", road=MemoryOrderDecayed)
    for words, road in KEPT.items():
        for name, kind in FORMATS.items():
            yield Hypothesis(words.format(name), road=told(road, how=staticmethod(kind)))
