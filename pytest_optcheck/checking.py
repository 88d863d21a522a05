"""One case from beginning to end: load the golden, train, judge; or record it anew.

Knows neither pytest nor the terminal; imports torch when the first case runs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_optcheck import goldens, judge, routes, workloads
from pytest_optcheck.curves import BLIND, DTYPES, PLAIN, Dtype
from pytest_optcheck.specs import TextSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_optcheck.curves import Run
    from pytest_optcheck.goldens import Golden
    from pytest_optcheck.recorder import Recording
    from pytest_optcheck.settings import Settings
    from pytest_optcheck.specs import OptimizerSpec
    from pytest_optcheck.workloads.base import Workload


@dataclass(frozen=True, slots=True)
class Scope:
    """What a golden is recorded with.

    Attributes:
        dtypes: those it keeps a curve in.
        routes: those that are measured.
        varied: whether variants are derived from the signature, and arguments that do nothing found.
        guarded: whether those variants get goldens of their own.
        lean: whether recording makes as few trainings as will do: a library may have a hundred optimizers.
        twice: whether a check trains twice, to see that two runs are equal.
    """

    dtypes: tuple[Dtype, ...] = DTYPES
    routes: tuple[str, ...] = ()
    varied: bool = False
    guarded: bool = False
    lean: bool = False
    twice: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """What one pytest item asks.

    Attributes:
        spec: the optimizer.
        workload: name of the reference model.
        dtype: what to train in; None asks for the golden as a whole, to update it.
        select: command-line arguments that select this case alone.
        diverges: this training is declared to leave the finite numbers.
        route: one of `routes.NAMES`, or the plain one.
        scope: what its golden is recorded with.
        discovered: the module in which the optimizer was found, if it was.
    """

    spec: OptimizerSpec
    workload: str
    dtype: Dtype | None
    select: str
    diverges: bool = False
    route: str = PLAIN
    scope: Scope = field(default_factory=Scope)
    discovered: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """The answer for one case, in plain values that travel from worker to controller.

    Attributes:
        verdict: kind, place and size of the deviation.
        resolution: of the golden; None where there is none.
        stochastic: the golden's optimizer does not repeat itself.
        golden: the new golden's JSON where one was recorded.
        effect: what the new golden changes, in one line.
        findings: what recording found: departing routes, broken laws, arguments that do nothing; a line each.
        limits: what the optimizer needs or cannot do, in a few words each.
        discovered: the module in which the optimizer was found, if it was.
        refused: why a discovered optimizer cannot be recorded on this workload.
        variant: it was recorded as a variant of another spec.
        skipped: why there is nothing to say: the optimizer does not accept this dtype.
    """

    spec: str
    workload: str
    dtype: str
    device: str
    select: str
    verdict: judge.Verdict
    route: str = PLAIN
    resolution: float | None = None
    stochastic: bool = False
    step_s: float = 0.0
    model_s: float = 0.0
    train_s: float = 0.0
    golden: str | None = None
    effect: str = ""
    findings: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    discovered: str = ""
    refused: str = ""
    variant: bool = False
    skipped: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As nested dicts of plain Python scalars, the only thing a test report may carry."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Result:
        """The inverse of `as_dict`."""
        tuples = {name: tuple(plain[name]) for name in ("findings", "limits")}
        return cls(**{**plain, **tuples, "verdict": judge.Verdict(**plain["verdict"])})


def check(case: Case, settings: Settings) -> Result:
    """Judge `case` against its golden.

    Raises:
        OptcheckError: spec, workload or golden cannot be used.
    """
    store = goldens.Goldens(settings.curves)
    golden = store.load(case.spec.text, case.workload)
    return _check(case, settings, golden, exists=store.path(case.spec.text, case.workload).exists())


def check_routes(case: Case, settings: Settings) -> list[Result]:
    """Judge `case` on every route of its scope that its golden holds.

    Raises:
        OptcheckError: as `check`.
    """
    golden = goldens.Goldens(settings.curves).load(case.spec.text, case.workload)
    names = guarded_routes(golden, case.scope.routes)
    return [_check(replace(case, route=name), settings, golden, exists=True) for name in names]


def refused(case: Case, settings: Settings, why: str) -> Result:
    """The answer for a discovered optimizer that cannot be recorded."""
    nothing = judge.Verdict("match")
    shown = Result(case.spec.text, case.workload, DTYPES[0], settings.device, case.select, nothing)
    return replace(shown, discovered=case.discovered, refused=why)


def guarded_routes(golden: Golden | None, wanted: Sequence[str]) -> list[str]:
    """Those of `wanted` for which `golden` holds a curve to judge against."""
    if golden is None:
        return []
    dtype = next(iter(golden.curves))
    return [name for name in wanted if name in golden.routes and golden.reference(dtype, name) is not None]


def update(case: Case, settings: Settings) -> list[Result]:
    """Check `case` in every dtype and on every route; record anew what has a verdict that is to be recorded.

    Where only routes are to be recorded, the curves stay as they are. A golden is never recorded as a whole while it
    has a verdict that is not to be recorded, unless that is a curve it lacks.

    Raises:
        OptcheckError: spec or workload cannot be used, or the golden cannot be recorded.
    """
    store = goldens.Goldens(settings.curves)
    path = store.path(case.spec.text, case.workload)
    try:
        golden = store.load(case.spec.text, case.workload)
    except goldens.UnreadableGoldenError:
        if "stale" not in settings.update:
            raise
        golden = None  # and its file exists: stale
    if golden is None:
        dtypes = case.scope.dtypes
    else:  # where routes alone are asked for, no curve is missing
        dtypes = _accepted(golden, case.scope) if settings.dtypes else tuple(golden.curves)
    results = [_check(replace(case, dtype=dtype), settings, golden, exists=path.exists()) for dtype in dtypes]
    outside = [result for result in results if result.verdict.kind != "match"]
    recorded, left = _sorted(outside, settings)
    if recorded and all(result.verdict.kind == "missing" for result in left):
        return _record(case, settings, golden, _worst(recorded))
    if golden is None or outside:
        return [_worst(left or outside)]
    held = guarded_routes(golden, case.scope.routes)
    departed = [_check(replace(case, dtype=None, route=name), settings, golden, exists=True) for name in held]
    recorded, left = _sorted([result for result in departed if result.verdict.kind != "match"], settings)
    names = [result.route for result in recorded]
    if "missing" in settings.update:
        names += [name for name in case.scope.routes if name not in golden.routes]
    written = _record_routes(case, settings, golden, names, _worst([*results, *recorded]))
    return [*written, *left] or [_worst(results)]


def _sorted(results: Sequence[Result], settings: Settings) -> tuple[list[Result], list[Result]]:
    """Those whose verdict is to be recorded, and the others."""
    recorded = [result for result in results if result.verdict.kind in settings.update]
    return recorded, [result for result in results if result not in recorded]


def _worst(results: Sequence[Result]) -> Result:
    return max(results, key=lambda result: judge.KINDS.index(result.verdict.kind))


def _check(case: Case, settings: Settings, golden: Golden | None, *, exists: bool) -> Result:
    dtype = case.dtype or DTYPES[0]
    if golden is not None and case.route != PLAIN:
        dtype = next(iter(golden.curves))
    workload = workloads.load(settings.known[case.workload])
    result = Result(
        case.spec.text, case.workload, dtype, settings.device, case.select, judge.Verdict("match"), case.route
    )
    result = replace(result, discovered=case.discovered)
    case.spec.factory()  # raises what the user has to know, before any training
    case.spec.schedules()
    if golden is not None:
        limits = tuple(_limits(golden))
        result = replace(result, resolution=golden.resolution, stochastic=golden.stochastic, limits=limits)
        if dtype not in _accepted(golden, case.scope):
            return replace(result, skipped=f"{case.spec.text} accepts {', '.join(golden.curves)} only")
    early = judge.precheck(golden, exists=exists, digest=workload.digest, dtype=dtype, route=case.route)
    if early is not None or golden is None:
        return replace(result, verdict=early or result.verdict)
    run = _run(case, settings, golden, dtype, workload)
    if run is None:
        gone = judge.Verdict("lost", f"the constructor no longer takes what the route {case.route} sets")
        return replace(result, verdict=gone)
    verdict = judge.judge(run, golden, judge.Policy())
    return replace(result, verdict=verdict, step_s=run.step_s, model_s=run.model_s, train_s=run.train_s)


def _run(case: Case, settings: Settings, golden: Golden, dtype: Dtype, workload: Workload) -> Run | None:
    """The training of a case, its laws watched where they were when the golden was recorded."""
    from pytest_optcheck.building import assemble
    from pytest_optcheck.training import Conditions, train

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
    if (again.losses, again.norms) == (run.losses, run.norms):
        return replace(run, **spent)
    return replace(run, **spent, broken={**run.broken, "repeats": "two runs of the same code differ"})


def _accepted(golden: Golden, scope: Scope) -> tuple[Dtype, ...]:
    """The widest dtype of `golden` and all that are narrower, as far as they are asked for."""
    widest = min(map(DTYPES.index, golden.curves))
    return tuple(dtype for dtype in DTYPES[widest:] if dtype in (*scope.dtypes, DTYPES[widest]))


def _record(case: Case, settings: Settings, old: Golden | None, worst: Result) -> list[Result]:
    """The golden as a whole, then the variants its signature yields, as far as they have none yet.

    What the old golden guarded the new one guards too, though less was asked for.
    """
    from msgspec import structs

    from pytest_optcheck.recorder import record
    from pytest_optcheck.training import Conditions

    workload: Workload = workloads.load(settings.known[case.workload])
    if old is not None:
        held = [name for name in old.routes if name not in case.scope.routes]
        dtypes = tuple(dtype for dtype in DTYPES if dtype in case.scope.dtypes or dtype in old.curves)
        case = replace(case, scope=replace(case.scope, dtypes=dtypes, routes=(*case.scope.routes, *held)))
    new = record(_recording(case, settings, case.scope.routes))
    if old is not None:
        new = structs.replace(new, variants=old.variants, dead=old.dead)
    variants: tuple[TextSpec, ...] = ()
    if case.scope.varied and isinstance(case.spec, TextSpec):
        from pytest_optcheck.variants import derive

        dtype = next(iter(new.curves))
        derived = derive(case.spec, workload, Conditions(dtype, settings.device, new.needs))
        variants = settings.chosen_variants(case.spec, derived.specs) if case.scope.guarded else ()
        new = structs.replace(new, variants=tuple(spec.text for spec in variants), dead=derived.dead)
    recorded = replace(
        worst,
        golden=goldens.encode(new),
        effect=effect(old, new, worst.verdict),
        findings=tuple(findings(new)),
        limits=tuple(_limits(new)),
        resolution=new.resolution,
        stochastic=new.stochastic,
    )
    return [recorded, *_record_variants(case, settings, variants)]


def _record_variants(case: Case, settings: Settings, variants: Sequence[TextSpec]) -> Iterator[Result]:
    store = goldens.Goldens(settings.curves)
    configured = {target.spec.text for target in settings.targets}
    for spec in variants:
        if spec.text in configured or store.path(spec.text, case.workload).exists():
            continue  # it is an item of its own
        variant = replace(case, spec=spec, scope=settings.variant_scope)
        missing = Result(
            spec.text, case.workload, DTYPES[0], settings.device, case.select, judge.Verdict("missing", "no golden")
        )
        yield from (replace(result, variant=True) for result in _record(variant, settings, None, missing))


def _record_routes(case: Case, settings: Settings, golden: Golden, names: Sequence[str], worst: Result) -> list[Result]:
    """The golden with these routes measured anew; nothing is recorded where that changes nothing."""
    from pytest_optcheck.recorder import with_routes

    new = with_routes(_recording(case, settings, tuple(names)), golden) if names else golden
    if new == golden:
        return []
    told = f"routes measured: {' '.join(name for name in names if name in new.routes)}"
    return [replace(worst, golden=goldens.encode(new), effect=told, findings=tuple(findings(new)))]


def _recording(case: Case, settings: Settings, names: tuple[str, ...]) -> Recording:
    from pytest_optcheck.recorder import Recording

    return Recording(
        case.spec,
        workloads.load(settings.known[case.workload]),
        settings.device,
        settings.reason,
        diverges=case.diverges or case.spec.text in settings.diverging,
        dtypes=case.scope.dtypes,
        routes=names,
        lean=case.scope.lean,
    )


def findings(golden: Golden) -> Iterator[str]:
    """What a maintainer may not know of the optimizer: departing routes, broken laws, arguments that do nothing."""
    refused = [name for name, found in golden.routes.items() if found != "same" and found.refused]
    if refused:
        yield f"refuses {', '.join(refused)}"
    for name, found in golden.routes.items():
        if found != "same" and found.curve is not None and not routes.load(name).own_curve:
            size = "leaves the finite numbers" if found.deviation is None else f"departs by {found.deviation:.1e}"
            yield f"route {name} {size}"
    broken: dict[str, dict[str, str]] = {}
    for name, laws in golden.broken.items():
        for law, how in laws.items():
            broken.setdefault(law, {})[name] = how
    for law, by_route in broken.items():
        yield f"law {law} is broken on {', '.join(by_route)}: {next(iter(by_route.values()))}"
    if golden.dead:
        yield f"arguments that change nothing: {', '.join(golden.dead)}"


def effect(old: Golden | None, new: Golden, verdict: judge.Verdict) -> str:
    """Old → new, in the figures a reviewer wants: final loss, first step, what it needs and sees."""
    dtype = next(iter(new.curves))
    final = new.curves[dtype].losses[-1].value
    parts = [f"final loss {final:.4g}"]
    if old is not None and dtype in old.curves:
        before = old.curves[dtype].losses[-1].value
        parts = [f"final loss {before:.4g} → {final:.4g}"]
    if verdict.kind != "missing":
        parts.append(f"{verdict.kind}: {verdict.note}" if verdict.note else verdict.kind)
    if verdict.first_step is not None:
        parts.append(f"from step {verdict.first_step}")
    parts += _limits(new)
    return ", ".join(parts)


def _limits(golden: Golden) -> Sequence[str]:
    """What a reader of a new golden should know beyond its curve."""
    needs = golden.needs
    found = {
        "steps with a closure": needs.closure,
        "needs sparse gradients": needs.sparse,
        "refuses parameter groups": needs.one_group,
        "takes named parameters": needs.first == "named",
        "takes the module": needs.first == "module",
        "needs differentiable gradients": needs.create_graph,
        "needs gradients before step(closure)": needs.primed or needs.evaluated,
        f"needs {needs.flag} in every group": bool(needs.flag),
        "needs a process group": needs.process_group,
        f"slow: {needs.steps} updates only": bool(needs.steps),
        f"refuses and leaves frozen: {' '.join(needs.frozen)}": bool(needs.frozen),
        "does not repeat itself (stochastic)": golden.stochastic,
        f"accepts no {DTYPES[0]}": DTYPES[0] not in golden.curves,
        "a rounding can make it leave the finite numbers": any(
            point.envelope >= BLIND for curve in golden.curves.values() for point in curve.losses
        ),
        "leaves the finite numbers, as declared": any(c.diverges is not None for c in golden.curves.values()),
    }
    return [text for text, holds in found.items() if holds]
