"""A pre-trained model fine-tuned on other classes: parameter groups, unfreezing, a pull to where it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from pytest_optcheck.workloads import datasets
from pytest_optcheck.workloads.base import FOLDS, Arrays, Tensors, Workload
from pytest_optcheck.workloads.networks import xavier_uniform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.random import RandomState
    from torch import Tensor

HIDDEN = (24, 16)
"""Widths of the two hidden layers."""

CLASSES = 5
"""Digits 0 to 4 before, 5 to 9 after."""


def classify(params: Tensors, x: Tensor) -> Tensor:
    """Logits of a 64-24-16-5 net with tanh: body ``early`` and ``late``, classes ``head``."""
    for name in ("early", "late"):
        x = F.linear(x, params[f"{name}.weight"], params[f"{name}.bias"]).tanh()
    return F.linear(x, params["head.weight"], params["head.bias"])


class Finetune(Workload):
    """The body of a net that knows the digits 0 to 4, with a new head, fine-tuned on 5 to 9 (896 scans).

    Three groups: ``head``, ``late`` and ``early``, the last of which is frozen for 24 updates. The loss pulls the
    body to its pre-trained point: cross-entropy plus 0.05·‖w - w_pre‖². ``benchmarks/pretrain.py`` made w_pre.
    SGD(lr=0.1, momentum=0.9) brings the loss from 1.51 to 0.352, Adam(lr=0.01) to 0.468, Adagrad(lr=0.1) to 0.409.
    """

    name = "finetune"
    steps = 60
    batch_size = 32
    folds = FOLDS
    penalty = 0.05
    """Weight of ‖w - w_pre‖²."""
    joins: ClassVar[Mapping[str, int]] = {"early.weight": 24, "early.bias": 24}

    def data(self) -> Arrays:
        """``x`` (896 × 64) in [-0.5, 0.5], ``y`` (896) 0 to 4."""
        raw = datasets.load("digits")
        later = raw["target"] >= CLASSES
        features = raw["features"].reshape(-1, 64)
        return {"x": features[later] / 16.0 - 0.5, "y": raw["target"][later].astype(np.int64) - CLASSES}

    def pretrained(self) -> Arrays:
        """Weights and biases of the body, on a grid of 2**-12."""
        return datasets.load("pretrained")

    def init(self, random: RandomState) -> Arrays:
        """The head Xavier-initialised, the body as pre-trained."""
        return {**xavier_uniform(random, [("head", (CLASSES, HIDDEN[-1]))]), **self.pretrained()}

    def groups(self, names: Sequence[str]) -> list[list[str]]:
        """Fast ``head``, slow ``late`` and ``early``."""
        found = [[name for name in names if name.startswith(layer)] for layer in ("head", "late", "early")]
        return [group for group in found if group]

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Cross-entropy plus 0.05·‖w - w_pre‖² over the body."""
        pulls = [(params[name] - w).square().sum() for name, w in self._anchor(batch["x"]).items()]
        fit = F.cross_entropy(classify(params, batch["x"]), batch["y"])
        return fit + self.penalty * torch.stack(pulls).sum()

    def scores(self, params: Tensors, batch: Tensors) -> tuple[Tensor, Tensor]:
        """Logits and classes."""
        return classify(params, batch["x"]), batch["y"]

    def _anchor(self, like: Tensor) -> dict[str, Tensor]:
        return {name: like.new_tensor(array) for name, array in self.pretrained().items()}
