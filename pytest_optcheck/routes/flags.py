"""Routes that are a constructor setting: foreach, fused, capturable, differentiable, a tensor as lr, maximize."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch

from pytest_optcheck.routes.base import Mirror, Route

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from pytest_optcheck.training import Training

IMPLEMENTATIONS = ("foreach", "fused", "capturable", "differentiable")
"""Settings that choose among implementations of one rule; they exclude each other."""


class _Implementation(Route):
    """Another implementation of the same rule; where the spec asks for it already, the for-loop."""

    flag: ClassVar[str]

    def settings(self, current: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The flag turned, its rivals off."""
        if self.flag not in current:
            return None
        rivals = {name: False for name in IMPLEMENTATIONS if current.get(name)}
        return {**rivals, self.flag: not current[self.flag]}


class Foreach(_Implementation):
    """One call for all tensors."""

    flag = "foreach"


class Fused(_Implementation):
    """One kernel for the whole update."""

    flag = "fused"


class Capturable(_Implementation):
    """No value ever leaves the device, so that a CUDA graph can hold the step."""

    flag = "capturable"


class Differentiable(_Implementation, Mirror):
    """The step itself can be differentiated, so the tensors are no leaves; that it can is seen at the last update."""

    flag = "differentiable"

    def convert(self, name: str, parameter: Tensor) -> Tensor:
        """A copy that has a history."""
        del name
        return parameter

    def tensors(self, problem: Any) -> dict[str, Tensor]:  # noqa: ANN401 - see Mirror
        """Results of an operation that autograd saw."""
        held = {name: p.detach().clone().requires_grad_(p.requires_grad) for name, p in problem.parameters.items()}
        return {name: tensor * 1.0 for name, tensor in held.items()}

    def gradients(self, training: Training) -> None:
        """Copies of the gradients, cut from the history of the update before."""
        for name, parameter in training.problem.parameters.items():
            tensor = training.tensors[name]
            if parameter.grad is not None:
                tensor.grad = parameter.grad.clone().requires_grad_(training.updates + 1 == training.steps)

    def after(self, training: Training) -> None:
        """The model follows; at the end every tensor must have a derivative by its gradient."""
        super().after(training)
        gradients = {name: tensor.grad for name, tensor in training.tensors.items() if tensor.grad is not None}
        if training.updates == training.steps and gradients:
            total = torch.stack([training.tensors[name].sum() for name in gradients]).sum()
            derived = torch.autograd.grad(total, list(gradients.values()), allow_unused=True)
            cut = next((name for name, found in zip(gradients, derived, strict=True) if found is None), None)
            if cut is not None:
                training.laws.breaks("history_kept", f"{cut} has no derivative by its gradient")


class TensorLr(Route):
    """The learning rate is a tensor, as compiled training wants it."""

    def settings(self, current: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """A float64 tensor of the same value: a float32 one would be another learning rate."""
        lr = current.get("lr")
        if isinstance(lr, bool) or not isinstance(lr, (int, float)):
            return None
        return {"lr": torch.tensor(lr, dtype=torch.float64)}


class Maximize(Route):
    """The negated loss, maximised."""

    def settings(self, current: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The flag turned."""
        return {"maximize": not current["maximize"]} if "maximize" in current else None

    def gradients(self, training: Training) -> None:
        """Those of the negated loss."""
        for tensor in training.tensors.values():
            if tensor.grad is not None:
                tensor.grad = -tensor.grad
