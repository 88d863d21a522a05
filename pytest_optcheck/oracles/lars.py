"""LARS."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_optcheck.oracles.base import Array, Regularised, State, zeros
from pytest_optcheck.oracles.lamb import trust


@dataclass(frozen=True, kw_only=True)
class LARS(Regularised):
    """LARS (You, Gitman & Ginsburg 2017, arXiv:1708.03888, algorithm 1).

    λ_t = c·‖θ_{t-1}‖/(‖g_t‖ + β·‖θ_{t-1}‖)
    v_t = m·v_{t-1} + η·λ_t·(g_t + β·θ_{t-1})
    θ_t = θ_{t-1} - v_t

    The norms are of whole tensors; where one of them is 0, λ_t counts as 1.

    Attributes:
        lr: η, the global learning rate.
        momentum: m.
        weight_decay: β.
        trust_coefficient: c.
    """

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    trust_coefficient: float = 1e-3

    def start(self, parameter: Array) -> State:
        """At rest."""
        return {"velocity": zeros(parameter)}

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:  # noqa: ARG002 - nothing is counted
        """Algorithm 1."""
        gradient = self.descending(gradient)
        local = trust(parameter, gradient, self.trust_coefficient, self.weight_decay)
        step = self.lr * local * self.regularised(parameter, gradient)
        state["velocity"] = velocity = self.velocity(state["velocity"], step)
        return parameter - velocity

    def velocity(self, velocity: Array, step: Array) -> Array:
        """v_t."""
        return self.momentum * velocity + step
