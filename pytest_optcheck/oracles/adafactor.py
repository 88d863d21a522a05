"""Adafactor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pytest_optcheck.oracles.base import Array, Rule, State, averaged, departure, quotient, zeros

PAPER_EPS = 1e-30
"""ε₁ of the paper."""

MACHINE_EPS = 2.0**-52
"""What stands for ε₁ where it bounds the estimate from below, unless it is given: the float64 epsilon."""


@dataclass(frozen=True, kw_only=True)
class Adafactor(Rule):
    """Adafactor (Shazeer & Stern 2018, arXiv:1804.04235, algorithms 4 and 5, without momentum).

    rho_t = min(η, 1/√t),  a_t = max(ε₂, rms(θ_{t-1}))·rho_t,  β_t = 1 - t^c
    matrices: R_t = β_t·R_{t-1} + (1 - β_t)·row sums of (g_t² + ε₁), C_t likewise of columns, V_t = R_t·C_t/sum(R_t)
    vectors:  V_t = β_t·V_{t-1} + (1 - β_t)·(g_t² + ε₁)
    U_t = g_t/√V_t,  θ_t = θ_{t-1} - a_t·U_t/max(1, rms(U_t)/d)

    Tensors of more than two dimensions are stacks of matrices, the last two of their dimensions.

    Attributes:
        lr: η, the largest relative step; 0.01 in the paper. It multiplies the weight decay too, of which the paper says
            nothing.
        beta2_decay: c.
        eps: ε₁ (None for the paper's) and ε₂.
        d: the threshold of clipping.
        weight_decay: decoupled: θ_{t-1} is made smaller by the share lr·weight_decay.
        bounded: ε₁ is not added to g² but bounds from below what is divided by: sum(R_t), as a mean, and √V_t.
    """

    lr: float = 1e-2
    beta2_decay: float = -0.8
    eps: tuple[float | None, float] = (None, 1e-3)
    d: float = 1.0
    weight_decay: float = 0.0
    bounded: bool = departure(default=False, what="eps1 is not added to the squares, it bounds what is divided by")

    def start(self, parameter: Array) -> State:
        """Means of zero."""
        if np.ndim(parameter) < 2:  # noqa: PLR2004 - not a matrix
            return {"variance": zeros(parameter)}
        return {"row_var": zeros(parameter[..., :1]), "col_var": zeros(parameter[..., :1, :])}

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:
        """Algorithm 4 or 5."""
        gradient = self.descending(gradient)
        if not gradient.size:
            return parameter
        relative = max(self.eps[1], rms(parameter)) * self.relative_step(t)
        squares = gradient**2 + (0.0 if self.bounded else self.eps1)
        update = quotient(gradient, self.root(self.estimate(squares, state, self.beta2(t))))
        return self.decayed(parameter) - relative * self.clipped(update)

    @property
    def eps1(self) -> float:
        """ε₁."""
        return (MACHINE_EPS if self.bounded else PAPER_EPS) if self.eps[0] is None else self.eps[0]

    def relative_step(self, t: int) -> float:
        """rho_t."""
        return min(self.lr, 1.0 / math.sqrt(t))

    def beta2(self, t: int) -> float:
        """β_t."""
        return 1.0 - float(t**self.beta2_decay)

    def estimate(self, squares: Array, state: State, beta: float) -> Array:
        """V_t; of row and column means, which is that of their sums."""
        if "variance" in state:
            state["variance"] = averaged(state["variance"], squares, beta)
            whole: Array = state["variance"]
            return whole
        state["row_var"] = averaged(state["row_var"], squares.mean(axis=-1, keepdims=True), beta)
        state["col_var"] = averaged(state["col_var"], squares.mean(axis=-2, keepdims=True), beta)
        mean = state["row_var"].mean(axis=-2, keepdims=True)
        factored: Array = state["row_var"] * state["col_var"]
        return quotient(factored, np.maximum(mean, self.eps1) if self.bounded else mean)

    def root(self, estimate: Array) -> Array:
        """√V_t."""
        return np.sqrt(np.maximum(estimate, self.eps1**2) if self.bounded else estimate)

    def clipped(self, update: Array) -> Array:
        """U_t/max(1, rms(U_t)/d)."""
        return update / max(1.0, rms(update) / self.d)

    def decayed(self, parameter: Array) -> Array:
        """(1 - ηλ)·θ_{t-1}."""
        return (1.0 - self.lr * self.weight_decay) * parameter


def rms(values: Array) -> float:
    """The root of the mean square; at least one value is needed."""
    return float(np.sqrt(np.mean(np.square(values))))
