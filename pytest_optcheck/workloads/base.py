"""What a reference model is: data, initial parameters, batch order and a loss, all from frozen streams.

A workload is declared in NumPy float64 and cast afterwards, so every dtype and device starts from the same
numbers. Only operations that give the same bits on every machine may be used to draw them: uniform numbers,
integers, permutations, square roots.
"""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.random import RandomState
from numpy.typing import NDArray
from torch import Tensor

from pytest_optcheck.errors import OptcheckError

Arrays = Mapping[str, NDArray[Any]]
Tensors = Mapping[str, Tensor]

DIGEST_DIGITS = 6
"""Significant digits of a loss or gradient that enter the digest.

Rounding moves them in the 13th digit and later, so that one in some ten million falls on another side
elsewhere; a change of model or loss that moves none of them by 1e-6 changes no verdict either.
"""


PROBED = 6
"""First updates whose losses and gradients enter the digest; ``zoo`` has left out gradients by then."""

FOLDS = 4
"""Folds of the examples of a data set: a divisor of 8 and of 16, so that the seeds which screen a change, and those
which confirm it, hold out every example equally often."""

SPLIT_SEED = 20260103
"""Seed of the first permutation that is cut into folds: data, not initialisation."""


class Workload(ABC):
    """One reference model; subclass it and give it to the plugin by ``pytest_optcheck_workloads``.

    Attributes:
        name: how users, goldens and reports call it; lower case with underscores.
        steps: optimizer updates in one training.
        batch_size: examples in one batch; None trains on all of them at every step.
        final_examples: how many examples, from the first on, the final loss is taken over; None takes all.
        joins: tensor -> number of updates after which it is handed to the optimizer by ``add_param_group``; it is
            frozen until then.
        idle: tensor -> number of updates in which it has no gradient, at the beginning; handed over so late it
            must end where it ends otherwise.
        folds: into how many parts the examples can be cut, one of which a seeded copy holds out; 0 where holding
            examples out means nothing.
        stacks: whether many seeds train faster side by side than one after another: where single operations are so
            small that calling them is most of the work (``python benchmarks/side_by_side.py``).
        seed: of a seeded copy; None for the reference, which trains on all examples.
    """

    name: ClassVar[str]
    steps: ClassVar[int]
    batch_size: ClassVar[int | None] = None
    final_examples: ClassVar[int | None] = None
    joins: ClassVar[Mapping[str, int]] = {}
    idle: ClassVar[Mapping[str, int]] = {}
    folds: ClassVar[int] = 0
    stacks: ClassVar[bool] = False
    seed: int | None = None

    def data(self) -> Arrays:
        """Named arrays whose first axis runs over the examples; none by default."""
        return {}

    @abstractmethod
    def init(self, random: RandomState) -> Arrays:
        """Initial parameters in float64, by tensor name, in the order the optimizer gets them."""

    @abstractmethod
    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Scalar loss of `params` on `batch` (the arrays of `data`, rows of this batch only)."""

    def scores(self, params: Tensors, batch: Tensors) -> tuple[Tensor, Tensor] | None:  # noqa: ARG002 - of classifiers
        """What the model says of `batch`, and its true classes; None where nothing is classified.

        Returns:
            Logits, of class 1 (examples) or of each class (examples × classes), and classes (examples).
        """
        return None

    def groups(self, names: Sequence[str]) -> list[list[str]]:
        """Tensor names by parameter group; one group by default. Later groups get altered settings."""
        return [list(names)]

    def backward(self, problem: Problem, step: int) -> Tensor:
        """Compute the loss at `step` and leave the gradients in ``.grad``; returns the loss, detached."""
        loss = self.loss(problem.parameters, problem.batch(step))
        loss.backward(create_graph=problem.create_graph)  # type: ignore[no-untyped-call] # torch leaves it untyped
        return loss.detach()

    def order(self, random: RandomState, examples: int) -> list[NDArray[np.intp]]:
        """Row numbers of the batch of every step: permutation after permutation, remainders dropped."""
        if self.batch_size is None or not examples:
            return []
        if self.batch_size > examples:
            raise OptcheckError(
                f"workload {self.name}: batch_size is {self.batch_size}, but it has {examples} examples"
            )
        batches: list[NDArray[np.intp]] = []
        while len(batches) < self.steps:
            rows = random.permutation(examples)
            full = examples - examples % self.batch_size
            batches.extend(rows[:full].reshape(-1, self.batch_size))
        return batches[: self.steps]

    def problem(self, dtype: torch.dtype, device: torch.device | str = "cpu", seed: int = 0) -> Problem:
        """A fresh copy to train: parameters at their initial values, data on `device` in `dtype`."""
        return Problem(self, dtype, torch.device(device), seed if self.seed is None else self.seed)

    def seeded(self, seed: int) -> Self:
        """The same model, initialised and shuffled by the stream of `seed`, one fold held out: another for each."""
        found = copy.copy(self)
        found.seed = seed
        return found

    def split(self, examples: int) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
        """Row numbers to train on and to hold out; None where all are trained on.

        Every `folds` seeds share a permutation, of which each holds out another fold.
        """
        if self.seed is None or not self.folds:
            return None
        repetition, fold = divmod(self.seed, self.folds)
        rows = RandomState(SPLIT_SEED + repetition).permutation(examples)
        held_out = np.arange(fold, examples, self.folds)
        return np.delete(rows, held_out), rows[held_out]

    @cached_property
    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters by name, in the order the optimizer gets them."""
        return {name: array.shape for name, array in self.init(RandomState(0)).items()}

    @cached_property
    def digest(self) -> str:
        """16 hex digits that change whenever data, initialisation, order, steps, model or loss change.

        Arrays enter bit for bit; model and loss enter by what they compute, to `DIGEST_DIGITS` digits: the
        losses of the first batches and of all data, and the gradient of every tensor, at the initial
        parameters and at displaced ones. So comments, names and harmless rewrites do not count.
        """
        problem = self.problem(torch.float64)
        sha = hashlib.sha256(f"{self.name} {self.steps} {self.batch_size} {self.final_examples}".encode())
        arrays = {**self.data(), **self.init(RandomState(0))}
        for name, array in [*arrays.items(), *((f"order {k}", rows) for k, rows in enumerate(problem.order))]:
            sha.update(f"{name} {array.dtype.str} {array.shape} {array.strides}".encode())
            sha.update(np.ascontiguousarray(array).tobytes())
        for displaced in (False, True):
            for name, parameter in problem.parameters.items():
                if displaced:
                    offset = RandomState(len(name)).uniform(-0.1, 0.1, tuple(parameter.shape))
                    parameter.data.add_(torch.as_tensor(offset))
            for number in problem.probe():
                sha.update(f"{number:.{DIGEST_DIGITS - 1}e} ".encode())
        sha.update(repr(self.groups(list(problem.parameters))).encode())
        if self.joins:
            sha.update(repr(sorted(self.joins.items())).encode())
        return sha.hexdigest()[:16]


