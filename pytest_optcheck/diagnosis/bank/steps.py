"""What is stepped along: momentum not used, Nesterov lost, moments read too early, maxima not kept."""

# ruff: noqa: ARG005 - the rows of a table share one signature
from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_optcheck.diagnosis.bank.base import Mistake, mistakes, mixing, setting
from pytest_optcheck.oracles.adadelta import Adadelta
from pytest_optcheck.oracles.adam import Adam, AMSGrad
from pytest_optcheck.oracles.base import averaged
from pytest_optcheck.oracles.lamb import LAMB
from pytest_optcheck.oracles.lion import Lion
from pytest_optcheck.oracles.nadam import NAdam
from pytest_optcheck.oracles.radam import RAdam

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_optcheck.oracles.base import Array, State

OTHERWISE = (LAMB, NAdam, RAdam)
"""Relatives of Adam with a step of their own."""


class Numerator(Adam):
    """Adam with another numerator, of the first moment before and after, the gradient, beta1 and its correction."""

    how: ClassVar[Callable[[Array, Array, Array, float, float], Array]]

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:
        """That of Adam but for the numerator."""
        gradient = self.regularised(parameter, self.descending(gradient))
        before = state["exp_avg"]
        state["exp_avg"] = self.first_moment(before, gradient)
        state["exp_avg_sq"] = self.second_moment(state["exp_avg_sq"], gradient)
        first, second = self.corrections(t)
        numerator = type(self).how(before, state["exp_avg"], gradient, self.betas[0], first)
        return self.moved(self.decayed(parameter), numerator, self.denominator(self.estimate(state), second))


class Stale(Adam):
    """Adam that divides by the second moment of before this gradient."""

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:
        """Keep the old one aside."""
        state["before"] = state["exp_avg_sq"]
        return super().step(parameter, gradient, state, t)

    def estimate(self, state: State) -> Array:
        """The old one."""
        before: Array = state["before"]
        return before


class OfMoment(Adam):
    """Adam whose second moment is that of the first moment, not of the gradient."""

    def estimate(self, state: State) -> Array:
        """Of the first moment."""
        state["of_moment"] = self.second_moment(state.get("of_moment", 0.0 * state["exp_avg"]), state["exp_avg"])
        of_moment: Array = state["of_moment"]
        return of_moment


class Maximum(AMSGrad):
    """AMSGrad that does something else with its maximum, which `how` is given with the state."""

    how: ClassVar[Callable[[State, Array], Array]]

    def estimate(self, state: State) -> Array:
        """That of the mistake."""
        return type(self).how(state, np.maximum(state["max_exp_avg_sq"], state["exp_avg_sq"]))


class Maximal(Adam):
    """Adam over the largest second moment so far."""

    def estimate(self, state: State) -> Array:
        """As AMSGrad has it."""
        state["largest"] = np.maximum(state.get("largest", 0.0), state["exp_avg_sq"])
        largest: Array = state["largest"]
        return largest


class Steps(Adadelta):
    """Adadelta whose average of squared steps becomes another: of the old one, the step, its rate, and rho."""

    how: ClassVar[Callable[[Array, Array, float, float], Array]]

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:
        """The step is right, what it leaves behind is not."""
        before = state["acc_delta"]
        moved = super().step(parameter, gradient, state, t)
        state["acc_delta"] = type(self).how(before, parameter - moved, self.lr, self.rho)
        return moved


class LionDirection(Lion):
    """Lion with another direction, of the moment before, the gradient and the betas."""

    how: ClassVar[Callable[[Array, Array, tuple[float, float]], Array]]

    def direction(self, moment: Array, gradient: Array) -> Array:
        """That of the mistake."""
        return type(self).how(moment, gradient, self.betas)


def _rooted(state: State, largest: Array) -> Array:
    state["max_exp_avg_sq"] = np.sqrt(largest)
    return largest


def _smallest(state: State, largest: Array) -> Array:  # noqa: ARG001 - the minimum takes its place
    smallest: Array = np.minimum(state["max_exp_avg_sq"], state["exp_avg_sq"])
    state["max_exp_avg_sq"] = smallest
    return smallest


MISTAKES: tuple[Mistake, ...] = (
    *mistakes(
        Numerator,
        {
            "momentum not used: the gradient in the place of the first moment": lambda old, m, g, beta, c: g / c,
            "first moment used before it takes in the gradient": lambda old, m, g, beta, c: old / c,
            "Nesterov's blend gained": lambda old, m, g, beta, c: averaged(m, g, beta) / c,
            "the step is divided by the first moment, not multiplied": lambda old, m, g, beta, c: 1.0 / (m * c),
            "the sign of the first moment in its place": lambda old, m, g, beta, c: np.sign(m),
        },
        unless=OTHERWISE,
    ),
    *mistakes(
        Numerator,
        {"Nesterov's blend lost: the numerator is the first moment": lambda old, m, g, beta, c: m / c},
        family=NAdam,
    ),
    *mistakes(Numerator, {"rectification missing": lambda old, m, g, beta, c: m / c}, family=RAdam),
    Mistake("rectified from rho = 4 on", RAdam, setting(threshold=4.0)),
    Mistake("rectified from rho = 5 on", RAdam, setting(threshold=5.0)),
    Mistake("second moment used before it takes in the gradient", Adam, mixing(Stale), OTHERWISE),
    Mistake("second moment of the first moment, not of the gradient", Adam, mixing(OfMoment), (AMSGrad, *OTHERWISE)),
    Mistake("maximum of second moments gained", Adam, mixing(Maximal), (AMSGrad, *OTHERWISE)),
    *mistakes(
        Maximum,
        {
            "maximum of second moments not kept": lambda state, largest: state["exp_avg_sq"],
            "root of the maximum of second moments kept in its place": _rooted,
            "minimum of second moments in the place of the maximum": _smallest,
        },
    ),
    *mistakes(
        Steps,
        {
            "average of squared steps never updated": lambda old, step, lr, rho: old,
            "average of squared steps takes in the learning rate": lambda old, step, lr, rho: averaged(
                old, step**2, rho
            ),
            "average of steps that are not squared": lambda old, step, lr, rho: averaged(old, np.abs(step) / lr, rho),
        },
    ),
    *mistakes(
        LionDirection,
        {
            "momentum used after it takes in the gradient": lambda m, g, betas: np.sign(averaged(m, g, betas[1])),
            "the sign is not taken": lambda m, g, betas: averaged(m, g, betas[0]),
        },
    ),
)
