"""Adam, AMSGrad, AdamW, and the lazy Adam of sparse gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pytest_optcheck.oracles.base import Array, Regularised, State, averaged, departure, quotient, zeros


@dataclass(frozen=True, kw_only=True)
class Adam(Regularised):
    """Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1).

    m_t = β1·m_{t-1} + (1 - β1)·g_t
    v_t = β2·v_{t-1} + (1 - β2)·g_t²
    θ_t = θ_{t-1} - η · m_t/(1 - β1^t) / (√(v_t/(1 - β2^t)) + ε)

    The paper has no weight decay; it is L2 regularisation here, g_t being ∇f + λθ_{t-1}.

    Attributes:
        betas: β1 and β2.
        eps: ε.
        eps_before_correction: the denominator is (√v_t + ε)/√(1 - β2^t): the remark at the end of the paper's
            section 2, whose ε̂ is not the algorithm's ε.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    eps_before_correction: bool = departure(default=False, what="eps is added before the second moment is corrected")

    def start(self, parameter: Array) -> State:
        """Moments of zero."""
        return {"exp_avg": zeros(parameter), "exp_avg_sq": zeros(parameter)}

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:
        """Algorithm 1."""
        gradient = self.regularised(parameter, self.descending(gradient))
        state["exp_avg"] = self.first_moment(state["exp_avg"], gradient)
        state["exp_avg_sq"] = self.second_moment(state["exp_avg_sq"], gradient)
        first_correction, second_correction = self.corrections(t)
        direction = self.direction(state["exp_avg"], first_correction)
        denominator = self.denominator(self.estimate(state), second_correction)
        return self.moved(self.decayed(parameter), direction, denominator)

    def first_moment(self, moment: Array, gradient: Array) -> Array:
        """m_t."""
        return averaged(moment, gradient, self.betas[0])

    def second_moment(self, moment: Array, gradient: Array) -> Array:
        """v_t."""
        return averaged(moment, gradient**2, self.betas[1])

    def corrections(self, t: int) -> tuple[float, float]:
        """1 - β1^t and 1 - β2^t, by which the moments are divided."""
        return 1.0 - self.betas[0] ** t, 1.0 - self.betas[1] ** t

    def direction(self, moment: Array, correction: float) -> Array:
        """m_t/(1 - β1^t)."""
        return moment / correction

    def estimate(self, state: State) -> Array:
        """Of the state the second moment that goes into the denominator."""
        moment: Array = state["exp_avg_sq"]
        return moment

    def denominator(self, moment: Array, correction: float) -> Array:
        """√(v_t/(1 - β2^t)) + ε."""
        if self.eps_before_correction:
            return (np.sqrt(moment) + self.eps) / math.sqrt(correction)
        return np.sqrt(moment / correction) + self.eps

    def decayed(self, parameter: Array) -> Array:
        """The parameter under decoupled weight decay: none here, see `AdamW`."""
        return parameter

    def moved(self, parameter: Array, direction: Array, denominator: Array) -> Array:
        """The parameter after the step."""
        return parameter - self.lr * quotient(direction, denominator)


@dataclass(frozen=True, kw_only=True)
class AMSGrad(Adam):
    """AMSGrad (Reddi, Kale & Kumar 2018, arXiv:1904.09237, algorithm 2).

    v̂_t = max(v̂_{t-1}, v_t)
    θ_t = θ_{t-1} - η · m_t / (√v̂_t + ε)

    The paper has no ε and, "for simplicity", corrects no bias.

    Attributes:
        bias_correction: both moments are corrected as Adam's are, the maximum being taken of what is not.
    """

    bias_correction: bool = departure(default=False, what="the moments are corrected for their bias, as Adam's are")

    def start(self, parameter: Array) -> State:
        """Moments and maxima of zero."""
        return {**super().start(parameter), "max_exp_avg_sq": zeros(parameter)}

    def corrections(self, t: int) -> tuple[float, float]:
        """None in the paper."""
        return super().corrections(t) if self.bias_correction else (1.0, 1.0)

    def estimate(self, state: State) -> Array:
        """v̂_t, which is kept."""
        state["max_exp_avg_sq"] = np.maximum(state["max_exp_avg_sq"], state["exp_avg_sq"])
        moment: Array = state["max_exp_avg_sq"]
        return moment


class Decoupled(Adam):
    """Adam's steps from a parameter that was made smaller, instead of with a gradient that was made larger."""

    def regularised(self, parameter: Array, gradient: Array) -> Array:  # noqa: ARG002 - as the method it replaces
        """The gradient as it is."""
        return gradient

    def decayed(self, parameter: Array) -> Array:
        """(1 - ηλ)·θ_{t-1}."""
        return (1.0 - self.lr * self.weight_decay) * parameter


@dataclass(frozen=True, kw_only=True)
class AdamW(Decoupled):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2).

    θ_t = θ_{t-1} - η_t·(a · m̂_t/(√v̂_t + ε) + λ'·θ_{t-1})

    The learning rate `lr` is η_t·a, multiplier of the schedule times step size, and `weight_decay` is λ'/a, as it is
    everywhere: the same rule in other units, also under a schedule.
    """

    weight_decay: float = 1e-2


@dataclass(frozen=True, kw_only=True)
class AMSGradW(Decoupled, AMSGrad):
    """AMSGrad's maximum with AdamW's weight decay."""

    weight_decay: float = 1e-2


@dataclass(frozen=True, kw_only=True)
class LazyAdam(Adam):
    """Adam where most rows of a gradient are missing, as in embeddings; of no paper.

    Attributes:
        lazy: the moments of a row without a gradient stay as they are, and so does the row. In Adam they decay, and
            what is left of them moves it. A row is all that shares a first index; it is without a gradient where that
            is zero everywhere.
    """

    lazy: bool = departure(default=False, what="rows without a gradient are left alone, and so are their moments")

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:
        """Adam on the rows with a gradient, under one count of updates for all rows."""
        if not self.lazy or not np.ndim(parameter):
            return super().step(parameter, gradient, state, t)
        rows = np.any(gradient != 0, axis=tuple(range(1, np.ndim(gradient))))
        moments = {name: state[name][rows] for name in ("exp_avg", "exp_avg_sq")}
        moved = np.array(parameter)
        moved[rows] = super().step(parameter[rows], gradient[rows], moments, t)
        for name, moment in moments.items():
            state[name] = np.array(state[name])
            state[name][rows] = moment
        return moved
