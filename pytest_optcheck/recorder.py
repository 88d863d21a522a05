"""Makes a golden: reference run, proof that it repeats, envelope, horizon, resolution, routes."""

from __future__ import annotations

import datetime as dt
import math
import platform
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from msgspec import structs

from pytest_optcheck import environment, judge, needs, routes
from pytest_optcheck.building import assemble, plain, sample
from pytest_optcheck.curves import BLIND, DTYPES, HORIZON, PLAIN, curve_steps, deviation, route_steps
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.goldens import SCHEMA, Curve, Departure, Golden, Point, Recorded, WorkloadId
from pytest_optcheck.training import Conditions, train

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_optcheck.curves import Dtype, Run
    from pytest_optcheck.specs import Factory, OptimizerSpec
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

ROUTE_DRAWS, ROUTE_STORM_DRAWS = 4, 2
"""Jittered runs for a route's own curve: half as many, because routes are many and run beside the plain curve."""

OLDER = "older_state"
"""The route for which it has to be found out first what a state dict may lack."""

OLDER_STEPS = 6
"""Updates of a training in which a key is left out; it is restarted in the middle."""

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
        dtypes: the dtypes to keep a curve in, as far as the optimizer accepts them.
        routes: the routes to measure, as far as they exist for it.
        lean: half as many jittered runs, except for the first curve on the first reference model.
    """

    spec: OptimizerSpec
    workload: Workload
    device: str = "cpu"
    reason: str = ""
    diverges: bool = False
    dtypes: tuple[Dtype, ...] = DTYPES
    routes: tuple[str, ...] = ()
    lean: bool = False

    def draws(self, dtype: Dtype) -> tuple[int, int]:
        """Jittered runs of one ulp, and of the storm."""
        halved = self.lean and (dtype != DTYPES[0] or len(self.dtypes) == 1)
        return (ROUTE_DRAWS, ROUTE_STORM_DRAWS) if halved else (DRAWS, STORM_DRAWS)


def record(what: Recording) -> Golden:
    """Train `what` some dozens of times and make its golden.

    Raises:
        OptcheckError: the optimizer does not train this workload, or leaves the finite numbers undeclared.
    """
    needed, widest = needs.discover(what.spec, what.workload, what.device)
    build = plain(what.spec)
    narrower = DTYPES[DTYPES.index(widest) :]
    dtypes = [dtype for dtype in narrower if dtype in what.dtypes] or [widest]
    curves: dict[Dtype, Curve] = {}
    runs: dict[Dtype, Run] = {}
    stochastic = False
    for dtype in dtypes:
        conditions = Conditions(dtype, what.device, needed, watch=dtype == dtypes[0])
        runs[dtype] = _reference(what, build, conditions)
        again = train(build, what.workload, replace(conditions, watch=False))
        stochastic |= not same(runs[dtype], again)
        curves[dtype] = _curve(what, build, conditions, runs[dtype], what.draws(dtype))
    reference = runs[dtypes[0]]
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
        broken={PLAIN: dict(reference.broken)} if reference.broken else {},
        rates=[list(rates) for rates in reference.rates],
    )
    seen = resolution(what, golden, Conditions(dtypes[0], what.device, needed))
    return with_routes(what, structs.replace(golden, resolution=seen))


def same(run: Run, other: Run) -> bool:
    """Whether two runs are equal, bit for bit."""
    return repr((run.losses, run.norms)) == repr((other.losses, other.norms))  # so a NaN equals itself


def with_routes(what: Recording, golden: Golden) -> Golden:
    """`golden` with the routes of `what` measured against its plain curve, in the place of what it held of them."""
    dtype = next(iter(golden.curves))
    found = dict(golden.routes)
    broken = dict(golden.broken)
    optional = golden.optional
    for name in what.routes:
        build = assemble(what.spec, name)
        route = routes.load(name)
        if build is None or not route.suits(what.workload, golden.needs) or (golden.rates and route.regroups):
            continue
        conditions = Conditions(dtype, what.device, golden.needs, route=name, watch=True)
        if name == OLDER:
            optional = _optional(what, build, conditions)
            if not optional:
                continue
            conditions = replace(conditions, optional=optional)
        run = train(build, what.workload, conditions)
        found[name] = _measured(what, build, conditions, run, golden)
        broken.pop(name, None)
        own = {law: how for law, how in run.broken.items() if law not in golden.broken.get(PLAIN, {})}
        if own:
            broken[name] = own
    return structs.replace(golden, routes=found, broken=broken, optional=optional)


def _measured(
    what: Recording, build: Factory, conditions: Conditions, run: Run, golden: Golden
) -> Literal["same"] | Departure:
    """``same``, or where the route went instead."""
    if run.failure is not None and run.failure.kind == "raised":
        return Departure(refused=run.failure.message)
    own = routes.load(conditions.route).own_curve
    assumed = structs.replace(golden, routes={conditions.route: "same"}, broken={conditions.route: dict(run.broken)})
    if not own and judge.judge(run, assumed, judge.Policy()).kind == "match":
        return "same"
    if not run.losses or not math.isfinite(run.losses[0]):
        return Departure(refused=run.failure.message if run.failure is not None else "no finite loss")
    deviation = max(
        d if d is not None else math.inf for _, _, d in judge.deviations(run, golden.curves[conditions.dtype])
    )
    curve = _thinned(
        _curve(what, build, conditions, run, (ROUTE_DRAWS, ROUTE_STORM_DRAWS)), conditions.updates(what.workload)
    )
    return Departure(_rounded_up(deviation) if math.isfinite(deviation) else None, curve)


def _thinned(curve: Curve, steps: int) -> Curve:
    """As much of a route's own curve as a reviewer wants to see: few losses, the first norms and the last."""
    kept = route_steps(steps)
    losses = [point for point in curve.losses if point.step in kept]
    norms = {name: points[:: max(1, len(points) - 1)] for name, points in curve.norms.items()}
    return structs.replace(curve, losses=losses, norms=norms)


