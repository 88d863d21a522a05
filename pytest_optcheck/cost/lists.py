"""The lists of tensors that steps are counted on: ``zoo``, ``ten`` like a small network, ``many`` of 200.

Their gradients are drawn beforehand, so that an update costs nothing besides the step. For an optimizer that asks
for the objective itself there is one: another in every update, smooth, convex, and cheap.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.workloads.base import Arrays, Problem, Tensors, Workload
from pytest_optcheck.workloads.zoo import Zoo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.random import RandomState
    from numpy.typing import NDArray
    from torch import Tensor

UPDATES = 16
"""Updates with gradients of their own; the next ones begin anew."""

STREAM_SEED = 20260301
"""Seed of the gradients."""

WIDTHS = (12, 16, 16, 16, 16, 4)
"""Widths of the network that ``ten`` looks like: wide enough that a tensor is more than a vector register."""

SMALL_SHAPES: tuple[tuple[int, ...], ...] = ((4, 3), (3,), (2, 5), (8,), (6, 2))
"""Shapes that ``many`` repeats."""

MANY = 200
"""Tensors of ``many``: what an optimizer does once per tensor outweighs there what it does once."""


class TensorList(Workload):
    """Tensors whose gradients at every update are given."""

    steps = UPDATES
    batch_size = 1
    shapes: ClassVar[Mapping[str, tuple[int, ...]]]

    def data(self) -> Arrays:
        """Gradients, updates × shape, by tensor name."""
        return self._gradients

    @functools.cached_property  # a list is made anew several times for every optimizer
    def _gradients(self) -> Arrays:
        random = np.random.RandomState(STREAM_SEED)
        return {name: random.uniform(-1.0, 1.0, (self.steps, *shape)) for name, shape in self.shapes.items()}

    def init(self, random: RandomState) -> Arrays:
        """Uniform in [-1, 1]."""
        return {name: np.asarray(random.uniform(-1.0, 1.0, shape)) for name, shape in self.shapes.items()}

    def order(self, random: RandomState, examples: int) -> list[NDArray[np.intp]]:  # noqa: ARG002 - no shuffling
        """Update after update."""
        return list(np.arange(examples, dtype=np.intp)[:, None])

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Sum over elements of g·p + p²/2 + p⁴/4: where p is small, its gradient is the given one, g."""
        squares = {name: p.square() for name, p in params.items()}
        terms = [(batch[name][0] * p + squares[name] / 2 + squares[name].square() / 4) for name, p in params.items()]
        return torch.cat([term.reshape(-1) for term in terms]).sum()

    def evaluate(self, problem: Problem, names: Sequence[str], update: int) -> Tensor:
        """`loss` of some tensors alone, its gradients left in ``.grad``; quicker than autograd."""
        tensors = [problem.parameters[name].detach() for name in names]
        given = [problem.rows(name, update % self.steps) for name in names]
        squares = torch._foreach_mul(tensors, tensors)  # noqa: SLF001 - one call for all
        gradients = torch._foreach_mul(tensors, squares)  # noqa: SLF001 - ditto
        terms = torch._foreach_mul(tensors, given)  # noqa: SLF001 - ditto
        quartics = torch._foreach_mul(squares, squares)  # noqa: SLF001 - ditto
        for total, part, factor in (
            (gradients, tensors, 1.0),
            (gradients, given, 1.0),
            (terms, squares, 0.5),
            (terms, quartics, 0.25),
        ):
            torch._foreach_add_(total, part, alpha=factor)
        for name, gradient in zip(names, gradients, strict=True):
            problem.parameters[name].grad = gradient
        return torch.cat([term.reshape(-1) for term in terms]).sum()

    def give(self, problem: Problem, names: Sequence[str], update: int) -> None:
        """Leave the gradients of `update` in ``.grad``, with the strides of their tensors."""
        for name in names:
            parameter, given = problem.parameters[name], problem.rows(name, update % self.steps)
            dense = parameter.is_contiguous()
            parameter.grad = given.clone() if dense else torch.empty_like(parameter).copy_(given)


class ZooList(TensorList):
    """The shapes and gradients of the reference model ``zoo``, none of them missing, in its two groups."""

    name = "zoo"

    def __init__(self) -> None:
        """Have a zoo at hand."""
        self._zoo = Zoo()

    @functools.cached_property
    def _gradients(self) -> Arrays:
        """The first of the stream."""
        return {name: array[: self.steps] for name, array in self._zoo.data().items() if name != "anchors"}

    def init(self, random: RandomState) -> Arrays:
        """As the zoo's."""
        return self._zoo.init(random)

    def groups(self, names: Sequence[str]) -> list[list[str]]:
        """As the zoo's."""
        return self._zoo.groups(names)


class Ten(TensorList):
    """Weight and bias of each of five layers."""

    name = "ten"
    shapes = {  # noqa: RUF012 - never written
        name: shape
        for layer, (inner, outer) in enumerate(itertools.pairwise(WIDTHS))
        for name, shape in ((f"weight{layer}", (outer, inner)), (f"bias{layer}", (outer,)))
    }


class Many(TensorList):
    """Many small tensors of a few shapes."""

    name = "many"
    shapes = {f"small{i}": SMALL_SHAPES[i % len(SMALL_SHAPES)] for i in range(MANY)}  # noqa: RUF012 - never written


_LISTS = {kind.name: kind for kind in (ZooList, Ten, Many)}

NAMES: tuple[str, ...] = tuple(_LISTS)
"""Every list."""


@functools.cache
def load(name: str) -> TensorList:
    """The list called `name`.

    Raises:
        OptcheckError: there is none.
    """
    if name not in _LISTS:
        raise OptcheckError(f"no list of tensors is called {name!r}; there are {', '.join(NAMES)}")
    return _LISTS[name]()
