"""signSGD and Signum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_optcheck.oracles.base import Array, Rule, State, averaged, zeros


@dataclass(frozen=True, kw_only=True)
class SignSGD(Rule):
    """signSGD and Signum (Bernstein et al. 2018, arXiv:1802.04434, algorithms 1 and 2).

    m_t = β·m_{t-1} + (1 - β)·g_t
    θ_t = θ_{t-1} - δ·(sign(m_t) + λ·θ_{t-1})

    Attributes:
        lr: δ.
        momentum: β; 0 is signSGD, anything else Signum.
        weight_decay: λ, of the same authors' majority vote (2019, arXiv:1810.05291, algorithm 1).
    """

    lr: float = 1e-4
    momentum: float = 0.0
    weight_decay: float = 0.0

    def start(self, parameter: Array) -> State:
        """A momentum of zero."""
        return {"exp_avg": zeros(parameter)}

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:  # noqa: ARG002 - nothing is corrected
        """Algorithm 2, which for β = 0 is algorithm 1."""
        state["exp_avg"] = moment = self.first_moment(state["exp_avg"], self.descending(gradient))
        return parameter - self.lr * (np.sign(moment) + self.weight_decay * parameter)

    def first_moment(self, moment: Array, gradient: Array) -> Array:
        """m_t."""
        return averaged(moment, gradient, self.momentum)
