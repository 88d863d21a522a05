"""Parameters of every shape under a gradient stream: cheap, and it reaches the branches of update rules.

The gradients are drawn beforehand and do not depend on the parameters, so nothing amplifies rounding and a
departure is the update rule's own.
"""

from __future__ import annotations

import functools
import math
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

SIZES = {name: math.prod(shape) for name, shape in SHAPES.items()}
"""Tensor name -> number of elements."""

STREAM_SEED = 20260101
"""Seed of the gradients and of the anchors: data, not initialisation."""


class Zoo(Workload):
    """26 small tensors in two parameter groups, 60 updates of drawn gradients.

    Some gradients are None at some updates, see `ABSENT`; the second group opens with ``skips``, whose gradient
    is missing at once. ``reused`` gets the very same gradient tensor at every update (as under CUDA graphs), so
    that an optimizer which keeps a reference to ``p.grad`` shows; ``burst`` gets 100-fold gradients at updates 1 to 3.

    The loss is the sum over tensors of log(1 + rms(p - anchor)): it sees every tensor with like weight.
    """

    name = "zoo"
    steps = 60
    batch_size = 1
    idle = {name: max(absent) for name, absent in ABSENT.items() if 1 in absent}  # noqa: RUF012 - never written

    def data(self) -> Arrays:
        """Gradients of every update, updates × shape, by tensor name, and ``anchors``, all tensors in a row."""
        random = np.random.RandomState(STREAM_SEED)
        arrays: dict[str, NDArray[Any]] = {}
        anchors = []
        for name, shape in SHAPES.items():
            arrays[name] = self._stream(name, random.uniform(-1.0, 1.0, (self.steps, *shape)))
            anchors.append(random.uniform(1.0, 2.0, SIZES[name]))
        arrays["anchors"] = np.broadcast_to(np.concatenate(anchors), (self.steps, sum(SIZES.values())))
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
        return _loss(torch.cat([p.reshape(-1) for p in params.values()]), batch["anchors"][0])

    def backward(self, problem: Problem, step: int) -> Tensor:
        """The loss of the parameters as they are; the gradients come from the stream, added to what is there."""
        for name, parameter in problem.parameters.items():
            if not parameter.requires_grad or step + 1 in ABSENT.get(name, ()):
                parameter.grad = None
                continue
            drawn = problem.rows(name, step)
            if parameter.grad is not None:
                parameter.grad += drawn
            elif name in problem.held:
                parameter.grad = problem.held[name].copy_(drawn)
            else:  # with the parameter's own strides
                dense = parameter.is_contiguous()
                parameter.grad = drawn.clone() if dense else torch.empty_like(parameter).copy_(drawn)
            if name == "reused":
                problem.held[name] = parameter.grad
        with torch.no_grad():
            return self.loss(problem.parameters, {"anchors": problem.rows("anchors", slice(0, 1))})


def _loss(point: Tensor, anchors: Tensor) -> Tensor:
    """The loss of all tensors in a row."""
    sizes, owners = _segments(point.device)
    squares = (point - anchors).square()
    sums = squares.new_zeros(len(sizes)).index_add(0, owners, squares)
    return torch.log1p((sums / sizes).sqrt()).sum()


@functools.cache
def _segments(device: torch.device) -> tuple[Tensor, Tensor]:
    """Sizes of the tensors that are not empty, and for each element of all in a row the tensor it belongs to."""
    sizes = torch.tensor([size for size in SIZES.values() if size], device=device)
    return sizes, torch.repeat_interleave(sizes)
