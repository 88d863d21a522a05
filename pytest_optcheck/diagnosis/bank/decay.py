"""Weight decay in the wrong place: coupled, decoupled, not scaled, too late, of the wrong sign, of the wrong thing."""

# ruff: noqa: ARG005 - the rows of a table share one signature
from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_optcheck.diagnosis.bank.base import Mistake, mistakes, with_scalars
from pytest_optcheck.diagnosis.bank.formats import FORMATS
from pytest_optcheck.oracles.adafactor import Adafactor
from pytest_optcheck.oracles.adam import Decoupled
from pytest_optcheck.oracles.base import Regularised, Rule
from pytest_optcheck.oracles.lamb import LAMB
from pytest_optcheck.oracles.lars import LARS
from pytest_optcheck.oracles.lion import Lion
from pytest_optcheck.oracles.muon import Muon
from pytest_optcheck.oracles.signsgd import SignSGD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from pytest_optcheck.oracles.base import Array, State

    Decay: TypeAlias = Callable[[Array, Array, float, float], Array]

DECOUPLED: tuple[type[Rule], ...] = (Decoupled, Lion, SignSGD, Muon, Adafactor)
"""Rules that make the parameter smaller beside the step, which does not depend on it."""


def decays(rule: Rule) -> bool:
    """Whether weight decay goes on beside its steps."""
    return isinstance(rule, DECOUPLED) and bool(getattr(rule, "weight_decay", 0.0))


@dataclass(frozen=True, kw_only=True)
class Redecayed(Rule):
    """A rule whose own decay is off, and another beside it.

    Attributes:
        bare: the rule without decay.
        weight_decay: of the decay beside it.
        how: the new parameter, of the old one, the one after the bare step, learning rate and decay.
    """

    bare: Rule
    weight_decay: float
    how: Decay

    def start(self, parameter: Array) -> State:
        """As the rule does."""
        return self.bare.start(parameter)

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:
        """The bare step, and the decay."""
        stepped = self.bare.step(parameter, gradient, state, t)
        return self.how(parameter, stepped, self.bare.lr, self.weight_decay)


@dataclass(frozen=True, kw_only=True)
class Coupled(Redecayed):
    """A rule that gets the decay with the gradient."""

    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:
        """Add it on the side of what is to become smaller."""
        pull = self.weight_decay * parameter
        given = self.bare.descending(self.bare.descending(gradient) + pull)
        return self.how(parameter, self.bare.step(parameter, given, state, t), self.bare.lr, self.weight_decay)


class Regularisation(Regularised):
    """A regularised rule with another gradient, of the parameter, the gradient, learning rate and decay."""

    how: ClassVar[Decay]

    def regularised(self, parameter: Array, gradient: Array) -> Array:
        """That of the mistake."""
        return type(self).how(parameter, gradient, self.lr, self.weight_decay)


def _bare(rule: Rule, how: Decay, kind: type[Redecayed] = Redecayed) -> Redecayed:
    decay: float = getattr(rule, "weight_decay", 0.0)
    bare = with_scalars(rule, {"weight_decay": 0.0})
    return kind(lr=rule.lr, maximize=rule.maximize, bare=bare, weight_decay=decay, how=how)


def _narrow(start: Array, stepped: Array, lr: float, decay: float, kind: Callable[[Array], Array]) -> Array:
    """The factor 1 - lr·wd, rounded to few bits."""
    return stepped - start + float(kind(np.asarray(1.0 - lr * decay))) * start


_DECOUPLED: Mapping[str, Decay] = {
    "not scaled by the learning rate": lambda start, stepped, lr, decay: stepped - decay * start,
    "applied after the update": lambda start, stepped, lr, decay: (1.0 - lr * decay) * stepped,
    "applied after the update, not scaled by the learning rate": lambda start, stepped, lr, decay: (
        (1.0 - decay) * stepped
    ),
    "is all that is left: the step itself is never applied": lambda start, stepped, lr, decay: (
        (1.0 - lr * decay) * start
    ),
    "of the wrong sign": lambda start, stepped, lr, decay: stepped + lr * decay * start,
    "a constant, lr·wd subtracted": lambda start, stepped, lr, decay: stepped - lr * decay,
    "scaled by the learning rate twice": lambda start, stepped, lr, decay: stepped - lr**2 * decay * start,
    "of the sign of the parameter": lambda start, stepped, lr, decay: stepped - lr * decay * np.sign(start),
    "applied before the update and after it": lambda start, stepped, lr, decay: (
        (1.0 - lr * decay) * (stepped - lr * decay * start)
    ),
    **{f"by a factor 1 - lr·wd rounded to {name}": partial(_narrow, kind=kind) for name, kind in FORMATS.items()},
}

_COUPLED: Mapping[str, Decay] = {
    "of the wrong sign": lambda start, gradient, lr, decay: gradient - decay * start,
    "scaled by the learning rate": lambda start, gradient, lr, decay: gradient + lr * decay * start,
    "a constant": lambda start, gradient, lr, decay: gradient + decay,
    "of the sign of the parameter": lambda start, gradient, lr, decay: gradient + decay * np.sign(start),
    "multiplied by the gradient": lambda start, gradient, lr, decay: gradient * (1.0 + decay * start),
}


def _kept(start: Array, stepped: Array, lr: float, decay: float) -> Array:  # noqa: ARG001 - no other decay
    return stepped


def _both(start: Array, stepped: Array, lr: float, decay: float) -> Array:
    return stepped - lr * decay * start


MISTAKES: tuple[Mistake, ...] = (
    Mistake("weight decay coupled: added to the gradient", DECOUPLED, partial(_bare, how=_kept, kind=Coupled)),
    Mistake("weight decay both coupled and decoupled", DECOUPLED, partial(_bare, how=_both, kind=Coupled)),
    *(Mistake(f"weight decay {words}", DECOUPLED, partial(_bare, how=how)) for words, how in _DECOUPLED.items()),
    Mistake("weight decay decoupled", Regularised, partial(_bare, how=_both), (*DECOUPLED, LAMB)),
    Mistake(
        "weight decay decoupled, not scaled by the learning rate",
        Regularised,
        partial(_bare, how=_DECOUPLED["not scaled by the learning rate"]),
        (*DECOUPLED, LAMB),
    ),
    *mistakes(
        Regularisation,
        {f"weight decay {words}": how for words, how in _COUPLED.items()},
        family=Regularised,
        unless=(*DECOUPLED, LAMB),
    ),
    *mistakes(
        Regularisation,
        {"weight decay left out of the gradient, not of the trust ratio": lambda start, gradient, lr, decay: gradient},
        family=LARS,
    ),
)
