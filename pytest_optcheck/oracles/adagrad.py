"""Adagrad."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_optcheck.oracles.base import Array, Regularised, State, quotient, zeros


@dataclass(frozen=True, kw_only=True)
class Adagrad(Regularised):
    """Adagrad with diagonal matrices (Duchi, Hazan & Singer 2011, JMLR 12, figure 1).

    G_t = G_{t-1} + g_t²
    θ_t = θ_{t-1} - η · g_t / (δ + √G_t)

    Attributes:
        eps: δ, outside the root as in the paper.
        lr_decay: the rate of update t is η/(1 + (t - 1)·lr_decay); of no paper, it has come down from Torch7.
        initial_accumulator_value: G_0; zero in the paper.
    """

    lr: float = 1e-2
    eps: float = 1e-10
    lr_decay: float = 0.0
    initial_accumulator_value: float = 0.0

    def start(self, parameter: Array) -> State:
        """G_0."""
        return {"sum": zeros(parameter) + self.initial_accumulator_value}

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:
        """Figure 1."""
        gradient = self.regularised(parameter, self.descending(gradient))
        state["sum"] = self.accumulated(state["sum"], gradient)
        return parameter - self.rate(t) * quotient(gradient, self.denominator(state["sum"]))

    def accumulated(self, total: Array, gradient: Array) -> Array:
        """G_t."""
        return total + gradient**2

    def rate(self, t: int) -> float:
        """The learning rate of update `t`."""
        return self.lr / (1.0 + (t - 1) * self.lr_decay)

    def denominator(self, total: Array) -> Array:
        """δ + √G_t."""
        return np.sqrt(total) + self.eps
