"""Reference models with examples to hold out, and the ensembles of small optimizers on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from numpy.random import RandomState
from toys import toy

from pytest_optcheck.building import plain
from pytest_optcheck.curves import Needs
from pytest_optcheck.ensembles.members import Seeds
from pytest_optcheck.workloads.base import Arrays, Tensors, Workload

if TYPE_CHECKING:
    from torch import Tensor


class Line(Workload):
    """A line through 16 points; the final loss is taken over the first 10."""

    name = "line"
    steps = 12
    batch_size = 4
    final_examples = 10
    folds = 4

    def data(self) -> Arrays:
        """Points of a noisy line."""
        random = RandomState(3)
        x = np.linspace(-1.0, 1.0, 16)
        return {"x": x, "y": 2.0 * x - 1.0 + 0.3 * random.uniform(-1.0, 1.0, 16)}

    def init(self, random: RandomState) -> Arrays:
        """Slope and height."""
        return {"slope": random.uniform(-1.0, 1.0, 1), "height": random.uniform(-1.0, 1.0, 1)}

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Mean squared error."""
        return (params["slope"] * batch["x"] + params["height"] - batch["y"]).square().mean()


class Sides(Line):
    """Which points lie above zero."""

    name = "sides"

    def data(self) -> Arrays:
        """Points and classes."""
        data = super().data()
        return {"x": data["x"], "y": (data["y"] > 0.0).astype(np.float64)}

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Binary cross-entropy."""
        return F.binary_cross_entropy_with_logits(*self.scores(params, batch))

    def scores(self, params: Tensors, batch: Tensors) -> tuple[Tensor, Tensor]:
        """Logits and classes."""
        return params["slope"] * batch["x"] + params["height"], batch["y"]


def descent(lr: float = 0.1, **settings: Any) -> Any:  # noqa: ANN401 - settings of an optimizer
    """A factory of gradient descent."""
    return lambda params: torch.optim.SGD(params, lr=lr, **settings)


def seeds(build: Any, workload: Workload | None = None, needs: Needs | None = None) -> Seeds:  # noqa: ANN401 - a factory
    """The seeds of an optimizer."""
    return Seeds(plain(toy(build)), workload or Line(), needs or Needs())
