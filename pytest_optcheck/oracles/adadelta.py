"""Adadelta."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_optcheck.oracles.base import Array, Regularised, State, averaged, zeros


@dataclass(frozen=True, kw_only=True)
class Adadelta(Regularised):
    """Adadelta (Zeiler 2012, arXiv:1212.5701, algorithm 1).

    E[g²]_t = rho·E[g²]_{t-1} + (1 - rho)·g_t²
    Δ_t = √(E[Δ²]_{t-1} + ε) / √(E[g²]_t + ε) · g_t
    E[Δ²]_t = rho·E[Δ²]_{t-1} + (1 - rho)·Δ_t²
    θ_t = θ_{t-1} - Δ_t

    Attributes:
        lr: multiplies Δ_t in the last line only; 1 in the paper, which has none.
        rho: rho.
        eps: ε.
    """

    lr: float = 1.0
    rho: float = 0.9
    eps: float = 1e-6

    def start(self, parameter: Array) -> State:
        """Averages of zero."""
        return {"square_avg": zeros(parameter), "acc_delta": zeros(parameter)}

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:  # noqa: ARG002 - nothing is corrected
        """Algorithm 1."""
        gradient = self.regularised(parameter, self.descending(gradient))
        state["square_avg"] = averaged(state["square_avg"], gradient**2, self.rho)
        delta = self.root(state["acc_delta"]) / self.root(state["square_avg"]) * gradient
        state["acc_delta"] = averaged(state["acc_delta"], delta**2, self.rho)
        return parameter - self.lr * delta

    def root(self, average: Array) -> Array:
        """√(E + ε)."""
        return np.sqrt(average + self.eps)
