"""Muon."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pytest_optcheck.oracles.base import Array, Rule, State, averaged, departure, zeros

ORIGINAL, LIKE_ADAMW = "original", "match_rms_adamw"
"""Whose factor the learning rate of a matrix has."""


@dataclass(frozen=True, kw_only=True)
class Muon(Rule):
    """Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon), with the weight decay of Liu et al. (2025).

    B_t = μ·B_{t-1} + g_t
    O_t = NS(B_t), or NS(g_t + μ·B_t) under Nesterov
    θ_t = (1 - ηλ)·θ_{t-1} - η·f·O_t

    NS takes a matrix X, transposed if it is taller than wide, divides it by its Frobenius norm, and does
    X ← a·X + (b·A + c·A²)·X with A = X·Xᵀ a few times over. f is √max(1, rows/columns), or 0.2·√max(rows, columns)
    (Liu et al. 2025, Muon is Scalable for LLM Training, arXiv:2502.16982, equation 4).

    Attributes:
        momentum: μ.
        nesterov: as above.
        weight_decay: λ.
        ns_coefficients: a, b, c.
        ns_steps: how many times.
        eps: the least Frobenius norm that is divided by.
        adjust_lr_fn: whose f; None for the first.
        averaging: B averages gradients with μ, and so does Nesterov's step: the same matrix, but smaller, which NS does
            not see.
        bfloat16: NS rounds every result to bfloat16, and computes it in float32.
    """

    lr: float = 2e-2
    momentum: float = 0.95
    nesterov: bool = True
    weight_decay: float = 0.0
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315)
    ns_steps: int = 5
    eps: float = 1e-7
    adjust_lr_fn: str | None = None
    averaging: bool = departure(default=False, what="the momentum averages gradients instead of summing them")
    bfloat16: bool = departure(default=False, what="Newton-Schulz rounds to bfloat16")

    def start(self, parameter: Array) -> State:
        """A momentum of zero."""
        return {"momentum_buffer": zeros(parameter)}

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:  # noqa: ARG002 - nothing is corrected
        """One update of a matrix."""
        gradient = self.descending(gradient)
        state["momentum_buffer"] = self.momentum_of(state["momentum_buffer"], gradient)
        direction = self.direction(state["momentum_buffer"], gradient)
        return self.decayed(parameter) - self.lr * self.factor(parameter) * self.orthogonal(direction)

    def momentum_of(self, buffer: Array, gradient: Array) -> Array:
        """B_t."""
        return averaged(buffer, gradient, self.momentum) if self.averaging else gradient + self.momentum * buffer

    def direction(self, buffer: Array, gradient: Array) -> Array:
        """What is made orthogonal."""
        return self.momentum_of(buffer, gradient) if self.nesterov else buffer

    def orthogonal(self, matrix: Array) -> Array:
        """NS of `matrix`."""
        scalars = np.array(self.ns_coefficients, dtype=np.float32 if self.bfloat16 else np.float64)
        a, b, c = scalars.tolist()
        tall = matrix.shape[0] > matrix.shape[1]
        x = self.rounded(matrix.T if tall else matrix)
        norm, least = self.rounded(np.array([np.linalg.norm(x), self.eps]))
        x = self.rounded(x / max(norm, least))
        for _ in range(self.ns_steps):
            gram = self.rounded(x @ x.T)
            polynomial = self.rounded(b * gram + c * (gram @ gram))
            x = self.rounded(a * x + polynomial @ x)
        return x.T if tall else x

    def rounded(self, values: Array) -> Array:
        """`values` in the precision of NS."""
        return to_bfloat16(values) if self.bfloat16 else values

    def factor(self, parameter: Array) -> float:
        """By how much more a matrix moves: f."""
        rows, columns = parameter.shape
        if self.adjust_lr_fn == LIKE_ADAMW:
            return 0.2 * math.sqrt(max(rows, columns))
        return math.sqrt(max(1.0, rows / columns))

    def decayed(self, parameter: Array) -> Array:
        """(1 - ηλ)·θ_{t-1}."""
        return (1.0 - self.lr * self.weight_decay) * parameter


def to_bfloat16(values: Array) -> Array:
    """`values` rounded to the nearest number of 8 significant bits, ties to even, by way of float32."""
    bits = np.asarray(values, dtype=np.float32).view(np.uint32).astype(np.uint64)
    up = np.uint64(0x7FFF) + ((bits >> np.uint64(16)) & np.uint64(1))
    kept = ((bits + up) & np.uint64(0xFFFF0000)).astype(np.uint32)
    return kept.view(np.float32).astype(np.float64)
