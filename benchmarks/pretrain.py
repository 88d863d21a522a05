"""Makes ``pretrained.npz``: the body of a net trained on the digits 0 to 4, from which ``finetune`` starts.

The weights are rounded to a grid of 2**-12, so that rounding during the training reaches no bit of them.

    python benchmarks/pretrain.py [--write]
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from benchmarks.figures import add_json_option, finish
from pytest_optcheck.determinism import deterministic
from pytest_optcheck.workloads import datasets
from pytest_optcheck.workloads.base import Arrays, Problem, Tensors, Workload
from pytest_optcheck.workloads.finetune import CLASSES, HIDDEN, classify
from pytest_optcheck.workloads.networks import xavier_uniform

if TYPE_CHECKING:
    from numpy.random import RandomState
    from torch import Tensor

GRID = 2.0**12


class Pretraining(Workload):
    """The digits 0 to 4 (901 scans), as ``finetune`` sees the others."""

    name = "pretraining"
    steps = 400
    batch_size = 32

    def data(self) -> Arrays:
        """``x`` (901 × 64) in [-0.5, 0.5], ``y`` (901) 0 to 4."""
        raw = datasets.load("digits")
        earlier = raw["target"] < CLASSES
        features = raw["features"].reshape(-1, 64)
        return {"x": features[earlier] / 16.0 - 0.5, "y": raw["target"][earlier].astype(np.int64)}

    def init(self, random: RandomState) -> Arrays:
        """Xavier initialisation."""
        layers = [("early", (HIDDEN[0], 64)), ("late", HIDDEN[::-1]), ("head", (CLASSES, HIDDEN[-1]))]
        return xavier_uniform(random, layers)

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(classify(params, batch["x"]), batch["y"])


def main() -> None:
    """Train, round, compare with the shipped file or write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="replace the file in the package")
    add_json_option(parser)
    options = parser.parse_args()
    problem = pretrained()
    body = {
        name: np.round(parameter.detach().numpy() * GRID) / GRID
        for name, parameter in problem.parameters.items()
        if not name.startswith("head")
    }
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **body)
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    if options.write:
        folder = Path(__file__).resolve().parents[1] / "pytest_optcheck" / "workloads" / "data"
        (folder / "pretrained.npz").write_bytes(content.getvalue())
    print(f"SHA-256 {digest}; enter it in datasets.SHA256")
    shipped = datasets.load("pretrained") if digest == datasets.SHA256.get("pretrained") or not options.write else body
    differing = sum(int((shipped[name] != array).sum()) for name, array in body.items())
    finish({"loss": problem.final_loss(), "weights_differing": differing}, options.json)


def pretrained() -> Problem:
    """The problem after its training with Adam."""
    with deterministic("cpu"):
        problem = Pretraining().problem(torch.float64)
        optimizer = torch.optim.Adam(problem.parameters.values(), lr=3e-3)
        for step in range(Pretraining.steps):
            optimizer.zero_grad()
            problem.backward(step)
            optimizer.step()
        return problem


if __name__ == "__main__":
    main()
