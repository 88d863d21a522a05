"""Lion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_optcheck.oracles.base import Array, Rule, State, averaged, zeros


@dataclass(frozen=True, kw_only=True)
class Lion(Rule):
    """Lion, evolved sign momentum (Chen et al. 2023, arXiv:2302.06675, algorithm 2).

    c_t = β1·m_{t-1} + (1 - β1)·g_t
    θ_t = θ_{t-1} - η·(sign(c_t) + λ·θ_{t-1})
    m_t = β2·m_{t-1} + (1 - β2)·g_t

    Attributes:
        betas: β1 and β2.
        weight_decay: λ.
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0

    def start(self, parameter: Array) -> State:
        """A momentum of zero."""
        return {"exp_avg": zeros(parameter)}

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:  # noqa: ARG002 - nothing is corrected
        """Algorithm 2."""
        gradient = self.descending(gradient)
        direction = self.direction(state["exp_avg"], gradient)
        state["exp_avg"] = self.first_moment(state["exp_avg"], gradient)
        return parameter - self.lr * (direction + self.weight_decay * parameter)

    def direction(self, moment: Array, gradient: Array) -> Array:
        """sign(c_t), of the moment before this update."""
        return np.sign(averaged(moment, gradient, self.betas[0]))

    def first_moment(self, moment: Array, gradient: Array) -> Array:
        """m_t."""
        return averaged(moment, gradient, self.betas[1])
