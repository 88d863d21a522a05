"""RMSprop, centered or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_optcheck.oracles.base import Array, Regularised, State, averaged, departure, quotient, zeros


@dataclass(frozen=True, kw_only=True)
class RMSprop(Regularised):
    """RMSprop (Hinton, Srivastava & Swersky 2012, lecture 6e), as Graves (2013, arXiv:1308.0850, 38 to 41) writes it.

    n_t = alpha·n_{t-1} + (1 - alpha)·g_t²
    a_t = alpha·a_{t-1} + (1 - alpha)·g_t           centered only, else 0
    Δ_t = μ·Δ_{t-1} - η · g_t / √(n_t - a_t² + ε)
    θ_t = θ_{t-1} + Δ_t

    Attributes:
        alpha: alpha.
        eps: ε, inside the root; the lecture has none.
        momentum: μ.
        centered: a is subtracted, so that the root is of a variance.
        eps_outside: ε is added to the root.
        rate_outside: Δ sums quotients, and the learning rate of now multiplies all of it, as `SGD` may do.
    """

    lr: float = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False
    eps_outside: bool = departure(default=False, what="eps is added to the root")
    rate_outside: bool = departure(default=False, what="the learning rate multiplies the velocity, not what enters it")

    def start(self, parameter: Array) -> State:
        """Averages of zero, at rest."""
        return {name: zeros(parameter) for name in ("square_avg", "grad_avg", "velocity")}

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:  # noqa: ARG002 - nothing is corrected
        """Equations 38 to 41."""
        gradient = self.regularised(parameter, self.descending(gradient))
        state["square_avg"] = self.second_moment(state["square_avg"], gradient)
        if self.centered:
            state["grad_avg"] = self.first_moment(state["grad_avg"], gradient)
        quotients = quotient(gradient, self.denominator(state["square_avg"], state["grad_avg"]))
        inner, outer = (1.0, self.lr) if self.rate_outside else (self.lr, 1.0)
        state["velocity"] = velocity = self.velocity(state["velocity"], inner * quotients)
        return parameter - outer * velocity

    def second_moment(self, moment: Array, gradient: Array) -> Array:
        """n_t."""
        return averaged(moment, gradient**2, self.alpha)

    def first_moment(self, moment: Array, gradient: Array) -> Array:
        """a_t."""
        return averaged(moment, gradient, self.alpha)

    def denominator(self, square: Array, mean: Array) -> Array:
        """√(n_t - a_t² + ε)."""
        if self.eps_outside:
            return np.sqrt(square - mean**2) + self.eps
        return np.sqrt(square - mean**2 + self.eps)

    def velocity(self, velocity: Array, quotients: Array) -> Array:
        """-Δ_t, of quotients that the learning rate was multiplied into, or not."""
        return self.momentum * velocity + quotients
