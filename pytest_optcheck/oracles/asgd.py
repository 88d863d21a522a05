"""Averaged stochastic gradient descent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_optcheck.oracles.base import Array, Regularised, State, departure, zeros


@dataclass(frozen=True, kw_only=True)
class ASGD(Regularised):
    """Averaged stochastic gradient descent (Polyak & Juditsky 1992, Acceleration of stochastic approximation).

    The rate and the term λ are Bottou's (2010, Large-scale machine learning with stochastic gradient descent; Xu 2011,
    arXiv:1107.2490, on the exponent):
    η_t = η/(1 + λη·(t - 1))^alpha
    θ_t = (1 - λη_t)·θ_{t-1} - η_t·g_t
    a_t = a_{t-1} + (θ_t - a_{t-1})/max(1, t - 1 - t₀)

    The average a_t is in the state alone: nothing that is trained depends on it.

    Attributes:
        lambd: λ.
        alpha: alpha.
        t0: t₀, the update from which on parameters are averaged.
        kept_rate: the rate of an update is computed, from the learning rate of then, when the one before ends, and
            kept in float32.
    """

    lr: float = 1e-2
    lambd: float = 1e-4
    alpha: float = 0.75
    t0: float = 1e6
    kept_rate: bool = departure(
        default=False, what="the rate of an update is computed at the end of the one before, and kept in float32"
    )

    def start(self, parameter: Array) -> State:
        """No average yet."""
        return {"ax": zeros(parameter), "eta": float(np.float32(self.lr))}

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:
        """One update, and the average after it."""
        gradient = self.regularised(parameter, self.descending(gradient))
        rate = state["eta"] if self.kept_rate else self.rate(t)
        state["eta"] = float(np.float32(self.rate(t + 1)))
        moved = (1.0 - self.lambd * rate) * parameter - rate * gradient
        state["ax"] = state["ax"] + (moved - state["ax"]) / max(1.0, t - 1 - self.t0)
        return moved

    def rate(self, t: int) -> float:
        """η_t."""
        decayed: float = (1.0 + self.lambd * self.lr * (t - 1)) ** self.alpha
        return self.lr / decayed
