"""Gradient descent, and stochastic gradient descent with momentum."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_optcheck.oracles.base import Array, Regularised, State, departure, zeros


@dataclass(frozen=True, kw_only=True)
class GradientDescent(Regularised):
    """Gradient descent (Cauchy 1847); on a batch at a time the stochastic approximation of Robbins & Monro (1951).

    θ_t = θ_{t-1} - η·g_t
    """

    lr: float = 1e-2

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:
        """Against the gradient."""
        return self.moved(parameter, self.regularised(parameter, self.descending(gradient)), state, t)

    def moved(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:  # noqa: ARG002 - see SGD
        """The parameter after the step."""
        return parameter - self.lr * gradient


@dataclass(frozen=True, kw_only=True)
class SGD(GradientDescent):
    """Gradient descent with momentum (Polyak 1964), as Sutskever et al. (2013, equations 1 and 2) write it.

    v_t = μ·v_{t-1} - η·g_t
    θ_t = θ_{t-1} + v_t

    Nesterov's accelerated gradient (1983) takes the gradient at θ + μv; with the parameters kept at that point
    (Bengio, Boulanger-Lewandowski & Pascanu 2013, arXiv:1212.0901, equation 7, for a constant rate and momentum)
    θ_t = θ_{t-1} + μ·v_t - η·g_t.

    Attributes:
        momentum: μ.
        dampening: the share of a gradient that does not enter the velocity, from the second update on; of no paper,
            it has come down from Torch7.
        nesterov: Nesterov's accelerated gradient.
        rate_outside: the velocity sums gradients, and the learning rate of now multiplies all of it: another rule
            wherever that rate changes.
    """

    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    rate_outside: bool = departure(default=False, what="the learning rate multiplies the velocity, not what enters it")

    def start(self, parameter: Array) -> State:
        """At rest."""
        return {"velocity": zeros(parameter)}

    def moved(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:
        """The parameter after the step."""
        inner, outer = (1.0, self.lr) if self.rate_outside else (self.lr, 1.0)
        state["velocity"] = self.velocity(state["velocity"], inner * gradient, t)
        return parameter - outer * self.direction(state["velocity"], inner * gradient)

    def velocity(self, velocity: Array, gradient: Array, t: int) -> Array:
        """-v_t, of gradients that the learning rate was multiplied into, or not."""
        entering = 1.0 if t == 1 else 1.0 - self.dampening
        return self.momentum * velocity + entering * gradient

    def direction(self, velocity: Array, gradient: Array) -> Array:
        """-v_t, or what Nesterov makes of it."""
        return gradient + self.momentum * velocity if self.nesterov else velocity