def _optional(what: Recording, build: Factory, conditions: Conditions) -> tuple[str, ...]:
    """What a state dict may lack without harm: each key is left out in a short training of its own."""
    short = replace(conditions, steps=OLDER_STEPS, watch=False)
    expected = train(build, what.workload, short)
    groups = getattr(sample(what.spec), "param_groups", [{}])
    flags = [key for key, value in groups[0].items() if value is None or value is False]
    harmless = []
    for key in ("step", *flags):
        run = train(build, what.workload, replace(short, optional=(key,)))
        if run.failure is None and same(run, expected):
            harmless.append(key)
    return tuple(harmless)


def _reference(what: Recording, build: Factory, conditions: Conditions) -> Run:
    run = train(build, what.workload, conditions)
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


def _curve(what: Recording, build: Factory, conditions: Conditions, reference: Run, draws: tuple[int, int]) -> Curve:
    """The reference with the envelope of the jittered runs, so many of one ulp and so many of the storm."""
    quiet = replace(conditions, watch=False)
    calm, storm = (
        [train(build, what.workload, replace(quiet, jitter=seed, ulps=ulps)) for seed in range(count)]
        for ulps, count in zip((1.0, STORM_ULPS), draws, strict=True)
    )
    finite = [loss for loss in reference.losses if math.isfinite(loss)]
    kept = [step for step in curve_steps(conditions.updates(what.workload)) if step < len(finite)]
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


def points(run: Run) -> Curve:
    """All that a run left as a curve without an envelope, to measure the distance of another run from it."""
    norms = {name: [Point(k, v, 0.0) for k, v in norms.items()] for name, norms in run.norms.items() if norms}
    return Curve([Point(step, loss, 0.0) for step, loss in enumerate(run.losses)], norms)


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
    build = plain(what.spec)
    change = _estimate(what, golden, conditions, policy)
    while change is not None and change < 1.0:
        run = train(build, what.workload, replace(conditions, lr_factor=1.0 + change))
        if judge.judge(run, golden, policy).kind != "match":
            return _rounded_up(change)
        change *= 2.0
    return None


def _estimate(what: Recording, golden: Golden, conditions: Conditions, policy: judge.Policy) -> float | None:
    """Where a linear answer to the learning rate would just leave the tolerance; None where there is none."""
    run = train(plain(what.spec), what.workload, replace(conditions, lr_factor=1.0 + FIRST_LR_CHANGE))
    best = math.inf
    for _, point, moved in judge.deviations(run, golden.curves[conditions.dtype]):
        distance = math.inf if moved is None else moved
        if 0.0 < distance < math.inf:
            tolerance = policy.tolerance(point.envelope, conditions.dtype)
            best = min(best, FIRST_LR_CHANGE * tolerance / distance)
    return best * 1.1 if math.isfinite(best) else None
