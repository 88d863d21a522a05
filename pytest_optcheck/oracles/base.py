"""What a textbook update rule is: settings, the state of one tensor, and one update of it, in NumPy float64.

A rule is written from its paper, not from anybody's code, and imports no torch. Where an implementation is known to
depart from the paper, the rule has a field for it that is declared by `departure`; as it stands it is the paper's.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = NDArray[np.float64]

State = dict[str, Any]
"""What a rule remembers of one tensor: arrays and plain numbers, by name."""

_DEPARTURE = "departure"


def departure(default: Any, what: str) -> Any:  # noqa: ANN401 - like `dataclasses.field`, it stands for any type
    """A field of a rule that is no setting of the textbook: its default is the textbook, `what` says what else is."""
    return dataclasses.field(default=default, metadata={_DEPARTURE: what})


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """Base of all rules; a subclass is one family, its fields are the settings under the names that torch uses.

    Attributes:
        lr: learning rate.
        maximize: the objective is to grow: gradients count with the other sign.
    """

    lr: float = 1e-3
    maximize: bool = False

    def start(self, parameter: Array) -> State:  # noqa: ARG002 - most rules start with zeros of its shape
        """The state of a tensor before its first update, `parameter` being its value then."""
        return {}

    @abstractmethod
    def step(self, parameter: Array, gradient: Array, state: State, t: int) -> Array:
        """One update of one tensor.

        Args:
            parameter: its value; not written into.
            gradient: of the same shape; not written into.
            state: what `start` returned, as the last update left it; written in place.
            t: counts the updates in which this tensor had a gradient, this one included: 1, 2, 3, …

        Returns:
            The new value.
        """

    def update(self, params: Sequence[Array], grads: Sequence[Array | None], state: Sequence[State]) -> None:
        """One update of all tensors; a rule of one's own needs this method only, and no base class.

        Args:
            params: one array a tensor; written in place.
            grads: of the same shapes; None leaves a tensor, its state and its count of updates alone.
            state: one dict a tensor, empty before the first update; written in place.
        """
        for parameter, gradient, own in zip(params, grads, state, strict=True):
            if gradient is None:
                continue
            if not own:
                own.update(self.start(parameter), step=0)
            own["step"] += 1
            parameter[...] = self.step(parameter, gradient, own, own["step"])

    def descending(self, gradient: Array) -> Array:
        """The gradient of what is to become smaller."""
        return -gradient if self.maximize else gradient

    def departures(self) -> dict[str, str]:
        """Where this rule is not the textbook's: field -> what it means, for those that are not at their default."""
        return {
            field.name: field.metadata[_DEPARTURE]
            for field in dataclasses.fields(self)
            if _DEPARTURE in field.metadata and getattr(self, field.name) != field.default
        }

    def textbook(self) -> Self:
        """The rule with the same settings and without departures."""
        fields = dataclasses.fields(self)
        defaults: dict[str, Any] = {field.name: field.default for field in fields if _DEPARTURE in field.metadata}
        return dataclasses.replace(self, **defaults)


@dataclass(frozen=True, kw_only=True)
class Regularised(Rule):
    """A rule with L2 regularisation: weight decay that goes into the gradient, and from there into every moment.

    Attributes:
        weight_decay: λ of the penalty λ/2·‖θ‖².
    """

    weight_decay: float = 0.0

    def regularised(self, parameter: Array, gradient: Array) -> Array:
        """The gradient of the objective with the penalty: g + λθ."""
        return gradient + self.weight_decay * parameter


def averaged(average: Array, value: Array, beta: float) -> Array:
    """The exponential moving average after one more value: β·average + (1 - β)·value."""
    return beta * average + (1.0 - beta) * value


def quotient(numerator: Array, denominator: Array) -> Array:
    """Element by element numerator/denominator, 0 where both are: what never had a gradient has nowhere to go."""
    return np.divide(numerator, np.where((numerator == 0) & (denominator == 0), 1.0, denominator))


def zeros(parameter: Array) -> Array:
    """What most state starts as."""
    return np.zeros(np.shape(parameter))
