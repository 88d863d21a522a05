"""What a law is, and what it sees of a training: copies taken before an update, settings, state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_optcheck.training import Training

SETTINGS = ("lr", "betas", "eps", "weight_decay", "momentum")
"""Settings of a parameter group that ``step`` has no business to write."""


@dataclass(slots=True)
class Snapshot:
    """Copies taken before a watched update.

    Attributes:
        values: of every tensor the optimizer holds, by name.
        gradients: of those that have one.
        settings: of each parameter group.
    """

    values: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    settings: list[dict[str, Any]]


class Law:
    """One law; an instance watches one training and says how that broke it."""

    name: ClassVar[str]

    def update(self, training: Training, before: Snapshot) -> str | None:
        """How the watched update that was just made broke the law, or None."""

    def end(self, training: Training) -> str | None:
        """How the whole training broke it, or None."""


def settings(training: Training) -> list[dict[str, Any]]:
    """Plain copies of the settings of each group that a step may not change."""
    return [
        {
            name: float(value) if isinstance(value, Tensor) and value.numel() == 1 else value
            for name, value in group.items()
            if name in SETTINGS
        }
        for group in getattr(training.optimizer, "param_groups", ())
    ]


def states(training: Training) -> list[tuple[str, str, Tensor]]:
    """(tensor name, state key, state tensor) of every state tensor that has its parameter's shape."""
    state = getattr(training.optimizer, "state", {})
    return [
        (name, key, value)
        for name, tensor in training.tensors.items()
        if tensor in state and isinstance(state[tensor], dict)
        for key, value in state[tensor].items()
        if isinstance(value, Tensor) and value.shape == tensor.shape and value.numel() and value.dim()
    ]


def values(training: Training) -> dict[str, Tensor]:
    """Copies of every tensor the optimizer holds, by name."""
    return {name: tensor.detach().clone() for name, tensor in training.tensors.items()}


def moved(training: Training, before: Mapping[str, Tensor]) -> str | None:
    """The first of these tensors that is no longer equal to its copy, or None."""
    return next((name for name, old in before.items() if not equal(training.tensors[name].detach(), old)), None)


def equal(one: Tensor, other: Tensor) -> bool:
    """Bit for bit, NaN never equal; sparse tensors by their values."""
    if one.is_sparse or other.is_sparse:
        return one.is_sparse and other.is_sparse and torch.equal(one.coalesce().values(), other.coalesce().values())
    return torch.equal(one, other)
