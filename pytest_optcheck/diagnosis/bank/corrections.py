"""Bias corrections: missing, off by one update, frozen, stored back, of the wrong thing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np

from pytest_optcheck.diagnosis.bank.base import Mistake, mistakes
from pytest_optcheck.diagnosis.bank.formats import FORMATS
from pytest_optcheck.oracles.adam import Adam, LazyAdam
from pytest_optcheck.oracles.adamax import Adamax
from pytest_optcheck.oracles.nadam import NAdam

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_optcheck.oracles.base import Array, State

    Pair: TypeAlias = tuple[float, float]
    At: TypeAlias = Callable[[int], Pair]


class Corrections(Adam):
    """Adam with other corrections of its moments, as a function of those at any update, the betas and the update."""

    how: ClassVar[Callable[[At, Pair, int], Pair]]

    def corrections(self, t: int) -> tuple[float, float]:
        """Those of the mistake."""
        first, second = type(self).how(super().corrections, self.betas, t)
        return np.float64(first), np.float64(second)  # which divide by zero without an exception


class StoredBack(Adam):
    """Adam whose state keeps moments divided by their corrections, `how` saying which."""

    how: ClassVar[Callable[[], tuple[str, ...]]]

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:
        """The step is right, what it leaves behind is not."""
        moved = super().step(parameter, gradient, state, t)
        for name, correction in zip(("exp_avg", "exp_avg_sq"), self.corrections(t), strict=True):
            if name in type(self).how():
                state[name] = state[name] / correction
        return moved


class Correction(Adamax):
    """Adamax with another correction of its moment."""

    how: ClassVar[Callable[[Callable[[int], float], float, int], float]]

    def correction(self, t: int) -> float:
        """That of the mistake."""
        return np.float64(type(self).how(super().correction, self.betas[0], t))


def _debiased(beta: float, t: int) -> float:
    """What the correction makes of the decay rate itself."""
    power = np.float64(beta) ** t
    return float((power - beta) / (power - 1.0))


def _narrow(at: At, betas: Pair, t: int, kind: Callable[[Array], Array]) -> Pair:  # noqa: ARG001 - powers of its own
    """1 - β^t of both, the power rounded to few bits, and β before it."""
    first, second = (1.0 - float(kind(kind(np.asarray(beta)) ** t)) for beta in betas)
    return first, second


def _narrower(at: At, betas: Pair, t: int, kind: Callable[[Array], Array]) -> Pair:
    """The same, and the difference rounded too."""
    first, second = (float(kind(np.asarray(correction))) for correction in _narrow(at, betas, t, kind))
    return first, second


_FIRST, _SECOND = "first-moment bias correction", "second-moment bias correction"

MISTAKES: tuple[Mistake, ...] = (
    *mistakes(
        Corrections,
        {
            f"{_SECOND} missing": lambda at, _, t: (at(t)[0], 1.0),
            f"{_SECOND} one update behind": lambda at, _, t: (at(t)[0], at(t - 1)[1]),
            f"{_SECOND} one update ahead": lambda at, _, t: (at(t)[0], at(t + 1)[1]),
            f"{_SECOND} frozen at the first update": lambda at, _, t: (at(t)[0], at(1)[1]),
            f"{_SECOND} is β2^t, not 1 - β2^t": lambda at, b, t: (at(t)[0], b[1] ** t),
            f"{_SECOND} is the debiased beta2": lambda at, b, t: (at(t)[0], _debiased(b[1], t)),
            f"{_SECOND} outside the root": lambda at, _, t: (at(t)[0], at(t)[1] ** 2),
            f"{_SECOND} under a second root": lambda at, _, t: (at(t)[0], at(t)[1] ** 0.5),
            f"{_SECOND} multiplies": lambda at, _, t: (at(t)[0], 1.0 / at(t)[1]),
            **{
                f"bias corrections computed in {name}{how}": partial(narrow, kind=kind)
                for name, kind in FORMATS.items()
                for how, narrow in (("", _narrow), (", the difference from 1 too", _narrower))
            },
        },
    ),
    *mistakes(
        Corrections,
        {
            f"{_FIRST} missing": lambda at, _, t: (1.0, at(t)[1]),
            "bias corrections missing": lambda *_: (1.0, 1.0),
            f"{_FIRST} one update behind": lambda at, _, t: (at(t - 1)[0], at(t)[1]),
            f"{_FIRST} one update ahead": lambda at, _, t: (at(t + 1)[0], at(t)[1]),
            f"{_FIRST} frozen at the first update": lambda at, _, t: (at(1)[0], at(t)[1]),
            f"{_FIRST} is β1^t, not 1 - β1^t": lambda at, b, t: (b[0] ** t, at(t)[1]),
            "bias corrections are β^t, not 1 - β^t": lambda _, b, t: (b[0] ** t, b[1] ** t),
            f"{_FIRST} is the debiased beta1": lambda at, b, t: (_debiased(b[0], t), at(t)[1]),
            "bias corrections are the debiased betas": lambda _, b, t: (_debiased(b[0], t), _debiased(b[1], t)),
            "bias corrections exchanged": lambda at, _, t: at(t)[::-1],
            f"{_FIRST} multiplies": lambda at, _, t: (1.0 / at(t)[0], at(t)[1]),
            "bias corrections multiply": lambda at, _, t: (1.0 / at(t)[0], 1.0 / at(t)[1]),
        },
        unless=(NAdam,),  # which corrects the first moment by a product of its own
    ),
    *mistakes(
        StoredBack,
        {
            "first moment stored back corrected": lambda: ("exp_avg",),
            "second moment stored back corrected": lambda: ("exp_avg_sq",),
            "moments stored back corrected": lambda: ("exp_avg", "exp_avg_sq"),
        },
        unless=(LazyAdam, NAdam),
    ),
    *mistakes(
        Correction,
        {
            f"{_FIRST} missing": lambda *_: 1.0,
            f"{_FIRST} is β1^t, not 1 - β1^t": lambda _, beta, t: beta**t,
            f"{_FIRST} multiplies": lambda at, _, t: 1.0 / at(t),
        },
    ),
)
