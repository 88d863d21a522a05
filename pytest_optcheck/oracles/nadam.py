"""NAdam."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_optcheck.oracles.adam import Adam, Decoupled
from pytest_optcheck.oracles.base import Array, State, averaged, departure


@dataclass(frozen=True, kw_only=True)
class NAdam(Adam):
    """Adam with Nesterov momentum (Dozat 2016, Incorporating Nesterov Momentum into Adam, ICLR workshop, algorithm 2).

    μ_t = β1·(1 - 0.5·0.96^{tψ})
    m_t = μ_t·m_{t-1} + (1 - μ_t)·g_t
    n_t = β2·n_{t-1} + (1 - β2)·g_t²
    m̂_t = μ_{t+1}·m_t/(1 - Π_{i≤t+1} μ_i) + (1 - μ_t)·g_t/(1 - Π_{i≤t} μ_i)
    n̂_t = β2·n_t/(1 - β2^t)
    θ_t = θ_{t-1} - η · m̂_t/(√n̂_t + ε)

    Attributes:
        momentum_decay: ψ, 1/250 in the paper.
        constant_average: m averages with β1; so has the author's report of 2015.
        plain_estimate: n̂ has no factor β2; so has that report, and Adam.
        float32_product: the product of the momenta is kept in float32.
    """

    lr: float = 2e-3
    momentum_decay: float = 4e-3
    constant_average: bool = departure(default=False, what="the first moment averages with beta1, not with mu_t")
    plain_estimate: bool = departure(default=False, what="the second moment is corrected as in Adam, without beta2")
    float32_product: bool = departure(default=False, what="the product of the momenta is kept in float32")

    def start(self, parameter: Array) -> State:
        """Moments of zero, an empty product."""
        return {**super().start(parameter), "mu_product": 1.0}

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:
        """Algorithm 2."""
        gradient = self.regularised(parameter, self.descending(gradient))
        now, following = self.momentum(t), self.momentum(t + 1)
        state["mu_product"] = self.product(state["mu_product"], now)
        beta = self.betas[0] if self.constant_average else now
        state["exp_avg"] = averaged(state["exp_avg"], gradient, beta)
        state["exp_avg_sq"] = self.second_moment(state["exp_avg_sq"], gradient)
        momentum = following * state["exp_avg"] / (1.0 - state["mu_product"] * following)
        direction = momentum + (1.0 - now) * gradient / (1.0 - state["mu_product"])
        factor = 1.0 if self.plain_estimate else self.betas[1]
        denominator = self.denominator(factor * state["exp_avg_sq"], self.corrections(t)[1])
        return self.moved(self.decayed(parameter), direction, denominator)

    def momentum(self, t: int) -> float:
        """μ_t."""
        decayed: float = 0.96 ** (t * self.momentum_decay)
        return self.betas[0] * (1.0 - 0.5 * decayed)

    def product(self, product: float, momentum: float) -> float:
        """Π_{i≤t} μ_i."""
        if self.float32_product:
            return float(np.float32(product) * np.float32(momentum))
        return product * momentum


@dataclass(frozen=True, kw_only=True)
class NAdamW(Decoupled, NAdam):
    """NAdam with AdamW's weight decay."""
