"""LAMB."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_optcheck.oracles.adam import Adam
from pytest_optcheck.oracles.base import Array, State, quotient


@dataclass(frozen=True, kw_only=True)
class LAMB(Adam):
    """LAMB (You et al. 2020, Large Batch Optimization for Deep Learning, arXiv:1904.00962, algorithm 2, φ(z) = z).

    r_t = m̂_t/(√v̂_t + ε), m̂_t and v̂_t being Adam's
    u_t = r_t + λ·θ_{t-1}
    θ_t = θ_{t-1} - η · ‖θ_{t-1}‖/‖u_t‖ · u_t

    The norms are of whole tensors; where one of them is 0 their ratio counts as 1.
    """

    eps: float = 1e-6
    weight_decay: float = 1e-2

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:
        """Algorithm 2."""
        gradient = self.descending(gradient)
        state["exp_avg"] = self.first_moment(state["exp_avg"], gradient)
        state["exp_avg_sq"] = self.second_moment(state["exp_avg_sq"], gradient)
        first_correction, second_correction = self.corrections(t)
        direction = self.direction(state["exp_avg"], first_correction)
        ratio = quotient(direction, self.denominator(state["exp_avg_sq"], second_correction))
        update = ratio + self.weight_decay * parameter
        return parameter - self.lr * trust(parameter, update) * update


def trust(parameter: Array, update: Array, coefficient: float = 1.0, extra: float = 0.0) -> float:
    """coefficient·‖parameter‖/(‖update‖ + extra·‖parameter‖), 1 where either norm is 0."""
    whole, part = float(np.linalg.norm(parameter)), float(np.linalg.norm(update))
    return coefficient * whole / (part + extra * whole) if whole and part else 1.0
