"""Routes measured against a golden's plain curve: the same, refused, or departing to a curve of their own."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from msgspec import structs

from pytest_optcheck import judge, routes
from pytest_optcheck.building import assemble, sample
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.curves import PLAIN, route_steps, same
from pytest_optcheck.envelopes import enveloped, rounded_up
from pytest_optcheck.format import Departure
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from pytest_optcheck.curves import Run
    from pytest_optcheck.format import Curve, Golden
    from pytest_optcheck.recorder import Recording
    from pytest_optcheck.specs import Factory

OLDER = "older_state"
"""The route for which it has to be found out first what a state dict may lack."""

OLDER_STEPS = 6
"""Updates of a training in which a key is left out; it is restarted in the middle."""


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
    assumed = structs.replace(golden, routes={conditions.route: "same"}, broken={conditions.route: dict(run.broken)})
    if conditions.route not in routes.OWN_CURVE and judge.judge(run, assumed, judge.Policy()).kind == "match":
        return "same"
    if not run.losses or not math.isfinite(run.losses[0]):
        return Departure(refused=run.failure.message if run.failure is not None else "no finite loss")
    deviation = max(
        found.relative if found.relative is not None else math.inf
        for found in judge.deviations(run, golden.curves[conditions.dtype])
    )
    curve = _thinned(
        enveloped(build, what.workload, conditions, run, what.route_draws), conditions.updates(what.workload)
    )
    return Departure(rounded_up(deviation) if math.isfinite(deviation) else None, curve)


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
