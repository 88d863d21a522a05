"""What a step costs, against the golden: its operations counted, its time taken.

Knows neither pytest nor the terminal; imports torch when the first case runs.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_optcheck import judge, workloads
from pytest_optcheck.cases import COUNTS, TIMING, Result
from pytest_optcheck.cost import gate, locks
from pytest_optcheck.cost.figures import LISTS, Cost, Timing, version_key
from pytest_optcheck.curves import DTYPES
from pytest_optcheck.goldens import Goldens

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pytest_optcheck.cases import Case, Scope
    from pytest_optcheck.cost.ratios import Decision
    from pytest_optcheck.format import Golden
    from pytest_optcheck.settings import Settings


RECORDED = "recorded"
"""Key of a result's figures under which a time is sent to be recorded."""


def sharing(device: str) -> AbstractContextManager[None]:
    """Hold off the timing of steps on a torch device during the block, see `locks.sharing`."""
    from pytest_optcheck.cost.clock import clock

    return locks.sharing(clock(device).name)


def check(case: Case, settings: Settings) -> list[Result]:
    """The counts of `case` against its golden; nothing where there is none, or nothing is to be counted.

    Raises:
        OptcheckError: spec or golden cannot be used.
    """
    golden = Goldens(settings.curves).load(case.spec.text, case.workload) if case.scope.counted else None
    return [counted(case, settings, golden)] if golden is not None else []


def counted(case: Case, settings: Settings, golden: Golden) -> Result:
    """Count the operations of a step; more than `golden` says is ``heavier``, fewer is told and passes.

    Raises:
        OptcheckError: the spec cannot be built.
    """
    from pytest_optcheck.cost import counting

    key = version_key(settings.device)
    old = golden.costs.get(key)
    compiled = case.scope.compiled and (bool(settings.update) or _compiled(old))
    lists = case.scope.counted
    new, refused = counting.count(case.spec, golden.needs, settings.device, lists=lists, compiled=compiled)
    result = answer(case, settings, COUNTS, judge.Verdict("match"), cost=msgspec.to_builtins(new))
    if old is None:
        return replace(result, verdict=judge.Verdict("incomparable", _uncounted(golden, key)))
    asked = Cost({name: cost for name, cost in old.lists.items() if name in case.scope.counted})
    return replace(result, verdict=counts_verdict(gate.compare(new, asked, refused)))


def counts_verdict(found: gate.Comparison) -> judge.Verdict:
    """The verdict on a comparison of counts; what became lighter passes, and is told."""
    return judge.Verdict("heavier" if found.heavier else "match", details=found.heavier or found.lighter)


def widened(scope: Scope, golden: Golden) -> Scope:
    """`scope` with every list that the steps of `golden` were counted on: counts that are replaced lose none."""
    held = {name for cost in golden.costs.values() for name in cost.lists}
    return replace(scope, counted=tuple(name for name in LISTS if name in held or name in scope.counted))


def renewed(golden: Golden, result: Result, settings: Settings) -> dict[str, Cost]:
    """The counts of `golden` with those of `result` where they are to be recorded.

    Those of other versions stay beside new ones as long as nothing changed; then they no longer apply. A list that
    was not counted yet is missing, as are recompiles that were not; those stay where none were counted now.
    """
    key, new = version_key(settings.device), msgspec.convert(result.cost, Cost)
    held = golden.costs.get(key, Cost({}))
    if result.verdict.details and "heavier" in settings.update:
        return {key: _with_recompiles(new, held)}
    if "missing" in settings.update:
        return {**golden.costs, key: _with_recompiles(Cost({**new.lists, **held.lists}), new)}
    return golden.costs


def _compiled(cost: Cost | None) -> bool:
    """Whether recompiles were counted: to count those of one side alone would say nothing."""
    return cost is not None and any(found.recompiles is not None for found in cost.lists.values())


