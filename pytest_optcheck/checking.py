"""One case checked: load the golden, train, judge.

Knows neither pytest nor the terminal; imports torch when the first case runs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_optcheck import judge, workloads
from pytest_optcheck.cases import Result
from pytest_optcheck.curves import DTYPES, PLAIN, same
from pytest_optcheck.diagnosis.causes import explained
from pytest_optcheck.ensembles.settling import settled
from pytest_optcheck.findings import limits
from pytest_optcheck.goldens import Goldens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_optcheck.cases import Case, Scope
    from pytest_optcheck.curves import Dtype, Run
    from pytest_optcheck.format import Golden
    from pytest_optcheck.settings import Settings
    from pytest_optcheck.workloads.base import Workload


def check(case: Case, settings: Settings) -> Result:
    """Judge `case` against its golden.

    Raises:
        OptcheckError: spec, workload or golden cannot be used.
    """
    golden, exists = _stored(case, settings)
    return judged(case, settings, golden, exists=exists)


def bare(case: Case, settings: Settings) -> Result:
    """As `check`, but nobody asks why, nor how much worse it is: for whoever breaks optimizers by the hundred.

    Raises:
        OptcheckError: as `check`.
    """
    golden, exists = _stored(case, settings)
    return _verdict(case, settings, golden, exists=exists)[0]


def _stored(case: Case, settings: Settings) -> tuple[Golden | None, bool]:
    """The golden, and whether there is a file, good or not."""
    store = Goldens(settings.curves)
    return store.load(case.spec.text, case.workload), store.path(case.spec.text, case.workload).exists()


def check_routes(case: Case, settings: Settings) -> list[Result]:
    """Judge `case` on every route of its scope that its golden holds.

    Raises:
        OptcheckError: as `check`.
    """
    golden = Goldens(settings.curves).load(case.spec.text, case.workload)
    names = guarded_routes(golden, case.scope.routes)
    return [judged(replace(case, route=name), settings, golden, exists=True) for name in names]


def guarded_routes(golden: Golden | None, wanted: Sequence[str]) -> list[str]:
    """Those of `wanted` for which `golden` holds a curve to judge against."""
    if golden is None:
        return []
    dtype = next(iter(golden.curves))
    return [name for name in wanted if name in golden.routes and golden.reference(dtype, name) is not None]


def judged(case: Case, settings: Settings, golden: Golden | None, *, exists: bool) -> Result:
    """The answer for `case` by `golden`, the stored one; `exists` says whether there is a file, good or not.

    Raises:
        OptcheckError: spec or workload cannot be used.
    """
    result, run = _verdict(case, settings, golden, exists=exists)
    if golden is None or run is None:
        return result
    return explained(settled(result, case, settings, golden), case, settings, golden, run)


def _verdict(case: Case, settings: Settings, golden: Golden | None, *, exists: bool) -> tuple[Result, Run | None]:
    """The verdict on the curve, as of `judged`, and the training that it rests on, if there was one."""
    dtype = case.dtype or DTYPES[0]
    if golden is not None and case.route != PLAIN:
        dtype = next(iter(golden.curves))
    workload = workloads.load(settings.known[case.workload])
    result = Result(
        case.spec.text,
        case.workload,
        dtype,
        settings.device,
        case.select,
        judge.Verdict("match"),
        case.route,
        discovered=case.discovered,
    )
    case.spec.factory()  # raises what the user has to know, before any training
    case.spec.schedules()
    if golden is not None:
        found = tuple(limits(golden))
        result = replace(result, resolution=golden.resolution, stochastic=golden.stochastic, limits=found)
        if dtype not in accepted(golden, case.scope):
            return replace(result, skipped=f"{case.spec.text} accepts {', '.join(golden.curves)} only"), None
    early = judge.precheck(golden, exists=exists, digest=workload.digest, dtype=dtype, route=case.route)
    if early is not None or golden is None:
        return replace(result, verdict=early or result.verdict), None
    run = _run(case, settings, golden, dtype, workload)
    if run is None:
        gone = judge.Verdict("lost", f"the constructor no longer takes what the route {case.route} sets")
        return replace(result, verdict=gone), None
    verdict = judge.judge(run, golden, judge.Policy())
    return replace(result, verdict=verdict, step_s=run.step_s, model_s=run.model_s, train_s=run.train_s), run


def _run(case: Case, settings: Settings, golden: Golden, dtype: Dtype, workload: Workload) -> Run | None:
    """The training of a case, its laws watched where they were when the golden was recorded."""
    from pytest_optcheck.building import assemble
    from pytest_optcheck.conditions import Conditions
    from pytest_optcheck.training import train

    build = assemble(case.spec, case.route)
    if build is None:
        return None
    watch = dtype == next(iter(golden.curves))
    conditions = Conditions(
        dtype, settings.device, golden.needs, route=case.route, watch=watch, optional=golden.optional
    )
    run = train(build, workload, conditions)
    once = not case.scope.twice or golden.stochastic or run.failure is not None
    if once or not watch or case.route != PLAIN:
        return run
    again = train(build, workload, replace(conditions, watch=False))
    spent = {name: getattr(run, name) + getattr(again, name) for name in ("step_s", "model_s", "train_s")}
    if same(again, run):
        return replace(run, **spent)
    return replace(run, **spent, broken={**run.broken, "repeats": "two runs of the same code differ"})


def accepted(golden: Golden, scope: Scope) -> tuple[Dtype, ...]:
    """The widest dtype of `golden` and all that are narrower, as far as they are asked for."""
    widest = min(map(DTYPES.index, golden.curves))
    return tuple(dtype for dtype in DTYPES[widest:] if dtype in (*scope.dtypes, DTYPES[widest]))
