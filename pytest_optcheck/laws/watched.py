"""The laws that every watched training obeys, one class each: what a step may not do, whatever the algorithm."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pytest_optcheck.laws.base import Law, Snapshot, equal, moved, settings, states, values
from pytest_optcheck.routes import OWN_CURVE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_optcheck.training import Training


class GradientsUntouched(Law):
    """``step`` does not write into ``p.grad``."""

    name = "gradients_untouched"

    def update(self, training: Training, before: Snapshot) -> str | None:
        """Compare every gradient with its copy."""
        if training.closure_needed or training.route.scales:  # a closure computes new ones in the midst of the step
            return None
        for name, old in before.gradients.items():
            now = training.tensors[name].grad
            if now is not None and not equal(now, old):
                return f"update {training.updates} changed the gradient of {name}"
        return None


class _NoMove(Law):
    """Tensors of one kind do not move."""

    kind: ClassVar[str]

    def concerns(self, tensor: Tensor) -> bool:
        """Whether it is of that kind."""
        raise NotImplementedError

    def update(self, training: Training, before: Snapshot) -> str | None:
        """Compare every tensor of that kind with its copy."""
        concerned = {name: old for name, old in before.values.items() if self.concerns(training.tensors[name])}
        name = moved(training, concerned)
        return f"update {training.updates} moved {name}, which {self.kind}" if name is not None else None


class NoGradientNoMove(_NoMove):
    """A parameter without a gradient does not move, weight decay included."""

    name = "no_gradient_no_move"
    kind = "has no gradient"

    def concerns(self, tensor: Tensor) -> bool:
        """It takes gradients and has none."""
        return tensor.requires_grad and tensor.grad is None


class FrozenNoMove(_NoMove):
    """A tensor that requires no gradient does not move."""

    name = "frozen_no_move"
    kind = "is frozen"

    def concerns(self, tensor: Tensor) -> bool:
        """It requires no gradient."""
        return not tensor.requires_grad


class ParametersMove(Law):
    """A parameter whose gradient is not zero moves, if not at once."""

    name = "parameters_move"

    def __init__(self) -> None:
        """Nothing has moved yet."""
        self.still: dict[str, bool] = {}

    def update(self, training: Training, before: Snapshot) -> None:
        """Remember who had a gradient and who moved."""
        for name, gradient in before.gradients.items():
            tensor = training.tensors[name].detach()
            if self.still.get(name, True) and _any(gradient):
                self.still[name] = equal(tensor, before.values[name])

    def end(self, training: Training) -> str | None:
        """Whoever never moved; in fewer bits a parameter may well stay where it is."""
        if training.conditions.route in OWN_CURVE:
            return None
        return next(
            (f"{name} never moved in spite of its gradients" for name, still in self.still.items() if still), None
        )


class StateMoves(Law):
    """A state tensor of the parameter's shape moves while gradients do; constant ones may well leave it alone."""

    name = "state_moves"

    def __init__(self) -> None:
        """Nothing has been seen yet."""
        self.first: dict[tuple[str, str], Tensor] = {}
        self.gradients: Mapping[str, Tensor] = {}
        self.varied: set[str] = set()

    def update(self, training: Training, before: Snapshot) -> None:
        """Keep the first value of each state tensor, and whose gradients change."""
        if not self.first:
            self.gradients = {name: gradient for name, gradient in before.gradients.items() if _any(gradient)}
            for name, key, tensor in states(training):
                if name in self.gradients:
                    self.first[name, key] = tensor.clone()
        for name, gradient in self.gradients.items():
            if name in before.gradients and not equal(before.gradients[name], gradient):
                self.varied.add(name)

    def end(self, training: Training) -> str | None:
        """Whatever is what it was."""
        for name, key, tensor in states(training):
            first = self.first.get((name, key))
            if first is not None and name in self.varied and equal(tensor, first):
                return f"state {key} of {name} is at the end what it was after the first update"
        return None


class StepsCounted(Law):
    """Counters named ``step`` equal the number of updates with a gradient."""

    name = "steps_counted"

    def end(self, training: Training) -> str | None:
        """Compare them, tensor by tensor."""
        state = getattr(training.optimizer, "state", {})
        for name, tensor in training.tensors.items():
            counted = state[tensor].get("step") if tensor in state and isinstance(state[tensor], dict) else None
            if not isinstance(counted, (int, float, Tensor)):
                continue
            expected = training.effective.get(name, 0)
            if float(counted) != expected:
                return f"the counter of {name} is {float(counted):g} after {expected} updates with a gradient"
        return None


class SettingsKept(Law):
    """``step`` does not write into the settings of a parameter group."""

    name = "settings_kept"

    def update(self, training: Training, before: Snapshot) -> str | None:
        """Compare with the settings before the update."""
        for index, (kept, now) in enumerate(zip(before.settings, settings(training), strict=False)):
            for key, value in kept.items():
                if key in now and now[key] != value:
                    return f"group {index} has {key}={now[key]!r} after update {training.updates}, had {value!r}"
        return None


class LrZero(Law):
    """With ``lr=0`` one more update leaves every parameter finite and where it is, weight decay included."""

    name = "lr_zero"

    def end(self, training: Training) -> str | None:
        """Make that update."""
        groups = getattr(training.optimizer, "param_groups", ())
        if any("lr" not in group for group in groups):
            return None
        before = values(training)
        for group in groups:
            group["lr"] = torch.zeros_like(group["lr"]) if isinstance(group["lr"], Tensor) else 0.0
        failure = training.extra_update()
        if failure:
            return f"an update with lr=0 raised {failure}"
        name = moved(training, before)
        return f"an update with lr=0 moved {name}" if name is not None else None


WATCHED: tuple[type[Law], ...] = (
    GradientsUntouched,
    NoGradientNoMove,
    FrozenNoMove,
    ParametersMove,
    StateMoves,
    StepsCounted,
    SettingsKept,
    LrZero,  # the last one: it makes an update of its own
)
"""The laws that every watched training obeys."""


def _any(gradient: Tensor) -> bool:
    """Whether any of it is not zero."""
    return bool((gradient.coalesce().values() if gradient.is_sparse else gradient).any())
