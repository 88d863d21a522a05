"""One case from beginning to end: load the golden, train, judge; or record it anew.

Knows neither pytest nor the terminal; imports torch when the first case runs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_optcheck import goldens, judge, workloads
from pytest_optcheck.curves import BLIND, DTYPES, Dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_optcheck.goldens import Golden
    from pytest_optcheck.settings import Settings
    from pytest_optcheck.specs import OptimizerSpec
    from pytest_optcheck.workloads.base import Workload


@dataclass(frozen=True, slots=True)
class Case:
    """What one pytest item asks.

    Attributes:
        spec: the optimizer.
        workload: name of the reference model.
        dtype: what to train in; None asks for the golden as a whole, to update it.
        select: command-line arguments that select this case alone.
        diverges: this training is declared to leave the finite numbers.
    """

    spec: OptimizerSpec
    workload: str
    dtype: Dtype | None
    select: str
    diverges: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The answer for one case, in plain values that travel from worker to controller.

    Attributes:
        verdict: kind, place and size of the deviation.
        resolution: of the golden; None where there is none.
        stochastic: the golden's optimizer does not repeat itself.
        golden: the new golden's JSON where one was recorded.
        effect: what the new golden changes, in one line.
        skipped: why there is nothing to say: the optimizer does not accept this dtype.
    """

    spec: str
    workload: str
    dtype: str
    device: str
    select: str
    verdict: judge.Verdict
    resolution: float | None = None
    stochastic: bool = False
    step_s: float = 0.0
    train_s: float = 0.0
    golden: str | None = None
    effect: str = ""
    skipped: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As nested dicts of plain Python scalars, the only thing a test report may carry."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Result:
        """The inverse of `as_dict`."""
        return cls(**{**plain, "verdict": judge.Verdict(**plain["verdict"])})


def check(case: Case, settings: Settings) -> Result:
    """Judge `case` against its golden.

    Raises:
        OptcheckError: spec, workload or golden cannot be used.
    """
    store = goldens.Goldens(settings.curves)
    golden = store.load(case.spec.text, case.workload)
    return _check(case, settings, golden, exists=store.path(case.spec.text, case.workload).exists())


def update(case: Case, settings: Settings) -> Result:
    """Check `case` in every dtype; where the verdict is one that is to be recorded, make the new golden.

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
    dtypes = DTYPES if golden is None else _accepted(golden)
    results = [_check(replace(case, dtype=dtype), settings, golden, exists=path.exists()) for dtype in dtypes]
    worst = max(results, key=lambda result: judge.KINDS.index(result.verdict.kind))
    if worst.verdict.kind not in settings.update:
        return worst
    return _record(case, settings, golden, worst)


def _check(case: Case, settings: Settings, golden: Golden | None, *, exists: bool) -> Result:
    dtype = case.dtype or DTYPES[0]
    workload = workloads.load(settings.known[case.workload])
    result = Result(case.spec.text, case.workload, dtype, settings.device, case.select, judge.Verdict("match"))
    factory = case.spec.factory()
    if golden is not None:
        result = replace(result, resolution=golden.resolution, stochastic=golden.stochastic)
        if dtype not in _accepted(golden):
            return replace(result, skipped=f"{case.spec.text} accepts {', '.join(golden.curves)} only")
    early = judge.precheck(golden, exists=exists, digest=workload.digest, dtype=dtype)
    if early is not None or golden is None:
        return replace(result, verdict=early or result.verdict)

    from pytest_optcheck.training import Conditions, train

    run = train(factory, workload, Conditions(dtype, settings.device, golden.needs))
    verdict = judge.judge(run, golden, judge.Policy())
    return replace(result, verdict=verdict, step_s=run.step_s, train_s=run.train_s)


def _accepted(golden: Golden) -> tuple[Dtype, ...]:
    """The widest dtype of `golden` and all that are narrower."""
    return DTYPES[min(map(DTYPES.index, golden.curves)) :]


def _record(case: Case, settings: Settings, old: Golden | None, worst: Result) -> Result:
    from pytest_optcheck.recorder import Recording, record

    workload: Workload = workloads.load(settings.known[case.workload])
    diverges = case.diverges or case.spec.text in settings.diverging
    new = record(Recording(case.spec, workload, settings.device, settings.reason, diverges=diverges))
    return replace(
        worst,
        golden=goldens.encode(new),
        effect=effect(old, new, worst.verdict),
        resolution=new.resolution,
        stochastic=new.stochastic,
    )


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
        f"refuses and leaves frozen: {' '.join(needs.frozen)}": bool(needs.frozen),
        "does not repeat itself (stochastic)": golden.stochastic,
        f"accepts no {DTYPES[0]}": DTYPES[0] not in golden.curves,
        "a rounding can make it leave the finite numbers": any(
            point.envelope >= BLIND for curve in golden.curves.values() for point in curve.losses
        ),
        "leaves the finite numbers, as declared": any(c.diverges is not None for c in golden.curves.values()),
    }
    return [text for text, holds in found.items() if holds]
