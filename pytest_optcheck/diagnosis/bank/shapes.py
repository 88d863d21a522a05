"""Rules that look at a tensor as a whole: factored moments, clipping, orthogonal updates and their factors."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_optcheck.diagnosis.bank.base import Mistake, mistakes, mixing
from pytest_optcheck.oracles.adafactor import Adafactor
from pytest_optcheck.oracles.base import averaged
from pytest_optcheck.oracles.muon import Muon

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_optcheck.oracles.base import Array, State


class Factor(Muon):
    """Muon with another factor of the learning rate, of rows and columns."""

    how: ClassVar[Callable[[int, int], float]]

    def factor(self, parameter: Array) -> float:
        """That of the mistake."""
        rows, columns = parameter.shape
        return type(self).how(rows, columns)


class Unorthogonal(Muon):
    """Muon that steps along the momentum itself."""

    def orthogonal(self, matrix: Array) -> Array:
        """The matrix as it is."""
        return matrix


class Unclipped(Adafactor):
    """Adafactor without clipping."""

    def clipped(self, update: Array) -> Array:
        """The update as it is."""
        return update


class ConstantDecayRate(Adafactor):
    """Adafactor whose second moment takes in the squares with weights of its own."""

    how: ClassVar[Callable[[float], float]]

    def beta2(self, t: int) -> float:
        """That of the mistake."""
        return type(self).how(super().beta2(t))


class RelativeStep(Adafactor):
    """Adafactor with another relative step, of the learning rate and the update."""

    how: ClassVar[Callable[[float, int], float]]

    def relative_step(self, t: int) -> float:
        """That of the mistake."""
        return type(self).how(self.lr, t)


class Unfactored(Adafactor):
    """Adafactor whose matrices have a whole second moment."""

    def start(self, parameter: Array) -> State:
        """As for a vector."""
        return {"variance": np.zeros(np.shape(parameter))}


class Unnormalised(Adafactor):
    """Adafactor whose factored moment is the product of rows and columns, not divided by their sum."""

    def estimate(self, squares: Array, state: State, beta: float) -> Array:
        """R·C."""
        if "variance" in state:
            return super().estimate(squares, state, beta)
        state["row_var"] = averaged(state["row_var"], squares.mean(axis=-1, keepdims=True), beta)
        state["col_var"] = averaged(state["col_var"], squares.mean(axis=-2, keepdims=True), beta)
        product: Array = state["row_var"] * state["col_var"]
        return product


MISTAKES: tuple[Mistake, ...] = (
    *mistakes(
        Factor,
        {
            "matrices are not scaled by their shape": lambda rows, columns: 1.0,  # noqa: ARG005 - whatever the shape
            "matrices are scaled by √max(1, columns/rows)": lambda rows, columns: max(1.0, columns / rows) ** 0.5,
            "matrices are scaled by √max(1, rows/columns)": lambda rows, columns: max(1.0, rows / columns) ** 0.5,
            "matrices are scaled by max(1, rows/columns), without the root": lambda rows, columns: max(
                1.0, rows / columns
            ),
            "matrices are scaled by √(rows/columns)": lambda rows, columns: (rows / columns) ** 0.5,
            "matrices are scaled by 0.2·√max(rows, columns)": lambda rows, columns: 0.2 * max(rows, columns) ** 0.5,
        },
    ),
    Mistake("the momentum is not orthogonalised", Muon, mixing(Unorthogonal)),
    Mistake("the update is not clipped", Adafactor, mixing(Unclipped)),
    Mistake("matrices are not factored", Adafactor, mixing(Unfactored)),
    Mistake("the factored moment is not normalised", Adafactor, mixing(Unnormalised)),
    *mistakes(
        ConstantDecayRate,
        {"second moment: coefficients exchanged, (1 - β)·old + β·new": lambda beta: 1.0 - beta},
    ),
    *mistakes(
        RelativeStep,
        {
            "the relative step is not bounded by 1/√t": lambda lr, t: lr,  # noqa: ARG005 - whatever the update
            "the relative step is lr/√t": lambda lr, t: lr * t**-0.5,
            "the relative step is 1/√t": lambda lr, t: t**-0.5,  # noqa: ARG005 - whatever the rate
        },
    ),
)
