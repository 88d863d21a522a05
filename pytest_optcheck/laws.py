"""Laws: what must hold in every training, with no golden to compare with.

A law is watched at a few updates of a training that runs anyway. What an optimizer broke when it was recorded
is stored and never held against it; a law that it breaks newly is a failure.
"""

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


def watched(steps: int) -> frozenset[int]:
    """Updates that are watched: 1 to 4, two in mid-run, and the last."""
    return frozenset((1, 2, 3, 4, steps // 2, steps // 2 + 1, steps))


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
    """One law; an instance watches one training. What it finds it tells `Laws.breaks` under its name."""

    name: ClassVar[str]

    def update(self, training: Training, before: Snapshot) -> str | None:
        """How the watched update that was just made broke the law, or None."""

    def end(self, training: Training) -> str | None:
        """How the whole training broke it, or None."""


class GradientsUntouched(Law):
    """``step`` does not write into ``p.grad``."""

    name = "gradients_untouched"

    def update(self, training: Training, before: Snapshot) -> str | None:
        """Compare every gradient with its copy."""
        if training.closure_needed or training.route.scales:  # a closure computes new ones in the midst of the step
            return None
        for name, old in before.gradients.items():
            now = training.tensors[name].grad
            if now is not None and not _equal(now, old):
                return f"update {training.updates} changed the gradient of {name}"
        return None


class NoGradientNoMove(Law):
    """A parameter without a gradient does not move, weight decay included."""

    name = "no_gradient_no_move"

    def update(self, training: Training, before: Snapshot) -> str | None:
        """Compare every parameter that takes gradients and has none with its copy."""
        for name, old in before.values.items():
            tensor = training.tensors[name]
            if tensor.requires_grad and tensor.grad is None and not _equal(tensor.detach(), old):
                return f"update {training.updates} moved {name}, which has no gradient"
        return None


class FrozenNoMove(Law):
    """A tensor that requires no gradient does not move."""

    name = "frozen_no_move"

    def update(self, training: Training, before: Snapshot) -> str | None:
        """Compare every frozen tensor with its copy."""
        for name, old in before.values.items():
            tensor = training.tensors[name]
            if not tensor.requires_grad and not _equal(tensor.detach(), old):
                return f"update {training.updates} moved {name}, which is frozen"
        return None


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
                self.still[name] = _equal(tensor, before.values[name])

    def end(self, training: Training) -> str | None:
        """Whoever never moved; in fewer bits a parameter may well stay where it is."""
        if training.route.own_curve:
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
            if name in before.gradients and not _equal(before.gradients[name], gradient):
                self.varied.add(name)

    def end(self, training: Training) -> str | None:
        """Whatever is what it was."""
        for name, key, tensor in states(training):
            first = self.first.get((name, key))
            if first is not None and name in self.varied and _equal(tensor, first):
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
        for index, (kept, now) in enumerate(zip(before.settings, _settings(training), strict=False)):
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
        before = {name: tensor.detach().clone() for name, tensor in training.tensors.items()}
        for group in groups:
            group["lr"] = torch.zeros_like(group["lr"]) if isinstance(group["lr"], Tensor) else 0.0
        failure = training.extra_update()
        if failure:
            return f"an update with lr=0 raised {failure}"
        for name, old in before.items():
            if not _equal(training.tensors[name].detach(), old):
                return f"an update with lr=0 moved {name}"
        return None


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

OF_ROUTES: Mapping[str, str] = {
    "closure_once": "step calls the closure once (route closure)",
    "history_kept": "a step that is said to be differentiable is (route differentiable)",
    "inf_step_skipped": "a step whose gradients are not finite moves nothing (route scaled)",
    "loaded_dict_untouched": "load_state_dict leaves the dict it is given as it is (routes that resume)",
    "state_kept": "keys, shapes, dtypes and devices of the state survive a load (route resume)",
    "weights_only": "a state dict can be loaded with weights_only=True (routes that resume)",
    "switch_exact": "eval() and train() leave every parameter bit for bit as it was (optimizers that have both)",
    "repeats": "two runs are equal, bit for bit (route plain)",
}
"""Laws that a route, or whoever runs one twice, checks itself."""

NAMES: tuple[str, ...] = (*(law.name for law in WATCHED), *OF_ROUTES)
"""Every law."""


class Laws:
    """The laws over one training, and how it broke them."""

    def __init__(self, steps: int, *, watch: bool) -> None:
        """`watch` turns the laws of `WATCHED` on; the routes' own are always on."""
        self.broken: dict[str, str] = {}
        self._laws = [law() for law in WATCHED] if watch else []
        self._updates = watched(steps) if watch else frozenset()

    def breaks(self, law: str, how: str) -> None:
        """Keep the first breach of each law."""
        self.broken.setdefault(law, how)

    def before(self, training: Training) -> Snapshot | None:
        """Copies, if the update to come is watched."""
        if training.updates + 1 not in self._updates:
            return None
        gradients = {name: p.grad.detach().clone() for name, p in training.tensors.items() if p.grad is not None}
        values = {name: p.detach().clone() for name, p in training.tensors.items()}
        return Snapshot(values, gradients, _settings(training))

    def after(self, training: Training, before: Snapshot) -> None:
        """Look at the update that was made."""
        for law in self._laws:
            self._keep(law, law.update(training, before))

    def end(self, training: Training) -> None:
        """Look at the whole."""
        for law in self._laws:
            self._keep(law, law.end(training))

    def _keep(self, law: Law, how: str | None) -> None:
        if how:
            self.breaks(law.name, how)


def _settings(training: Training) -> list[dict[str, Any]]:
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


def _any(gradient: Tensor) -> bool:
    """Whether any of it is not zero."""
    return bool((gradient.coalesce().values() if gradient.is_sparse else gradient).any())


def _equal(one: Tensor, other: Tensor) -> bool:
    """Bit for bit, NaN never equal; sparse tensors by their values."""
    if one.is_sparse or other.is_sparse:
        return one.is_sparse and other.is_sparse and torch.equal(one.coalesce().values(), other.coalesce().values())
    return torch.equal(one, other)
