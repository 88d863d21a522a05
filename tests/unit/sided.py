"""Optimizers of two sides: a rule, and what a later commit made of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable


class Old(torch.optim.Optimizer):
    """Gradient descent with weight decay."""

    def __init__(self, params: Iterable[Any], lr: float = 0.1, weight_decay: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override] # no closure is needed
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.update(parameter, parameter.grad, group["lr"], group["weight_decay"])

    def update(self, parameter: torch.Tensor, gradient: torch.Tensor, lr: float, decay: float) -> None:
        parameter.mul_(1 - lr * decay).add_(gradient, alpha=-lr)


class Rewritten(Old):
    """The same in another order, so that rounding differs."""

    def update(self, parameter: torch.Tensor, gradient: torch.Tensor, lr: float, decay: float) -> None:
        parameter.copy_(parameter - lr * (gradient + decay * parameter))


class Other(Old):
    """Another decay."""

    def update(self, parameter: torch.Tensor, gradient: torch.Tensor, lr: float, decay: float) -> None:
        parameter.mul_(1 - decay).add_(gradient, alpha=-lr)


class Waits(Old):
    """Waits for a number that it does not use."""

    def update(self, parameter: torch.Tensor, gradient: torch.Tensor, lr: float, decay: float) -> None:
        gradient.sum().item()
        super().update(parameter, gradient, lr, decay)


class Raises(Old):
    """No longer runs."""

    def update(self, parameter: torch.Tensor, gradient: torch.Tensor, lr: float, decay: float) -> None:
        raise RuntimeError(f"cannot update {tuple(parameter.shape)} of {gradient.dtype} by {lr} and {decay}")


class Restless(Old):
    """Draws from where no seed reaches."""

    def update(self, parameter: torch.Tensor, gradient: torch.Tensor, lr: float, decay: float) -> None:
        super().update(parameter, gradient, lr * (1 + 1e-4 * os.urandom(1)[0]), decay)


class Leaves(Old):
    """Ends the process it runs in, as a fault in compiled code does."""

    def update(self, parameter: torch.Tensor, gradient: torch.Tensor, lr: float, decay: float) -> None:  # noqa: ARG002 - whatever it is given
        os._exit(7)
