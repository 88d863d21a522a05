"""One golden updated: its case checked in every dtype and on every route, and what is to be recorded recorded anew.

Knows neither pytest nor the terminal, and writes nothing: a result carries the text of its new golden. Imports torch
when the first case runs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from msgspec import structs

from pytest_optcheck import costing, judge, workloads
from pytest_optcheck.cases import Result
from pytest_optcheck.checking import accepted, guarded_routes, judged
from pytest_optcheck.convergence import SEEDS
from pytest_optcheck.curves import DTYPES
from pytest_optcheck.ensembles.settling import held
from pytest_optcheck.findings import against_textbook, effect, findings, limits
from pytest_optcheck.format import UnreadableGoldenError, encode
from pytest_optcheck.goldens import Goldens
from pytest_optcheck.oracles.names import ON
from pytest_optcheck.specs import TextSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_optcheck.cases import Case
    from pytest_optcheck.format import Golden, Textbook
    from pytest_optcheck.recorder import Recording
    from pytest_optcheck.settings import Settings
    from pytest_optcheck.workloads.base import Workload


class _Renewal(NamedTuple):
    """What is measured anew though the curves stay as they are.

    Attributes:
        names: of the routes.
        counted: the counts of a step, if they were taken and may be recorded.
        worst: what the result is made from.
    """

    names: Sequence[str]
    counted: Result | None
    worst: Result


def update(case: Case, settings: Settings) -> list[Result]:
    """Check `case` in every dtype and on every route; record anew what has a verdict that is to be recorded.

    Where only routes are to be recorded, the curves stay as they are. A golden is never recorded as a whole while it
    has a verdict that is not to be recorded, unless that is a curve it lacks.

    Raises:
        OptcheckError: spec or workload cannot be used, or the golden cannot be recorded.
    """
    store = Goldens(settings.curves)
    path = store.path(case.spec.text, case.workload)
    try:
        golden = store.load(case.spec.text, case.workload)
    except UnreadableGoldenError:
        if "stale" not in settings.update:
            raise
        golden = None  # and its file exists: stale
    if golden is None:
        dtypes = case.scope.dtypes
    else:  # where routes alone are asked for, no curve is missing
        dtypes = accepted(golden, case.scope) if settings.dtypes else tuple(golden.curves)
    results = [judged(replace(case, dtype=dtype), settings, golden, exists=path.exists()) for dtype in dtypes]
    outside = [result for result in results if result.verdict.kind != "match"]
    recorded, left = _sorted(outside, settings)
    if recorded and all(result.verdict.kind == "missing" for result in left):
        return _record(case, settings, golden, _worst(recorded))
    if golden is None or outside:
        return [_worst(left or outside)]
    held = guarded_routes(golden, case.scope.routes)
    departed = [judged(replace(case, dtype=None, route=name), settings, golden, exists=True) for name in held]
    recorded, left = _sorted([result for result in departed if result.verdict.kind != "match"], settings)
    names = [result.route for result in recorded]
    if "missing" in settings.update:
        names += [name for name in case.scope.routes if name not in golden.routes]
    counted = None
    if case.scope.counted:
        wide = replace(case, scope=costing.widened(case.scope, golden)) if "heavier" in settings.update else case
        counted = costing.counted(wide, settings, golden)
    if counted is not None and counted.verdict.kind not in (*judge.PASSING, *settings.update):
        left.append(counted)
        counted = None
    written = _refresh(case, settings, golden, _Renewal(names, counted, _worst([*results, *recorded])))
    return [*written, *left] or [_worst(results)]


def _sorted(results: Sequence[Result], settings: Settings) -> tuple[list[Result], list[Result]]:
    """Those whose verdict is to be recorded, and the others."""
    recorded = [result for result in results if result.verdict.kind in settings.update]
    return recorded, [result for result in results if result not in recorded]


def _worst(results: Sequence[Result]) -> Result:
    return max(results, key=lambda result: judge.KINDS.index(result.verdict.kind))


def _record(case: Case, settings: Settings, old: Golden | None, worst: Result) -> list[Result]:
    """The golden as a whole, then the variants its signature yields, as far as they have none yet.

    What the old golden guarded the new one guards too, though less was asked for.
    """
    from pytest_optcheck.conditions import Conditions
    from pytest_optcheck.recorder import record

    workload: Workload = workloads.load(settings.known[case.workload])
    if old is not None:
        held = [name for name in old.routes if name not in case.scope.routes]
        dtypes = tuple(dtype for dtype in DTYPES if dtype in case.scope.dtypes or dtype in old.curves)
        scope = costing.widened(case.scope, old)
        case = replace(case, scope=replace(scope, dtypes=dtypes, routes=(*scope.routes, *held)))
    what = _recording(case, settings, case.scope.routes)
    new = record(replace(what, ensemble=what.ensemble or (old is not None and old.ensemble is not None)))
    if old is not None:
        new = structs.replace(new, variants=old.variants, dead=old.dead, timings=old.timings)
    variants: tuple[TextSpec, ...] = ()
    if case.scope.varied and isinstance(case.spec, TextSpec):
        from pytest_optcheck.variants import derive

        dtype = next(iter(new.curves))
        derived = derive(case.spec, workload, Conditions(dtype, settings.device, new.needs))
        variants = settings.chosen_variants(case.spec, derived.specs) if case.scope.guarded else ()
        new = structs.replace(new, variants=tuple(spec.text for spec in variants), dead=derived.dead)
    recorded = replace(
        worst,
        golden=encode(new),
        effect=effect(old, new, worst.verdict),
        findings=tuple(findings(new)),
        limits=tuple(limits(new)),
        resolution=new.resolution,
        stochastic=new.stochastic,
    )
    return [recorded, *_record_variants(case, settings, variants)]


def _record_variants(case: Case, settings: Settings, variants: Sequence[TextSpec]) -> Iterator[Result]:
    store = Goldens(settings.curves)
    configured = {target.spec.text for target in settings.targets}
    for spec in variants:
        if spec.text in configured or store.path(spec.text, case.workload).exists():
            continue  # it is an item of its own
        variant = replace(case, spec=spec, scope=settings.variant_scope)
        missing = Result(
            spec.text, case.workload, DTYPES[0], settings.device, case.select, judge.Verdict("missing", "no golden")
        )
        yield from (replace(result, variant=True) for result in _record(variant, settings, None, missing))


def _refresh(case: Case, settings: Settings, golden: Golden, renewal: _Renewal) -> list[Result]:
    """The golden with some parts measured anew; nothing is recorded where that changes nothing."""
    from pytest_optcheck.departures import with_routes

    names, counted, worst = renewal
    new = with_routes(_recording(case, settings, tuple(names)), golden) if names else golden
    told = [f"routes measured: {' '.join(name for name in names if name in new.routes)}"] if new != golden else []
    if counted is not None and (costs := costing.renewed(new, counted, settings)) != new.costs:
        new = structs.replace(new, costs=costs)
        details = counted.verdict.details if "heavier" in settings.update else ()
        told.append(f"steps counted{': ' * bool(details)}{'; '.join(details)}")
    if "missing" in settings.update and golden.textbook is None:
        new = structs.replace(new, textbook=_textbook(case, settings, golden))
        told += [against_textbook(new)] if new.textbook is not None else []
    if _lacks_seeds(case, settings, new):
        from pytest_optcheck.recorder import ensemble

        new = structs.replace(new, ensemble=ensemble(_recording(case, settings, ()), new.needs))
        told.append(f"{SEEDS} seeds trained")
    if new == golden:
        return []
    return [replace(worst, golden=encode(new), effect=", ".join(told), findings=tuple(findings(new)))]


def _seeded(case: Case, settings: Settings) -> bool:
    """Whether the golden is to keep runs over many seeds."""
    return case.scope.ensemble and case.workload in settings.ensembles


def _lacks_seeds(case: Case, settings: Settings, golden: Golden) -> bool:
    """Whether they are to be added to one that is kept as it is."""
    if "missing" not in settings.update or settings.routes or not _seeded(case, settings):
        return False
    return held(golden, workloads.load(settings.known[case.workload])) is None


def _textbook(case: Case, settings: Settings, golden: Golden) -> Textbook | None:
    if case.workload not in ON:
        return None
    from pytest_optcheck.oracles.comparing import compared

    workload: Workload = workloads.load(settings.known[case.workload])
    return compared(case.spec, workload, golden, settings.device, settings.same_as)


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
        counted=case.scope.counted,
        compiled=case.scope.compiled,
        same_as=settings.same_as,
        ensemble=_seeded(case, settings),
    )
