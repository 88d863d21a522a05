"""Adamax."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_optcheck.oracles.base import Array, Regularised, State, averaged, departure, quotient, zeros


@dataclass(frozen=True, kw_only=True)
class Adamax(Regularised):
    """Adamax (Kingma & Ba 2015, arXiv:1412.6980, algorithm 2).

    m_t = β1·m_{t-1} + (1 - β1)·g_t
    u_t = max(β2·u_{t-1}, |g_t|)
    θ_t = θ_{t-1} - η/(1 - β1^t) · m_t/u_t

    The paper has no ε; where u_t is 0, so is m_t, and nothing moves.

    Attributes:
        betas: β1 and β2.
        eps: is added to |g_t|, inside the maximum.
    """

    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = departure(default=0.0, what="eps is added to |g| inside the maximum")

    def start(self, parameter: Array) -> State:
        """Moment and norm of zero."""
        return {"exp_avg": zeros(parameter), "exp_inf": zeros(parameter)}

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:
        """Algorithm 2."""
        gradient = self.regularised(parameter, self.descending(gradient))
        state["exp_avg"] = self.first_moment(state["exp_avg"], gradient)
        state["exp_inf"] = self.norm(state["exp_inf"], gradient)
        return parameter - self.lr / self.correction(t) * quotient(state["exp_avg"], state["exp_inf"])

    def first_moment(self, moment: Array, gradient: Array) -> Array:
        """m_t."""
        return averaged(moment, gradient, self.betas[0])

    def norm(self, norm: Array, gradient: Array) -> Array:
        """u_t, the exponentially weighted infinity norm."""
        return np.maximum(self.betas[1] * norm, np.abs(gradient) + self.eps)

    def correction(self, t: int) -> float:
        """1 - β1^t."""
        return 1.0 - self.betas[0] ** t
