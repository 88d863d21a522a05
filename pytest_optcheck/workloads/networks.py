"""Neural networks on real data, small enough for seconds on one CPU thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from pytest_optcheck.workloads import datasets
from pytest_optcheck.workloads.base import FOLDS, Arrays, Tensors, Workload

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.random import RandomState
    from torch import Tensor


def he_uniform(random: RandomState, layers: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, np.ndarray]:
    """Weights and zero biases of ReLU layers.

    Args:
        random: the stream to draw from.
        layers: (name, weight shape) pairs, the output axis first.

    Returns:
        ``name.weight`` uniform in ±sqrt(6 / fan_in) (He et al. 2015, eq. 10, as a uniform distribution) and
        ``name.bias`` zero, float64.
    """
    return _uniform(random, ((name, shape, np.sqrt(6.0 / np.prod(shape[1:]))) for name, shape in layers))


def xavier_uniform(random: RandomState, layers: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, np.ndarray]:
    """Weights and zero biases of layers whose activation has slope 1 at zero.

    Args:
        random: the stream to draw from.
        layers: (name, weight shape) pairs, rows for outputs, columns for inputs.

    Returns:
        ``name.weight`` uniform in ±sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16) and ``name.bias``
        zero, float64.
    """
    return _uniform(random, ((name, shape, np.sqrt(6.0 / sum(shape))) for name, shape in layers))


def _uniform(random: RandomState, layers: Iterable[tuple[str, tuple[int, ...], float]]) -> dict[str, np.ndarray]:
    """Weights uniform in ± the bound of each layer, biases zero."""
    params: dict[str, np.ndarray] = {}
    for name, shape, bound in layers:
        params[f"{name}.weight"] = random.uniform(-bound, bound, shape)
        params[f"{name}.bias"] = np.zeros(shape[0])
    return params


class Mlp(Workload):
    """A 30-128-64-32-1 ReLU net with sigmoid and binary cross-entropy, on the breast-cancer data (569 × 30).

    Adam(lr=1e-3) brings the loss over all data from 0.82 to 0.047.
    """

    name = "mlp"
    steps = 80
    batch_size = 64
    folds = FOLDS
    stacks = True

    def data(self) -> Arrays:
        """``x`` (569 × 30) standardised, ``y`` (569) 0 or 1."""
        return datasets.breast_cancer()

    def init(self, random: RandomState) -> Arrays:
        """He initialisation."""
        shapes = [("dense1", (128, 30)), ("dense2", (64, 128)), ("dense3", (32, 64)), ("out", (1, 32))]
        return he_uniform(random, shapes)

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Binary cross-entropy of the sigmoid of the output."""
        return F.binary_cross_entropy_with_logits(self.logits(params, batch), batch["y"])

    def scores(self, params: Tensors, batch: Tensors) -> tuple[Tensor, Tensor]:
        """Logits and classes."""
        return self.logits(params, batch), batch["y"]

    def logits(self, params: Tensors, batch: Tensors) -> Tensor:
        """The output before the sigmoid."""
        x = batch["x"]
        for name in ("dense1", "dense2", "dense3"):
            x = F.relu(F.linear(x, params[f"{name}.weight"], params[f"{name}.bias"]))
        return F.linear(x, params["out.weight"], params["out.bias"]).squeeze(1)


class DigitsCnn(Workload):
    """Convolutions 32-64-64, a dense layer of 64 and 10 classes, on 1,797 scans of digits (8×8).

    Adam(lr=1e-3) brings the cross-entropy over the first 256 scans from 2.32 to 0.66 in 40 updates.
    """

    name = "digits_cnn"
    steps = 40
    batch_size = 16
    final_examples = 256
    folds = FOLDS

    def data(self) -> Arrays:
        """``x`` (1797 × 1 × 8 × 8) in [0, 1], ``y`` (1797) 0 to 9."""
        raw = datasets.load("digits")
        return {"x": raw["features"].reshape(-1, 1, 8, 8) / 16.0, "y": raw["target"].astype(np.int64)}

    def init(self, random: RandomState) -> Arrays:
        """He initialisation."""
        convolutions = [("conv1", (32, 1, 3, 3)), ("conv2", (64, 32, 3, 3)), ("conv3", (64, 64, 3, 3))]
        return he_uniform(random, [*convolutions, ("dense", (64, 256)), ("out", (10, 64))])

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Cross-entropy over the ten classes."""
        return F.cross_entropy(self.logits(params, batch), batch["y"])

    def scores(self, params: Tensors, batch: Tensors) -> tuple[Tensor, Tensor]:
        """Logits and classes."""
        return self.logits(params, batch), batch["y"]

    def logits(self, params: Tensors, batch: Tensors) -> Tensor:
        """Scores of the ten classes."""
        x = F.relu(F.conv2d(batch["x"], params["conv1.weight"], params["conv1.bias"], padding=1))
        x = F.max_pool2d(F.relu(F.conv2d(x, params["conv2.weight"], params["conv2.bias"], padding=1)), 2)
        x = F.max_pool2d(F.relu(F.conv2d(x, params["conv3.weight"], params["conv3.bias"], padding=1)), 2)
        x = F.relu(F.linear(x.flatten(1), params["dense.weight"], params["dense.bias"]))
        return F.linear(x, params["out.weight"], params["out.bias"])