def _with_recompiles(cost: Cost, other: Cost) -> Cost:
    """`cost`, with the recompiles of `other` on lists where it has none."""
    lists = dict(cost.lists)
    for name, found in other.lists.items():
        if name in lists and lists[name].recompiles is None:
            lists[name] = msgspec.structs.replace(lists[name], recompiles=found.recompiles)
    return Cost(lists)


def timed(case: Case, settings: Settings) -> Result:
    """Time a step against the control's, and that ratio against the golden's of this machine.

    Where goldens are updated the result brings a time to record.

    Raises:
        OptcheckError: spec or golden cannot be used.
    """
    from pytest_optcheck import needs
    from pytest_optcheck.cost.control import NoTimingError, against_control, compare

    golden = Goldens(settings.curves).load(case.spec.text, case.workload)
    if golden is not None:
        needed = golden.needs
    else:
        needed, _ = needs.discover(case.spec, workloads.load(settings.known[case.workload]), settings.device)
    figures: dict[str, Any] = {}
    try:
        if settings.update:
            new = against_control(case.spec, needed, settings.device)
            figures = {"ratio": new.ratio, RECORDED: msgspec.to_builtins(new)}
        if golden is None or (settings.update and not _known(golden, new.fingerprint)):
            verdict = judge.Verdict("match")
        else:
            found = compare(case.spec, needed, settings.device, golden.timings)
            decision = asdict(found.decision)
            figures |= {**decision, "to_golden": decision["ratio"], "ratio": found.ratio, "margin": found.margin}
            more = f"; {found.ratio:.2f} × the control's"
            verdict = timing_verdict(found.decision, "its golden's time", found.margin, more)
    except NoTimingError as error:
        verdict = judge.Verdict("incomparable", f"step times: {error}")
    return answer(case, settings, TIMING, verdict, timing=figures)


def _known(golden: Golden, fingerprint: dict[str, str]) -> bool:
    return any(timing.fingerprint == fingerprint for timing in golden.timings)


def timing_verdict(decision: Decision, other: str, margin: float, more: str = "") -> judge.Verdict:
    """The verdict on a comparison of step times.

    Args:
        decision: what it came to.
        other: what the step was held against, as ``its golden's time``.
        margin: the part of that by which it may take longer.
        more: what else is told of a slower step.
    """
    if decision.answer == "cannot tell":
        return judge.Verdict("incomparable", f"step times: cannot tell, {decision.reason}")
    if decision.answer == "not slower":
        return judge.Verdict("match")
    interval = f"{decision.low:.2f} to {decision.high:.2f}, {decision.blocks} blocks"
    now = f"a step takes {decision.ratio:.2f} × {other} ({interval})"
    return judge.Verdict("slower", f"{now}; {1 + margin:.2f} × is allowed{more}")


def with_time(golden: Golden, result: Result, settings: Settings, *, anew: bool) -> Golden:
    """`golden` with the time that `result` brings, where it is to be recorded.

    Args:
        golden: as it is stored.
        result: of timing its step.
        settings: what is to be recorded.
        anew: the golden was recorded as a whole in this session: a time it holds is that of the step as it was.
    """
    new = msgspec.convert(result.timing[RECORDED], Timing)
    others = tuple(timing for timing in golden.timings if timing.fingerprint != new.fingerprint)
    absent = len(others) == len(golden.timings) and "missing" in settings.update
    if absent or result.verdict.kind in settings.update or (anew and result.verdict.kind in judge.PASSING):
        return msgspec.structs.replace(golden, timings=(*others, new))
    return golden


def answer(case: Case, settings: Settings, aspect: str, verdict: judge.Verdict, **figures: Any) -> Result:  # noqa: ANN401 - fields of a result
    """A result of `case` on one aspect of what a step costs."""
    return Result(
        case.spec.text,
        case.workload,
        DTYPES[0],
        settings.device,
        case.select,
        verdict,
        aspect,
        discovered=case.discovered,
        **figures,
    )


def _uncounted(golden: Golden, key: str) -> str:
    others = " and ".join(golden.costs)
    known = f"steps were counted with {others}" if others else "no steps were counted yet"
    return f"{known}, this is {key}; pytest --optcheck-update=missing adds what is missing"
