"""A graph net: full batch, and one weight row for every node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from pytest_optcheck.workloads import datasets
from pytest_optcheck.workloads.base import Arrays, Tensors, Workload
from pytest_optcheck.workloads.networks import xavier_uniform

if TYPE_CHECKING:
    from numpy.random import RandomState
    from torch import Tensor

LABELLED = (0, 33)
"""The instructor and the club's president, the only nodes whose faction the loss knows."""


class Gcn(Workload):
    """Two graph convolutions (34-16-2) on Zachary's karate club: 34 nodes, 78 edges, two of the nodes labelled.

    Loss: cross-entropy of the labelled nodes plus 5e-4·‖W₁‖² (Kipf & Welling 2017, eq. 9). Only matrices, no
    biases; the features are the identity, so ``conv1`` has one row a node.
    SGD(lr=0.1, momentum=0.9) brings the loss from 0.694 to 0.0254, Adam(lr=0.01) to 0.0275, Adagrad(lr=0.1) to
    0.0181.
    """

    name = "gcn"
    steps = 100
    hidden = 16
    penalty = 5e-4
    """Weight of ‖W₁‖²."""

    def data(self) -> Arrays:
        """``adjacency`` (34 × 34) normalised with self-loops, ``y`` (34) factions, 0 or 1."""
        raw = datasets.load("karate")
        nodes = len(raw["faction"])
        adjacency = np.eye(nodes)
        rows, columns = raw["edges"].T
        adjacency[rows, columns] = adjacency[columns, rows] = 1.0
        root = np.sqrt(adjacency.sum(axis=1))
        return {"adjacency": adjacency / (root[:, None] * root), "y": raw["faction"].astype(np.int64)}

    def init(self, random: RandomState) -> Arrays:
        """Xavier initialisation; inputs are rows here."""
        params = xavier_uniform(random, [("conv1", (34, self.hidden)), ("conv2", (self.hidden, 2))])
        return {name: array for name, array in params.items() if name.endswith("weight")}

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Cross-entropy over the labelled nodes plus 5e-4·‖W₁‖²."""
        adjacency = batch["adjacency"]
        hidden = F.relu(adjacency @ params["conv1.weight"])
        logits = (adjacency @ hidden @ params["conv2.weight"])[list(LABELLED)]
        labels = batch["y"][list(LABELLED)]
        return F.cross_entropy(logits, labels) + self.penalty * params["conv1.weight"].square().sum()
