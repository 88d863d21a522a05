"""Small models whose loss carries a penalty that is not a square: x⁴ and L1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from pytest_optcheck.workloads import datasets
from pytest_optcheck.workloads.base import FOLDS, Arrays, Tensors, Workload

if TYPE_CHECKING:
    from numpy.random import RandomState
    from torch import Tensor


class Quartic(Workload):
    """Sum over tensors of mean(x² + λx⁴): a scalar and vectors, from steep walls to a flat floor; the optimum is 0.

    ``rest`` lies at the optimum from the start: its values and its gradients are exactly zero, and so they stay.
    SGD(lr=0.01, momentum=0.9) brings the loss from 17.9 to 8.5e-4, Adam(lr=0.05) to 8.2e-3, Adagrad(lr=0.3) to
    0.0121.
    """

    name = "quartic"
    steps = 100
    penalty = 1.0
    """λ."""

    def init(self, random: RandomState) -> Arrays:
        """``scalar`` and ``steep`` (7) uniform in [1, 2], ``flat`` (5) in [-0.5, 0.5], ``rest`` (4) zero."""
        return {
            "scalar": np.asarray(random.uniform(1.0, 2.0)),
            "steep": random.uniform(1.0, 2.0, 7),
            "flat": random.uniform(-0.5, 0.5, 5),
            "rest": np.zeros(4),
        }

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:  # noqa: ARG002 - there is no data
        """Sum of mean(x² + λx⁴)."""
        squares = [x.square() for x in params.values()]
        return torch.stack([(s + self.penalty * s.square()).mean() for s in squares]).sum()


class Logistic(Workload):
    """L1-regularised logistic regression on the breast-cancer data (569 × 30), all weights zero at first.

    Loss: binary cross-entropy plus 0.01·‖w‖₁. SGD(lr=0.1, momentum=0.9) brings it from 0.693 to 0.165,
    Adam(lr=0.03) to 0.167, Adagrad(lr=0.1) to 0.170.
    """

    name = "logistic"
    steps = 100
    batch_size = 64
    folds = FOLDS
    penalty = 0.01
    """Weight of ‖w‖₁; the bias has no penalty."""

    def data(self) -> Arrays:
        """``x`` (569 × 30) standardised, ``y`` (569) 0 or 1."""
        return datasets.breast_cancer()

    def init(self, random: RandomState) -> Arrays:  # noqa: ARG002 - nothing is drawn
        """30 weights and a bias, all zero."""
        return {"weight": np.zeros(30), "bias": np.zeros(1)}

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Binary cross-entropy plus 0.01·‖w‖₁."""
        logits, classes = self.scores(params, batch)
        return F.binary_cross_entropy_with_logits(logits, classes) + self.penalty * params["weight"].abs().sum()

    def scores(self, params: Tensors, batch: Tensors) -> tuple[Tensor, Tensor]:
        """Logits and classes."""
        return batch["x"] @ params["weight"] + params["bias"], batch["y"]
