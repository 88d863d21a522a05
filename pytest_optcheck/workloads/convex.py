"""Convex reference models: their optimum is known, so a reader can tell how far an optimizer got."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_optcheck.workloads import datasets
from pytest_optcheck.workloads.base import FOLDS, Arrays, Tensors, Workload

if TYPE_CHECKING:
    from numpy.random import RandomState
    from torch import Tensor


class Quadratic(Workload):
    """mean(θ²) for θ in R^1000, uniform in [-1, 1] at first; the optimum is 0."""

    name = "quadratic"
    steps = 100
    curvature: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest curvature; those between are spaced geometrically."""

    def init(self, random: RandomState) -> Arrays:
        """θ, 1000 numbers."""
        return {"theta": random.uniform(-1.0, 1.0, 1000)}

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:  # noqa: ARG002 - there is no data
        """mean(c·θ²)."""
        theta = params["theta"]
        low, high = self.curvature
        if low == high:
            return theta.square().mean()
        exponents = np.linspace(0.0, 1.0, len(theta))
        return (theta.new_tensor(low * (high / low) ** exponents) * theta.square()).mean()


class IllConditionedQuadratic(Quadratic):
    """mean(c·θ²) with curvatures c from 1e-3 to 10: condition number 1e4; the optimum is 0."""

    name = "quadratic_ill"
    curvature = (1e-3, 10.0)


class Linear(Workload):
    """Ridge regression on the diabetes data (442 × 10), features and target standardised.

    Loss mean((Xw + b - y)²) + 0.01·‖w‖²; the least over all data is 0.4871.
    """

    name = "linear"
    steps = 100
    batch_size = 64
    folds = FOLDS

    def data(self) -> Arrays:
        """``x`` (442 × 10) and ``y`` (442), standardised."""
        raw = datasets.load("diabetes")
        return {"x": datasets.standardised(raw["features"]), "y": datasets.standardised(raw["target"])}

    def init(self, random: RandomState) -> Arrays:
        """Weights uniform in [-1, 1], bias 0."""
        return {"weight": random.uniform(-1.0, 1.0, 10), "bias": np.zeros(1)}

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Mean squared error plus 0.01·‖w‖²."""
        residual = batch["x"] @ params["weight"] + params["bias"] - batch["y"]
        return residual.square().mean() + 0.01 * params["weight"].square().sum()
