"""Many seeds in one training: their parameters stacked, one optimizer for all of them.

A rule that treats every element alike does to a stack what it does to each of its layers. Whether a rule is of that
kind is tried, not looked up. Imports torch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch.func import vmap

from pytest_optcheck.curves import deviation
from pytest_optcheck.ensembles.running import trained
from pytest_optcheck.training import train
from pytest_optcheck.workloads.base import Problem, Workload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import RandomState
    from torch import Tensor

    from pytest_optcheck.conditions import Conditions
    from pytest_optcheck.specs import Factory
    from pytest_optcheck.workloads.base import Arrays, Tensors

PROBE = (0, 1)
"""Seeds that are trained both ways before all others are trusted to a stack."""

SAME = 1e-9
"""Relative deviation of float64 losses up to which two ways to train are one; rounding stays far below, and another
algorithm far above (see `judge.Policy.free`)."""


class Stack(Workload):
    """Some seeds of a reference model; the loss of all is the sum of theirs, so that gradients are their own."""

    name: ClassVar[str] = "stack"
    steps: ClassVar[int] = 0  # conditions tell

    def __init__(self, workload: Workload, seeds: Sequence[int]) -> None:
        """`workload` is the model of one seed."""
        self.workload = workload
        self.seeds = tuple(seeds)

    def init(self, random: RandomState) -> Arrays:
        """Names and shapes of one layer."""
        return self.workload.init(random)

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Of every seed."""
        losses: Tensor = vmap(self.workload.loss)(dict(params), dict(batch))
        return losses

    def groups(self, names: Sequence[str]) -> list[list[str]]:
        """Those of the model."""
        return self.workload.groups(names)

    def problem(self, dtype: torch.dtype, device: torch.device | str = "cpu", seed: int = 0) -> Stacked:
        """Parameters of all seeds, stacked."""
        del seed
        return Stacked(self, dtype, torch.device(device))


class Stacked(Problem):
    """Parameters and data of every seed.

    Attributes:
        layers: the problem of each seed.
        losses: of each seed, step after step.
    """

    def __init__(self, stack: Stack, dtype: torch.dtype, device: torch.device) -> None:
        """Draw every seed's as if it were alone."""
        self.workload = stack
        self.layers = [stack.workload.seeded(seed).problem(dtype, device) for seed in stack.seeds]
        self.parameters = {
            name: torch.nn.Parameter(torch.stack([layer.parameters[name].detach() for layer in self.layers]))
            for name in self.layers[0].parameters
        }
        self.held: dict[str, Tensor] = {}
        self.create_graph = False
        self.half: int | None = None
        self.losses: list[list[float]] = []

    def batch(self, step: int) -> Tensors:
        """That of every seed, stacked."""
        batches = [layer.batch(step) for layer in self.layers]
        return {name: torch.stack([batch[name] for batch in batches]) for name in batches[0]}

    def backward(self, step: int) -> Tensor:
        """The sum of the losses; each seed's gradients are left in its layer of ``.grad``."""
        losses = self.workload.loss(self.parameters, self.batch(step))
        total = losses.sum()
        total.backward(create_graph=self.create_graph)  # type: ignore[no-untyped-call] # torch leaves it untyped
        self.losses.append(losses.tolist())
        return total.detach()

    def final_loss(self) -> float:
        """The sum of those of all seeds; from here on each has its layer of the parameters."""
        with torch.no_grad():
            for name, stacked in self.parameters.items():
                for layer, part in zip(self.layers, stacked, strict=True):
                    layer.parameters[name].copy_(part)
        self.losses.append([layer.final_loss() for layer in self.layers])
        return sum(self.losses[-1])

    def curve(self, position: int) -> tuple[float, ...]:
        """Losses of one seed."""
        return tuple(losses[position] for losses in self.losses)


def alike(factory: Factory, workload: Workload, conditions: Conditions) -> bool:
    """Whether two seeds side by side train as each of them does alone: in float64, to the last loss.

    Never under schedulers: one may look at the loss, which is the sum of all.
    """
    conditions = replace(conditions, dtype="float64", steps=conditions.updates(workload))
    with trained(factory, Stack(workload, PROBE), conditions) as (training, run):
        both = training.problem
        if run.failure is not None or training.schedules.schedulers or not isinstance(both, Stacked):
            return False
    for position, seed in enumerate(PROBE):
        alone, beside = train(factory, workload.seeded(seed), conditions).losses, both.curve(position)
        largest = max(map(abs, beside))
        if len(alone) != len(beside):
            return False
        if not all(deviation(one, other, largest) <= SAME for one, other in zip(alone, beside, strict=True)):
            return False
    return True
