"""Trains the seeds of an ensemble and takes the metrics of each run. Imports torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from pytest_optcheck.conditions import Conditions
from pytest_optcheck.convergence import SEEDS, floor
from pytest_optcheck.ensembles.figures import PROTOCOL, Ensemble, Member, kept_steps
from pytest_optcheck.ensembles.metrics import classified
from pytest_optcheck.ensembles.running import trained
from pytest_optcheck.ensembles.stacking import Stack, Stacked, alike

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_optcheck.curves import Needs
    from pytest_optcheck.specs import Factory
    from pytest_optcheck.workloads.base import Problem, Workload

SMOOTHED = 10
"""The loss of a batch is averaged over one part in so many of a training before it is compared with a target."""

QUANTILE = 0.25
"""The target of a seed is this quantile of the smoothed losses of its reference run, over the steps.

So every reference run reaches its target, the usual one when three quarters of its updates are made.
"""


@dataclass(frozen=True, slots=True)
class Seeds:
    """What an ensemble is trained from.

    Attributes:
        build: makes the optimizer.
        workload: the reference model.
        needs: of the optimizer.
        device: where to train.
    """

    build: Factory
    workload: Workload
    needs: Needs
    device: str = "cpu"

    def reference(self) -> Ensemble:
        """All seeds, each with a target of its own."""
        found = self._side_by_side() or [self.member(seed, None) for seed in range(SEEDS)]
        return Ensemble(PROTOCOL, self.workload.folds, kept_steps(self.updates), found)

    def again(self, seeds: Iterable[int], reference: Ensemble) -> list[Member]:
        """Some seeds, with the targets of `reference`."""
        return [self.member(seed, reference.members[seed].target) for seed in seeds]

    def member(self, seed: int, target: float | None) -> Member:
        """One seed, with this target or, where there is none, with its own."""
        with trained(self.build, self.workload.seeded(seed), self._conditions) as (training, run):
            if run.failure is not None:
                return Member(ended=run.failure.step, losses=self._kept(run.losses))
            metrics = held_out(training.problem)
        return self._judged(run.losses, metrics, target)

    @property
    def updates(self) -> int:
        """How many each makes."""
        return self._conditions.updates(self.workload)

    @property
    def _conditions(self) -> Conditions:
        return Conditions("float32", self.device, self.needs)

    def _side_by_side(self) -> list[Member]:
        """All seeds in one training; none where that is no faster, not the same, or one comes to no good end."""
        if not self.workload.stacks or not alike(self.build, self.workload, self._conditions):
            return []
        conditions = replace(self._conditions, steps=self.updates)
        with trained(self.build, Stack(self.workload, range(SEEDS)), conditions) as (training, run):
            stacked = training.problem
            if run.failure is not None or not isinstance(stacked, Stacked):
                return []
            metrics = [held_out(layer) for layer in stacked.layers]
        return [self._judged(stacked.curve(seed), found, None) for seed, found in enumerate(metrics)]

    def _judged(self, losses: Sequence[float], metrics: dict[str, float], target: float | None) -> Member:
        """A whole training."""
        curve = smoothed(losses[:-1])
        if target is None:
            target = rounded(float(np.quantile(list(curve.values()), QUANTILE)))
        metrics = {
            **metrics,
            "final_loss": losses[-1],
            "area": float(np.mean(losses[:-1])),
            "steps_to_target": steps_to(target, curve, self.updates),
        }
        if not all(map(math.isfinite, metrics.values())):
            return Member(ended=self.updates, losses=self._kept(losses))
        return Member({name: rounded(metrics[name]) for name in sorted(metrics)}, target, losses=self._kept(losses))

    def _kept(self, losses: Sequence[float]) -> list[float]:
        """The losses to keep, as far as there are any and they are finite."""
        kept = [losses[step] for step in kept_steps(self.updates) if step < len(losses)]
        return [rounded(loss) for loss in kept if math.isfinite(loss)]


def held_out(problem: Problem) -> dict[str, float]:
    """Metrics of the data that were held out; none where no data were."""
    batch = problem.held_out()
    if not batch:
        return {}
    with torch.no_grad():
        loss = float(problem.workload.loss(problem.parameters, batch))
        scores = problem.workload.scores(problem.parameters, batch)
    if scores is None or not math.isfinite(loss):
        return {"held_out_loss": loss}
    logits, classes = (tensor.cpu().numpy() for tensor in scores)
    return {"held_out_loss": loss, **classified(logits, classes)}


def smoothed(losses: Sequence[float]) -> dict[int, float]:
    """Updates made -> mean of the last losses, from where there are as many as the mean is over.

    None is below the floor of what `convergence` compares: what lies there is noise.
    """
    width = max(1, len(losses) // SMOOTHED)
    least = floor(losses[0])
    ends = range(width, len(losses) + 1)
    return {end - 1: max(least, float(np.mean(losses[end - width : end]))) for end in ends}


def steps_to(target: float, curve: dict[int, float], updates: int) -> float:
    """Updates after which `curve` first is at `target` or below, interpolated; `updates` + 1 where it never is."""
    before: tuple[int, float] | None = None
    for step, value in curve.items():
        if value <= target:
            if before is None:
                return float(step)
            return before[0] + (before[1] - target) / (before[1] - value) * (step - before[0])
        before = step, value
    return updates + 1.0


def rounded(value: float) -> float:
    """As many digits as tell every float32 from its neighbours."""
    return float(f"{value:.9g}")
