"""Makes a golden: reference run, proof that it repeats, envelope, horizon, resolution."""

from __future__ import annotations

import datetime as dt
import math
import platform
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from msgspec import structs

from pytest_optcheck import environment, judge, needs
from pytest_optcheck.curves import BLIND, DTYPES, HORIZON, curve_steps, deviation
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.goldens import SCHEMA, Curve, Golden, Point, Recorded, WorkloadId
from pytest_optcheck.training import Conditions, train

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_optcheck.curves import Dtype, Run
    from pytest_optcheck.specs import OptimizerSpec
    from pytest_optcheck.workloads.base import Workload

DRAWS = 8
"""Jittered runs of one ulp."""

STORM_DRAWS = 4
"""Jittered runs of `STORM_ULPS`."""

STORM_ULPS = 256.0
"""Amplitude of the second set of jittered runs, in ulps.

A training may hold decisions that an ulp overturns once in a hundred machines: eight draws of one ulp would
miss them. At 256 ulps they show, and the envelope is taken from the storm wherever the answer to it is not
256 times the answer to one ulp, within `LINEAR`. A decision that one machine in a hundred takes otherwise
escapes four such draws 3 times in 100,000.
"""

LINEAR = 8.0
"""Factor within which the answer to the storm still counts as proportional; eight draws vary by 2 or 3."""

FIRST_LR_CHANGE = 1e-5
"""Relative learning-rate change from which the resolution is estimated, then confirmed by runs of its own."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What to record.

    Attributes:
        spec: the optimizer.
        workload: the reference model.
        device: where to train.
        reason: why, in the user's words; kept in the golden.
        diverges: the user declares that this training leaves the finite numbers.
    """

    spec: OptimizerSpec
    workload: Workload
    device: str = "cpu"
    reason: str = ""
    diverges: bool = False


def record(what: Recording) -> Golden:
    """Train `what` about thirty times and make its golden.

    Raises:
        OptcheckError: the optimizer does not train this workload, or leaves the finite numbers undeclared.
    """
    needed, widest = needs.discover(what.spec, what.workload, what.device)
    curves: dict[Dtype, Curve] = {}
    stochastic = False
    for dtype in DTYPES[DTYPES.index(widest) :]:
        conditions = Conditions(dtype, what.device, needed)
        run = _reference(what, conditions)
        again = train(what.spec.factory(), what.workload, conditions)
        stochastic |= repr((run.losses, run.norms)) != repr((again.losses, again.norms))  # so a NaN equals itself
        curves[dtype] = _curve(what, conditions, run)
    golden = Golden(
        schema=SCHEMA,
        spec=what.spec.text,
        workload=WorkloadId(what.workload.name, what.workload.digest, what.workload.steps),
        recorded=Recorded(
            **environment.versions(),
            platform=platform.platform(),
            cpu=environment.cpu(),
            device=what.device,
            when=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            reason=what.reason,
        ),
        needs=needed,
        stochastic=stochastic,
        resolution=None,
        curves=curves,
    )
    seen = resolution(what, golden, Conditions(widest, what.device, needed))
    return structs.replace(golden, resolution=seen)


def _reference(what: Recording, conditions: Conditions) -> Run:
    run = train(what.spec.factory(), what.workload, conditions)
    failure = run.failure
    where = f"{what.spec.text} on {what.workload.name} in {conditions.dtype}"
    if failure is not None and failure.kind == "raised":
        raise OptcheckError(f"not recorded: {where}: update {failure.step} raised {failure.message}")
    if failure is not None and not what.diverges:
        raise OptcheckError(
            f"not recorded: {where}: {failure.message} after update {failure.step}; if that is meant, declare it "
            "(ini optcheck_diverging, or diverges=True in the marker)"
        )
    if not run.losses or not math.isfinite(run.losses[0]):
        raise OptcheckError(f"not recorded: {where}: there is no finite loss to record")
    return run


def _curve(what: Recording, conditions: Conditions, reference: Run) -> Curve:
    """The reference with the envelope of the jittered runs."""
    factory = what.spec.factory()
    calm, storm = (
        [train(factory, what.workload, replace(conditions, jitter=seed, ulps=ulps)) for seed in range(draws)]
        for ulps, draws in ((1.0, DRAWS), (STORM_ULPS, STORM_DRAWS))
    )
    finite = [loss for loss in reference.losses if math.isfinite(loss)]
    kept = [step for step in curve_steps(what.workload.steps) if step < len(finite)]
    losses = _points(
        dict(enumerate(finite)),
        [[dict(enumerate(run.losses)) for run in runs] for runs in (calm, storm)],
        kept,
    )
    norms = {
        name: _points(norms, [[run.norms[name] for run in runs] for runs in (calm, storm)], list(norms))
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


def _finite(values: Mapping[int, float]) -> dict[int, float]:
    return {step: value for step, value in values.items() if math.isfinite(value)}


def _points(
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
            points.append(Point(step, value, _rounded_up(min(envelope, BLIND))))
    return points


def _rounded_up(value: float) -> float:
    """Two significant digits, which is more than a maximum of eight draws knows, and never below `value`."""
    return float(f"{value * 1.05:.1e}") if value else 0.0


def resolution(what: Recording, golden: Golden, conditions: Conditions) -> float | None:
    """The smallest relative change of the learning rate that `golden` sees; None if none is seen.

    Estimated from one run, then confirmed: the change is tried and must be judged as one; if it is not, twice
    as much is tried. None too where the optimizer keeps no learning rate in its groups.
    """
    policy = judge.Policy()
    change = _estimate(what, golden, conditions, policy)
    while change is not None and change < 1.0:
        run = train(what.spec.factory(), what.workload, replace(conditions, lr_factor=1.0 + change))
        if judge.judge(run, golden, policy).kind != "match":
            return _rounded_up(change)
        change *= 2.0
    return None


def _estimate(what: Recording, golden: Golden, conditions: Conditions, policy: judge.Policy) -> float | None:
    """Where a linear answer to the learning rate would just leave the tolerance; None where there is none."""
    run = train(what.spec.factory(), what.workload, replace(conditions, lr_factor=1.0 + FIRST_LR_CHANGE))
    curve = golden.curves[conditions.dtype]
    series = [
        (curve.losses, dict(enumerate(run.losses))),
        *((p, run.norms[n]) for n, p in curve.norms.items()),
    ]
    best = math.inf
    for points, observed in series:
        largest = max(abs(point.value) for point in points)
        for point in points:
            moved = deviation(observed.get(point.step, math.nan), point.value, largest)
            if 0.0 < moved < math.inf:
                tolerance = policy.tolerance(point.envelope, conditions.dtype)
                best = min(best, FIRST_LR_CHANGE * tolerance / moved)
    return best * 1.1 if math.isfinite(best) else None
