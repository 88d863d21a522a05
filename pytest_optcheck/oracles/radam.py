"""RAdam."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_optcheck.oracles.adam import Adam, Decoupled
from pytest_optcheck.oracles.base import Array, State, departure


@dataclass(frozen=True, kw_only=True)
class RAdam(Adam):
    """Rectified Adam (Liu et al. 2020, On the Variance of the Adaptive Learning Rate, arXiv:1908.03265, algorithm 2).

    rho_∞ = 2/(1 - β2) - 1
    rho_t = rho_∞ - 2t·β2^t/(1 - β2^t)
    r_t = √((rho_t - 4)(rho_t - 2)rho_∞ / ((rho_∞ - 4)(rho_∞ - 2)rho_t))
    θ_t = θ_{t-1} - η·r_t · m̂_t · √((1 - β2^t)/v_t)      where rho_t > 4
    θ_t = θ_{t-1} - η · m̂_t                              elsewhere

    Attributes:
        eps: 0 in the paper, which has none.
        threshold: rho_t from which on steps are adaptive.
    """

    eps: float = 0.0
    threshold: float = departure(default=4.0, what="steps are adaptive from rho = 5 on, as in the authors' code")

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:
        """Algorithm 2."""
        gradient = self.regularised(parameter, self.descending(gradient))
        state["exp_avg"] = self.first_moment(state["exp_avg"], gradient)
        state["exp_avg_sq"] = self.second_moment(state["exp_avg_sq"], gradient)
        first_correction, second_correction = self.corrections(t)
        direction = self.direction(state["exp_avg"], first_correction)
        length = self.length(t)
        if length <= self.threshold:
            return self.moved(self.decayed(parameter), direction, np.ones_like(parameter))
        denominator = self.denominator(state["exp_avg_sq"], second_correction)
        return self.moved(self.decayed(parameter), self.rectification(length) * direction, denominator)

    @property
    def longest(self) -> float:
        """rho_∞."""
        return 2.0 / (1.0 - self.betas[1]) - 1.0

    def length(self, t: int) -> float:
        """rho_t, the length of a simple moving average that is worth the second moment's."""
        decayed: float = self.betas[1] ** t
        return self.longest - 2.0 * t * decayed / (1.0 - decayed)

    def rectification(self, length: float) -> float:
        """r_t."""
        longest = self.longest
        variance = (length - 4.0) * (length - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * length)
        return float(np.sqrt(variance))


@dataclass(frozen=True, kw_only=True)
class RAdamW(Decoupled, RAdam):
    """RAdam with AdamW's weight decay."""
