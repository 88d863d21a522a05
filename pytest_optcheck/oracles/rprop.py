"""Rprop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_optcheck.oracles.base import Array, Rule, State, departure, zeros


@dataclass(frozen=True, kw_only=True)
class Rprop(Rule):
    """Resilient propagation (Riedmiller & Braun 1993, A direct adaptive method for faster backpropagation learning).

    Element by element, by the sign of g_{t-1}·g_t:
    positive: Δ_t = min(η⁺·Δ_{t-1}, Δ_max), δ_t = -sign(g_t)·Δ_t
    negative: Δ_t = max(η⁻·Δ_{t-1}, Δ_min), δ_t = -δ_{t-1}, and g_t counts as zero from then on
    zero:     Δ_t = Δ_{t-1},                δ_t = -sign(g_t)·Δ_t
    θ_t = θ_{t-1} + δ_t

    Attributes:
        lr: Δ_0.
        etas: η⁻ and η⁺.
        step_sizes: Δ_min and Δ_max.
        backtracking: where the sign turns, the last step is taken back. Without it, δ_t = 0 there: the variant that
            Igel & Hüsken (2000, Improving the Rprop learning algorithm) call iRprop⁻.
    """

    lr: float = 0.1
    etas: tuple[float, float] = (0.5, 1.2)
    step_sizes: tuple[float, float] = (1e-6, 50.0)
    backtracking: bool = departure(default=True, what="where a gradient turns, the last step is not taken back")

    def start(self, parameter: Array) -> State:
        """No gradient, no step, the first step size."""
        return {"prev": zeros(parameter), "step_size": zeros(parameter) + self.lr, "last": zeros(parameter)}

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:  # noqa: ARG002 - nothing is counted
        """The three cases."""
        gradient = self.descending(gradient)
        agreement = np.sign(gradient * state["prev"])
        state["step_size"] = self.step_size(state["step_size"], agreement)
        turned = agreement < 0
        state["prev"] = np.where(turned, 0.0, gradient)
        back = -state["last"] if self.backtracking else 0.0
        state["last"] = last = np.where(turned, back, -np.sign(gradient) * state["step_size"])
        return parameter + last

    def step_size(self, step_size: Array, agreement: Array) -> Array:
        """Δ_t, where `agreement` is the sign of g_{t-1}·g_t."""
        factor = np.where(agreement > 0, self.etas[1], np.where(agreement < 0, self.etas[0], 1.0))
        return np.clip(step_size * factor, *self.step_sizes)
