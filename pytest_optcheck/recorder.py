"""Makes a golden: what the optimizer needs, reference runs, proof that they repeat, envelopes, resolution, routes."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from msgspec import structs

from pytest_optcheck import environment, judge, needs
from pytest_optcheck.building import plain
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.cost import counting
from pytest_optcheck.cost.figures import version_key
from pytest_optcheck.curves import DTYPES, PLAIN, same
from pytest_optcheck.departures import with_routes
from pytest_optcheck.ensembles.members import Seeds
from pytest_optcheck.envelopes import DRAWS, LEAN_ROUTE_DRAWS, ROUTE_DRAWS, enveloped, rounded_up
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.format import SCHEMA, Golden, Recorded, WorkloadId
from pytest_optcheck.oracles.comparing import compared
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_optcheck.cost.figures import Cost
    from pytest_optcheck.curves import Dtype, Needs, Run
    from pytest_optcheck.ensembles.figures import Ensemble
    from pytest_optcheck.format import Curve
    from pytest_optcheck.specs import Factory, OptimizerSpec
    from pytest_optcheck.workloads.base import Workload

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
        lean: fewer jittered runs: a library may have a hundred optimizers.
        counted: the lists of tensors on which the operations of a step are counted.
        compiled: whether recompiles are counted too.
        same_as: ``module:Class``, or the name of a factory -> the family it is declared to belong to.
        ensemble: whether runs over many seeds are kept.
    """

    spec: OptimizerSpec
    workload: Workload
    device: str = "cpu"
    reason: str = ""
    diverges: bool = False
    dtypes: tuple[Dtype, ...] = DTYPES
    routes: tuple[str, ...] = ()
    lean: bool = False
    counted: tuple[str, ...] = ()
    compiled: bool = False
    same_as: Mapping[str, str] = field(default_factory=dict)
    ensemble: bool = False

    @property
    def training_s(self) -> float:
        """Seconds inside ``step()`` that one training may take."""
        return needs.LEAN_TRAINING_S if self.lean else needs.TRAINING_S

    @property
    def draws(self) -> tuple[int, int]:
        """Jittered runs of one ulp, and of the storm, for a plain curve."""
        return ROUTE_DRAWS if self.lean else DRAWS

    @property
    def route_draws(self) -> tuple[int, int]:
        """The same for a route's own curve."""
        return LEAN_ROUTE_DRAWS if self.lean else ROUTE_DRAWS


def record(what: Recording) -> Golden:
    """Train `what` some dozens of times and make its golden.

    Raises:
        OptcheckError: the optimizer does not train this workload, or leaves the finite numbers undeclared.
    """
    needed, widest = needs.discover(what.spec, what.workload, what.device, what.training_s)
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
        curves[dtype] = enveloped(build, what.workload, conditions, runs[dtype], what.draws)
    reference = runs[dtypes[0]]
    golden = Golden(
        schema=SCHEMA,
        spec=what.spec.text,
        workload=WorkloadId(what.workload.name, what.workload.digest, what.workload.steps),
        recorded=Recorded(
            **environment.machine(),
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
    textbook = compared(what.spec, what.workload, golden, what.device, what.same_as)
    seeds = ensemble(what, needed) if what.ensemble else None
    golden = structs.replace(golden, resolution=seen, costs=counted(what, needed), textbook=textbook, ensemble=seeds)
    return with_routes(what, golden)


def ensemble(what: Recording, needed: Needs) -> Ensemble:
    """Float32 runs over many seeds, by which a later change is called worse or better."""
    return Seeds(plain(what.spec), what.workload, needed, what.device).reference()


def counted(what: Recording, needed: Needs) -> dict[str, Cost]:
    """The operations of a step, under the versions they were counted with; empty where none are asked for."""
    if not what.counted:
        return {}
    cost = counting.count(what.spec, needed, what.device, lists=what.counted, compiled=what.compiled).cost
    return {version_key(what.device): cost} if cost.lists else {}


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
            return rounded_up(change)
        change *= 2.0
    return None


def _estimate(what: Recording, golden: Golden, conditions: Conditions, policy: judge.Policy) -> float | None:
    """Where a linear answer to the learning rate would just leave the tolerance; None where there is none."""
    run = train(plain(what.spec), what.workload, replace(conditions, lr_factor=1.0 + FIRST_LR_CHANGE))
    best = math.inf
    for _, point, moved, share in judge.deviations(run, golden.curves[conditions.dtype]):
        distance = math.inf if moved is None else moved
        if 0.0 < distance < math.inf:
            tolerance = policy.tolerance(point.envelope, conditions.dtype, share)
            best = min(best, FIRST_LR_CHANGE * tolerance / distance)
    return best * 1.1 if math.isfinite(best) else None
