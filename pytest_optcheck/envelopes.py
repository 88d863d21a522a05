"""A reference curve with its envelope: what rounding alone does to a training, measured by jittered runs.

The formula behind every envelope, and how its figures are rounded. Imports torch.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_optcheck.curves import BLIND, HORIZON, curve_steps, deviation
from pytest_optcheck.format import Curve, Point
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_optcheck.conditions import Conditions
    from pytest_optcheck.curves import Run
    from pytest_optcheck.specs import Factory
    from pytest_optcheck.workloads.base import Workload

DRAWS = (8, 4)
"""Jittered runs of one ulp, and of `STORM_ULPS`."""

ROUTE_DRAWS = (4, 2)
"""Half as many, for the curves of routes, which are many and run beside the plain one, and for lean recordings."""

LEAN_ROUTE_DRAWS = (2, 1)
"""For the curves of routes in a lean recording, which compute in as many bits as the plain one does."""

STORM_ULPS = 256.0
"""Amplitude of the second set of jittered runs, in ulps.

A training may hold decisions that an ulp overturns once in a hundred machines: eight draws of one ulp would
miss them. At 256 ulps they show, and the envelope is taken from the storm wherever the answer to it is not
256 times the answer to one ulp, within `LINEAR`. A decision that one machine in a hundred takes otherwise
escapes four such draws 3 times in 100,000.
"""

LINEAR = 8.0
"""Factor within which the answer to the storm still counts as proportional; eight draws vary by 2 or 3."""


def enveloped(
    build: Factory, workload: Workload, conditions: Conditions, reference: Run, draws: tuple[int, int]
) -> Curve:
    """The reference with the envelope of jittered runs.

    Args:
        build: makes the optimizer.
        workload: the reference model.
        conditions: of the reference.
        reference: the run without jitter.
        draws: how many jittered runs of one ulp to make, and how many of the storm.
    """
    quiet = replace(conditions, watch=False)
    calm, storm = (
        [train(build, workload, replace(quiet, jitter=seed, ulps=ulps)) for seed in range(count)]
        for ulps, count in zip((1.0, STORM_ULPS), draws, strict=True)
    )
    finite = [loss for loss in reference.losses if math.isfinite(loss)]
    kept = [step for step in curve_steps(conditions.updates(workload)) if step < len(finite)]
    losses = with_envelope(
        dict(enumerate(finite)),
        [[dict(enumerate(run.losses)) for run in runs] for runs in (calm, storm)],
        kept,
    )
    norms = {
        name: with_envelope(norms, [[run.norms[name] for run in runs] for runs in (calm, storm)], list(norms))
        for name, norms in ((name, _finite(norms)) for name, norms in reference.norms.items())
        if norms
    }
    ends = [run.failure.step for run in (reference, *calm) if run.failure is not None]
    return Curve(
        losses=losses,
        norms=norms,
        horizon=next((point.step for point in losses if point.envelope > HORIZON), None),
        diverges=(min(ends), max(ends)) if reference.failure is not None else None,
    )


def with_envelope(
    reference: Mapping[int, float], jittered: Sequence[Sequence[Mapping[int, float]]], kept: Sequence[int]
) -> list[Point]:
    """Reference values at the kept steps with their envelope, which never shrinks along the run.

    Args:
        reference: step -> value, finite.
        jittered: the runs of one ulp, then those of the storm, each as step -> value.
        kept: the steps to store.
    """
    largest = max(map(abs, reference.values()), default=0.0)
    points: list[Point] = []
    envelope = 0.0
    for step, value in reference.items():
        calm, storm = (max(deviation(run.get(step, math.nan), value, largest) for run in runs) for runs in jittered)
        linear = storm <= LINEAR * STORM_ULPS * calm
        envelope = max(envelope, calm if linear else storm)
        if step in kept:
            points.append(Point(step, value, rounded_up(min(envelope, BLIND))))
    return points


def _finite(values: Mapping[int, float]) -> dict[int, float]:
    return {step: value for step, value in values.items() if math.isfinite(value)}


def rounded_up(value: float) -> float:
    """Two significant digits, which is more than a maximum of eight draws knows, and never below `value`."""
    return float(f"{value * 1.05:.1e}") if value else 0.0


def bare_curve(run: Run) -> Curve:
    """All that a run left as a curve without an envelope, to measure the distance of another run from it."""
    norms = {name: [Point(k, v, 0.0) for k, v in norms.items()] for name, norms in run.norms.items() if norms}
    return Curve([Point(step, loss, 0.0) for step, loss in enumerate(run.losses)], norms)
