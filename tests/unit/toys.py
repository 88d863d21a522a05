"""Small reference models and optimizers for the tests that have to train something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pytest_optcheck.specs import FactorySpec
from pytest_optcheck.workloads.base import Arrays, Tensors, Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.random import RandomState
    from torch import Tensor


class Bowl(Workload):
    """Half the squared distance of 7 numbers in two tensors from a row of the data."""

    name = "bowl"
    steps = 6
    batch_size = 2

    def data(self) -> Arrays:
        """Four targets."""
        return {"target": np.arange(28.0).reshape(4, 7) / 16.0}

    def init(self, random: RandomState) -> Arrays:
        """A vector and a matrix."""
        return {"vector": random.uniform(-1.0, 1.0, 3), "matrix": random.uniform(-1.0, 1.0, (2, 2))}

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Half the squared distance."""
        point = torch.cat([p.flatten() for p in params.values()])
        return 0.5 * (point - batch["target"]).square().sum()


class TwoGroups(Bowl):
    """The bowl with a parameter group for each tensor."""

    name = "bowl_two_groups"

    def groups(self, names: Sequence[str]) -> list[list[str]]:
        """One group a tensor."""
        return [[name] for name in names]


class Descent:
    """Plain gradient descent in the form of an optimizer; subclasses break it in one way each."""

    def __init__(self, params: Iterable[Any], lr: float = 0.1) -> None:
        """Take tensors or parameter groups."""
        given = list(params)
        groups = given if given and isinstance(given[0], dict) else [{"params": given}]
        self.param_groups: list[dict[str, Any]] = [{"lr": lr, **group} for group in groups]
        self.updates = 0

    @property
    def parameters(self) -> list[Tensor]:
        """Every tensor of every group."""
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        """Update every tensor that has a gradient."""
        self.updates += 1
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self.update(parameter, parameter.grad, group["lr"])

    def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        """Move one tensor."""
        parameter.add_(gradient, alpha=-lr)


def toy(build: Callable[[Iterable[Any]], Any], name: str = "toy") -> FactorySpec:
    """A spec for a toy optimizer."""
    return FactorySpec(name, build)