class Problem:
    """One training's parameters and data.

    Attributes:
        workload: what it is a copy of.
        parameters: leaf tensors that require gradients, by name.
        order: row numbers of each step's batch; empty for full-batch workloads.
        held: what a workload wants to keep from one step to the next.
        create_graph: whether gradients are to be differentiable.
        half: which half of a batch `batch` gives, 0 or 1; None gives all of it.
    """

    def __init__(self, workload: Workload, dtype: torch.dtype, device: torch.device, seed: int) -> None:
        """Draw everything from the stream of `seed`: parameters first, then the order of the batches."""
        random = RandomState(seed)
        self.workload = workload
        self.parameters = {
            # clone() keeps strides and unshares the memory of float64 arrays
            name: torch.nn.Parameter(torch.from_numpy(array).to(device, dtype).clone())
            for name, array in workload.init(random).items()
        }
        self._data = {
            name: tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)
            for name, tensor in ((name, torch.tensor(array)) for name, array in workload.data().items())
        }
        self._held_out: dict[str, Tensor] = {}
        examples = len(next(iter(self._data.values()))) if self._data else 0
        split = workload.split(examples)
        if split is not None:
            whole = self._data
            self._data, self._held_out = (
                {name: tensor[torch.from_numpy(rows).to(device)] for name, tensor in whole.items()} for rows in split
            )
            examples = len(split[0])
        self.order = workload.order(random, examples)
        self._rows = [torch.from_numpy(np.ascontiguousarray(rows)).to(device) for rows in self.order]
        self.held: dict[str, Tensor] = {}
        self.create_graph = False
        self.half: int | None = None

    def batch(self, step: int) -> Tensors:
        """Data of update `step` + 1, or a half of it; all data where the workload has no batches."""
        if not self._rows:
            return self._data
        rows = self._rows[step]
        if self.half is not None and len(rows) % 2 == 0:
            rows = rows.chunk(2)[self.half]
        return {name: tensor[rows] for name, tensor in self._data.items()}

    def rows(self, name: str, which: int | slice) -> Tensor:
        """One row, or several, of one array of the data."""
        return self._data[name][which]

    def renew(self) -> None:
        """Parameters of the same values in memory of their own, without gradients."""
        for name, parameter in self.parameters.items():
            self.parameters[name] = torch.nn.Parameter(parameter.detach().clone(), parameter.requires_grad)

    def backward(self, step: int) -> Tensor:
        """The loss before update `step` + 1, with the gradients left in ``.grad``."""
        return self.workload.backward(self, step)

    def final_loss(self) -> float:
        """The loss over all data, or over as much of it as the workload evaluates."""
        rows = self.workload.final_examples
        with torch.no_grad():
            batch = {name: tensor[:rows] for name, tensor in self._data.items()}
            return float(self.workload.loss(self.parameters, batch))

    def held_out(self) -> Tensors:
        """The examples that are not trained on, as many as the final loss is taken over; none outside an ensemble."""
        rows = self.workload.final_examples
        return {name: tensor[:rows] for name, tensor in self._held_out.items()}

    def probe(self) -> list[float]:
        """Losses and relative gradient norms that tell one model and loss from another."""
        numbers = [self.final_loss()]
        for step in range(min(PROBED, self.workload.steps)):
            for parameter in self.parameters.values():
                parameter.grad = None
            numbers.append(float(self.backward(step)))
            norms = [float(p.grad.norm()) if p.grad is not None else -1.0 for p in self.parameters.values()]
            total = max([*norms, 0.0]) or 1.0
            numbers += [round(norm / total, DIGEST_DIGITS) for norm in norms]
        return numbers
