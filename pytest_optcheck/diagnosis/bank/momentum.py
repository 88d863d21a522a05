"""Momentum of gradients, dampened too soon or kept with what Nesterov added; signs and trust ratios lost."""

# ruff: noqa: ARG005 - the rows of a table share one signature
from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_optcheck.diagnosis.bank.base import Mistake, mistakes, mixing
from pytest_optcheck.oracles.base import quotient
from pytest_optcheck.oracles.lamb import LAMB, trust
from pytest_optcheck.oracles.lars import LARS
from pytest_optcheck.oracles.sgd import SGD
from pytest_optcheck.oracles.signsgd import SignSGD

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_optcheck.oracles.base import Array, State


class Velocity(SGD):
    """SGD with another velocity, of the old one, the gradient, momentum, dampening and the update."""

    how: ClassVar[Callable[[Array, Array, float, float, int], Array]]

    def velocity(self, velocity: Array, gradient: Array, t: int) -> Array:
        """That of the mistake."""
        return type(self).how(velocity, gradient, self.momentum, self.dampening, t)


class Direction(SGD):
    """SGD with another direction, of the velocity, the gradient and momentum."""

    how: ClassVar[Callable[[Array, Array, float], Array]]

    def direction(self, velocity: Array, gradient: Array) -> Array:
        """That of the mistake."""
        return type(self).how(velocity, gradient, self.momentum)


class KeptDirection(SGD):
    """SGD that builds the direction in the velocity itself."""

    def moved(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:
        """The step is right, what it leaves behind is not."""
        moved = super().moved(parameter, gradient, state, t)
        inner = 1.0 if self.rate_outside else self.lr
        state["velocity"] = self.direction(state["velocity"], inner * gradient)
        return moved


class Signum(SignSGD):
    """SignSGD without the sign."""

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:  # noqa: ARG002 - as SignSGD
        """Along the moment itself."""
        state["exp_avg"] = self.first_moment(state["exp_avg"], self.descending(gradient))
        return np.asarray(parameter - self.lr * (state["exp_avg"] + self.weight_decay * parameter))


class Layerwise(LARS):
    """LARS with another trust ratio, of the parameter, the gradient, its coefficient and weight decay."""

    how: ClassVar[Callable[[Array, Array, float, float], float]]

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:  # noqa: ARG002 - as LARS
        """Algorithm 1 but for the ratio."""
        gradient = self.descending(gradient)
        local = type(self).how(parameter, gradient, self.trust_coefficient, self.weight_decay)
        state["velocity"] = self.momentum * state["velocity"] + self.lr * local * self.regularised(parameter, gradient)
        return np.asarray(parameter - state["velocity"])


class LargeBatch(LAMB):
    """LAMB with another trust ratio, of the parameter and what it scales."""

    how: ClassVar[Callable[[Array, Array], float]]

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:
        """Algorithm 2 but for the ratio."""
        gradient = self.descending(gradient)
        state["exp_avg"] = self.first_moment(state["exp_avg"], gradient)
        state["exp_avg_sq"] = self.second_moment(state["exp_avg_sq"], gradient)
        first, second = self.corrections(t)
        ratio = quotient(self.direction(state["exp_avg"], first), self.denominator(state["exp_avg_sq"], second))
        update = ratio + self.weight_decay * parameter
        return np.asarray(parameter - self.lr * type(self).how(parameter, update) * update)


def _inverse(parameter: Array, gradient: Array, coefficient: float, decay: float) -> float:
    return coefficient**2 / trust(parameter, gradient, coefficient, decay)


def _without_zeros(parameter: Array, gradient: Array, coefficient: float, decay: float) -> float:
    """The ratio itself where the parameter is zero: 0."""
    whole = float(np.linalg.norm(parameter))
    return float(np.divide(coefficient * whole, float(np.linalg.norm(gradient)) + decay * whole))


MISTAKES: tuple[Mistake, ...] = (
    *mistakes(
        Velocity,
        {
            "dampening on the first update too": lambda v, g, momentum, damped, t: momentum * v + (1.0 - damped) * g,
            "the gradient of the first update is left out of the velocity": lambda v, g, momentum, damped, t: (
                v if t == 1 else momentum * v + (1.0 - damped) * g
            ),
            "the velocity is an average, (1 - momentum)·g": lambda v, g, momentum, damped, t: (
                momentum * v + (1.0 - momentum) * g
            ),
            "momentum multiplies the gradient too": lambda v, g, momentum, damped, t: (
                g if t == 1 else momentum * (v + (1.0 - damped) * g)
            ),
            "momentum and gradient exchange their factors": lambda v, g, momentum, damped, t: (
                g if t == 1 else (1.0 - damped) * v + momentum * g
            ),
            "the velocity does not decay": lambda v, g, momentum, damped, t: v + (1.0 if t == 1 else 1.0 - damped) * g,
        },
    ),
    *mistakes(
        Direction,
        {
            "Nesterov's step without the gradient": lambda v, g, momentum: momentum * v,
            "Nesterov's step without the momentum of the velocity": lambda v, g, momentum: g + v,
        },
    ),
    Mistake("Nesterov's step is kept as the velocity", SGD, mixing(KeptDirection)),
    Mistake("the sign is not taken", SignSGD, mixing(Signum)),
    *mistakes(
        Layerwise,
        {
            "trust ratio missing": lambda p, g, coefficient, decay: 1.0,
            "trust ratio upside down": _inverse,
            "trust ratio without weight decay": lambda p, g, coefficient, decay: trust(p, g, coefficient),
            "trust ratio without its coefficient": lambda p, g, coefficient, decay: trust(p, g, 1.0, decay),
            "trust ratio of 0 where the parameter is 0": _without_zeros,
            "trust ratio left out without weight decay": lambda p, g, coefficient, decay: (
                trust(p, g, coefficient, decay) if decay else 1.0
            ),
        },
    ),
    *mistakes(
        LargeBatch,
        {
            "trust ratio missing": lambda parameter, update: 1.0,
            "trust ratio upside down": lambda parameter, update: 1.0 / trust(parameter, update),
        },
    ),
)
