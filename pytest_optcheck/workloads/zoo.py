"""Parameters of every shape under a gradient stream: cheap, and it reaches the branches of update rules.

The gradients are drawn beforehand and do not depend on the parameters, so nothing amplifies rounding and a
departure is the update rule's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pytest_optcheck.workloads.base import Arrays, Problem, Tensors, Workload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import RandomState
    from numpy.typing import NDArray
    from torch import Tensor

SHAPES: dict[str, tuple[int, ...]] = {
    "scalar": (),
    "one": (1,),
    "three": (3,),
    "seventeen": (17,),  # one past a vector register of any width
    "odd_1025": (1025,),
    "matrix": (5, 7),
    "tall": (33, 4),
    "conv": (6, 3, 3, 3),
    "empty": (0,),
    "transposed": (7, 5),
    "zero_init": (9,),
    "zero_grad": (4,),
    "some_zeros": (4, 6),
    "tiny": (8,),
    "small": (2, 5),
    "large": (11,),
    "huge": (3, 2),
    "burst": (6,),
    "reused": (5, 3),
    "late": (3, 3),
    "skips": (4, 3),
    "pauses": (10,),
    **{f"many{i}": (2,) for i in range(4)},
}
"""Tensor name -> shape; the names say what is special about a tensor or its gradients."""

SCALES = {"tiny": 1e-8, "small": 1e-4, "large": 1e2, "huge": 1e4, "zero_grad": 0.0}
"""Size of a tensor's gradients where it is not 1."""

ABSENT = {"skips": (1, 2), "late": (1, 2), "pauses": (3, 4)}
"""Updates at which a tensor has no gradient."""

STREAM_SEED = 20260101
"""Seed of the gradients and of the anchors: data, not initialisation."""


class Zoo(Workload):
    """26 small tensors in two parameter groups, 60 updates of drawn gradients.

    Some gradients are None at some updates, see `ABSENT`; the second group opens with ``skips``, whose gradient
    is missing at once. ``reused`` gets the very same gradient tensor at every update (as under CUDA graphs), so
    that an optimizer which writes into ``p.grad`` shows; ``burst`` gets 100-fold gradients at updates 1 to 3.

    The loss is the sum over tensors of log(1 + rms(p - anchor)): it sees every tensor with like weight.
    """

    name = "zoo"
    steps = 60
    batch_size = 1

    def data(self) -> Arrays:
        """Gradients of every update, updates × shape, by tensor name, and ``name.anchor``."""
        random = np.random.RandomState(STREAM_SEED)
        arrays: dict[str, NDArray[Any]] = {}
        for name, shape in SHAPES.items():
            arrays[name] = self._stream(name, random.uniform(-1.0, 1.0, (self.steps, *shape)))
            anchor = random.uniform(1.0, 2.0, shape)
            arrays[f"{name}.anchor"] = np.broadcast_to(anchor, (self.steps, *shape))
        return arrays

    def _stream(self, name: str, noise: NDArray[np.float64]) -> NDArray[np.float64]:
        drift = np.where(noise[:1] < 0, -0.5, 0.5)  # a mean that first moments can find
        gradients = (noise + drift) * SCALES.get(name, 1.0)
        if name == "some_zeros":
            gradients[noise > 0.4] = 0.0  # noqa: PLR2004 - three of ten entries
        if name == "burst":
            gradients[:3] *= 100.0
        if name == "reused":
            gradients[:] = gradients[0]
        return gradients

    def init(self, random: RandomState) -> Arrays:
        """Uniform in [-1, 1]; ``zero_init`` is zero and ``transposed`` is not contiguous."""
        values = {name: np.asarray(random.uniform(-1.0, 1.0, shape)) for name, shape in SHAPES.items()}
        values["zero_init"] = np.zeros(SHAPES["zero_init"])
        values["transposed"] = np.ascontiguousarray(values["transposed"].T).T
        return values

    def order(self, random: RandomState, examples: int) -> list[NDArray[np.intp]]:  # noqa: ARG002 - no shuffling
        """Update after update."""
        return list(np.arange(examples, dtype=np.intp)[:, None])

    def groups(self, names: Sequence[str]) -> list[list[str]]:
        """Two groups: from ``skips`` on is the second."""
        cut = list(SHAPES).index("skips")
        second = set(list(SHAPES)[cut:])
        halves = [[n for n in names if n not in second], [n for n in names if n in second]]
        return [half for half in halves if half]

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Sum over tensors of log(1 + rms(p - anchor)), the anchors being points in [1, 2]."""
        distances = [
            torch.log1p((p - batch[f"{name}.anchor"][0]).square().mean().sqrt())
            for name, p in params.items()
            if p.numel()
        ]
        return torch.stack(distances).sum()

    def backward(self, problem: Problem, step: int) -> Tensor:
        """The loss of the parameters as they are; the gradients come from the stream."""
        batch = problem.batch(step)
        for name, parameter in problem.parameters.items():
            if not parameter.requires_grad or step + 1 in ABSENT.get(name, ()):
                continue
            gradient = torch.empty_like(parameter).copy_(batch[name][0])  # with the parameter's own strides
            if name == "reused":
                gradient = problem.held.setdefault(name, gradient)
            parameter.grad = gradient
        with torch.no_grad():
            return self.loss(problem.parameters, batch)
