"""A training that keeps every update: what the optimizer got, and what it made of the parameters."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pytest_optcheck import building
from pytest_optcheck.determinism import deterministic, process_group
from pytest_optcheck.oracles.adapter import to_numpy
from pytest_optcheck.training import Training

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from pytest_optcheck.conditions import Conditions
    from pytest_optcheck.curves import Failure, Run
    from pytest_optcheck.oracles.base import Array
    from pytest_optcheck.specs import Factory
    from pytest_optcheck.workloads.base import Workload

KEPT_NUMBERS = 2**22
"""Numbers that are kept of one training, 32 MiB of them: all updates of ``zoo`` and ``mlp``, and of the largest nets
as many of the first as it takes to tell mistakes apart."""

LEAST_UPDATES = 16
"""Updates that are kept in any case."""

STILL = 1e-4
"""Deviations are relative to how far a tensor has moved, but to no less than this share of its largest value: one that
moves by 1e-8 of itself is rounded by as much as it moves."""


@dataclass(frozen=True, slots=True)
class Track:
    """One tensor's way through a training.

    Attributes:
        name: of the tensor.
        group: index of the parameter group whose settings it has.
        start: its value before the first update.
        gradients: what the optimizer got, an item an update; None where the tensor had no gradient.
        values: its value after each update.
    """

    name: str
    group: int
    start: Array
    gradients: Sequence[Array | None]
    values: Sequence[Array]


@dataclass(frozen=True)
class Observation:
    """The ways of all tensors that have elements, in the order in which the optimizer holds them.

    Attributes:
        tracks: a tensor each.
        updates: how many were kept.
    """

    tracks: tuple[Track, ...]
    updates: int

    @cached_property
    def values(self) -> Array:
        """Updates × elements of all tensors in a row."""
        return self.rows([track.values for track in self.tracks])

    @cached_property
    def offsets(self) -> list[int]:
        """Where each tensor begins in such a row."""
        ends = np.cumsum([track.start.size for track in self.tracks])
        return [0, *map(int, ends[:-1])]

    @cached_property
    def scale(self) -> Array:
        """Updates × tensors: how far each has moved by then, or `STILL` of its largest value if that is more."""
        start = np.concatenate([track.start.ravel() for track in self.tracks])
        with np.errstate(all="ignore"):
            moved = np.where(np.isfinite(self.values), np.abs(self.values - start), 0.0)
            size = np.where(np.isfinite(self.values), np.abs(self.values), 0.0)
        farthest = np.maximum.accumulate(np.maximum.reduceat(moved, self.offsets, axis=1), axis=0)
        largest = np.maximum.accumulate(np.maximum.reduceat(size, self.offsets, axis=1), axis=0)
        floor: Array = np.maximum(np.maximum(farthest, STILL * largest), np.finfo(np.float64).tiny)
        return floor

    @staticmethod
    def rows(ways: Sequence[Sequence[Array]]) -> Array:
        """Values by tensor and update, as a row an update."""
        return np.concatenate([np.stack([value.ravel() for value in way]) for way in ways], axis=1)

    def deviations(self, values: Array) -> Array:
        """Updates × tensors: the largest distance of `values` from what was observed, relative to `scale`.

        A number that is not finite is at no distance from the same one, and infinitely far from any other.

        Args:
            values: of the first updates, or all, as `values`.
        """
        seen = self.values[: len(values)]
        with np.errstate(all="ignore"):
            apart = np.abs(values - seen)
            apart[np.isnan(apart)] = np.inf
            apart[(values == seen) | (np.isnan(values) & np.isnan(seen))] = 0.0
            relative: Array = np.maximum.reduceat(apart, self.offsets, axis=1) / self.scale[: len(values)]
        return relative

    def only(self, which: Sequence[int]) -> Observation:
        """That of some of its tensors, in the order they have here."""
        return Observation(tuple(self.tracks[index] for index in sorted(which)), self.updates)

    def smallest(self, numbers: int, always: int) -> Observation:
        """That of its smallest tensors, `numbers` elements in all, and in any case of the one with index `always`."""
        sizes = [track.start.size for track in self.tracks]
        room, chosen = numbers - sizes[always], {always}
        for index in sorted(set(range(len(sizes))) - chosen, key=sizes.__getitem__):
            room -= sizes[index]
            if room >= 0:
                chosen.add(index)
        return self.only(tuple(chosen))


INDEPENDENT = "zoo"
"""The reference model whose gradients do not depend on the parameters: nothing but the rule is seen there, and a tensor
that leaves the finite numbers takes no other with it."""


def observe(build: Factory, workload: Workload, conditions: Conditions) -> tuple[Observation, Run]:
    """Train as `training.train` does, and keep every update, or as many as there is room for.

    On `INDEPENDENT` a training goes on beyond the finite numbers, which there end it on paper only.

    Args:
        build: makes the optimizer.
        workload: the reference model.
        conditions: everything else.
    """
    with (
        deterministic(conditions.device),
        warnings.catch_warnings(),
        process_group(needed=conditions.needs.process_group),
    ):
        warnings.simplefilter("ignore")
        observer = _Observer(build, workload, conditions)
        run = observer.run()
    return observer.observation(), run


class _Observer(Training):
    """A training that takes copies."""

    def __init__(self, factory: Factory, workload: Workload, conditions: Conditions) -> None:
        """Decide how much to keep."""
        super().__init__(factory, workload, conditions)
        self.starts = {name: to_numpy(p) for name, p in self.problem.parameters.items() if p.numel()}
        numbers = 2 * sum(start.size for start in self.starts.values())
        self.kept_updates = min(self.steps, max(LEAST_UPDATES, KEPT_NUMBERS // max(numbers, 1)))
        self.gradients: dict[str, list[Array | None]] = {name: [] for name in self.starts}
        self.values: dict[str, list[Array]] = {name: [] for name in self.starts}
        self.given: dict[str, Array] = {}
        self.left: Failure | None = None

    def _train(self) -> Failure | None:
        """What happened first is what counts."""
        ended = super()._train()
        return self.left or ended

    def _keep(self, loss: float, step: int) -> Failure | None:
        return self._unless_independent(super()._keep(loss, step))

    def _look(self, update: int) -> Failure | None:
        return self._unless_independent(super()._look(update))

    def _unless_independent(self, failure: Failure | None) -> Failure | None:
        """None where the training goes on all the same."""
        if failure is None or self.problem.workload.name != INDEPENDENT:
            return failure
        self.left = self.left or failure
        return None

    def _prepare_gradients(self) -> Iterator[str]:
        """Copy the gradients when they are ready; a step may write into them."""
        yield from super()._prepare_gradients()
        if self.updates < self.kept_updates:
            self.given = {name: to_numpy(p.grad) for name, p in self.tensors.items() if p.grad is not None}

    def _step(self, *closure: Callable[[], Tensor]) -> None:
        """Keep what the step was given and what it made of it."""
        due = self.updates < self.kept_updates
        super()._step(*closure)
        for name in self.starts if due else ():
            self.gradients[name].append(self.given.get(name))
            self.values[name].append(to_numpy(self.tensors[name]))

    def observation(self) -> Observation:
        """What was kept."""
        plan = building.plan(self.problem.workload, list(self.starts), self.conditions.needs)
        tracks = tuple(
            Track(name, group.origin, self.starts[name], self.gradients[name], self.values[name])
            for group in plan
            for name in group.names
        )
        return Observation(tracks, min((len(track.values) for track in tracks), default=0))
