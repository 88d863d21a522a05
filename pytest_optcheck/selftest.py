"""The self-test: an optimizer is broken in memory, in one way after the other, and its gate has to notice every time.

Each broken copy goes through the very functions that check the real one, and is held against the real one's golden.
Knows neither pytest nor the terminal.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_optcheck import building, checking, costing, judge, workloads
from pytest_optcheck.breaks import BrokenSpec, Forgets, OtherRate, Skips, Syncs, Trace, Untouched, Waits
from pytest_optcheck.cases import BREAKS, COUNTS, LR, STATE, SYNC, TENSOR, TIMING, UNTOUCHED, WAIT, Planted
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.cost import sides, versus
from pytest_optcheck.cost.clock import clock
from pytest_optcheck.cost.control import NoTimingError
from pytest_optcheck.cost.figures import version_key
from pytest_optcheck.curves import DTYPES, PLAIN, restart_update, same
from pytest_optcheck.goldens import Goldens
from pytest_optcheck.tampering import replaced
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_optcheck.cases import Case, Outcome, Result
    from pytest_optcheck.cost.ratios import Decision
    from pytest_optcheck.curves import Dtype, Run
    from pytest_optcheck.format import Golden
    from pytest_optcheck.settings import Settings

CHANGE = 1e-3
"""The learning rate is changed by this part of itself, which a test that looks at the final loss would let pass. 246 of
the 259 goldens of `torch.optim` see a thousandth of it; one that says of itself that it sees less is asked for that."""

SHARE = 0.2
"""A step is made so much longer: ten times the margin of `versus`, and still less than the 25 % at which a golden may
call it slower, so it is held against the untouched step instead."""

FEW = 2
"""Tensors that the slower step is timed on, a matrix and a vector where it takes both: a slow rule would use up the
seconds of `versus` on all of them, and how much slower it is does not depend on how many there are."""

NOTHING: Mapping[str, str] = {
    UNTOUCHED: "",
    LR: "no lr",
    TENSOR: "nothing moves",
    STATE: "no state",
    SYNC: "no tensors",
    WAIT: "",
}
"""What is said where an optimizer has not what would be broken."""


def check(case: Case, settings: Settings) -> list[Result]:
    """Break the optimizer of `case` in every way of `BREAKS`, and have each copy checked as the real one is.

    The device's lock must not be held: a step is timed while nothing else runs.

    Returns:
        A result for each, whose `Result.planted` says what became of it; those of the untouched copy alone where
        they are not green, because nothing that follows would mean anything.

    Raises:
        OptcheckError: spec, workload or golden cannot be used.
    """
    golden = Goldens(settings.curves).load(case.spec.text, case.workload)
    with costing.sharing(settings.device):
        if golden is None:
            return [_with(checking.bare(replace(case, dtype=DTYPES[0], route=PLAIN), settings), UNTOUCHED, "red")]
        bench = _Bench(case, settings, golden)
        untouched = bench.untouched()
        if any(_outcome(result) == "red" for result in untouched):
            return untouched
        broken = [bench.other_rate(), bench.skipped_tensor(), bench.lost_state(), bench.sync()]
    return [*untouched, *broken, bench.wait()]


@dataclass(frozen=True, slots=True)
class _Bench:
    """One optimizer that is broken again and again."""

    case: Case
    settings: Settings
    golden: Golden

    @property
    def _dtype(self) -> Dtype:
        """The widest of its golden."""
        return next(iter(self.golden.curves))

    def untouched(self) -> list[Result]:
        """The curve of the optimizer as it is, and its counts where those are asked for."""
        curve = self._curve(Untouched, Trace(), twice=self.case.scope.twice)
        if curve.verdict.kind != "match":
            return [_with(curve, UNTOUCHED, "red")]
        counts = self._counts(Untouched, Trace())
        green = all(result.verdict.kind in ("match", "incomparable") for result in counts)
        return [_with(result, UNTOUCHED, "green" if green else "red") for result in (curve, *counts)]

    def other_rate(self) -> Result:
        """Another learning rate: by `CHANGE`, or by what the golden claims to see."""
        trace, seen = Trace(), self.golden.resolution
        factor = 1.0 + max(CHANGE, seen or 0.0)
        told = self._told(self._curve(OtherRate, trace, factor=factor), LR, trace, f"lr × {factor:.4g}")
        if seen is None and _outcome(told) == "missed":
            return _with(told, LR, "nothing", "golden sees none")
        return told

    def skipped_tensor(self) -> Result:
        """A tensor that is never updated."""
        trace = Trace()
        return self._told(self._curve(Skips, trace), TENSOR, trace)

    def lost_state(self) -> Result:
        """The state lost in mid-run; where not a bit of the run moves there was none, or none that is ever used.

        A rule that has arrived by then moves nothing either, so it is tried after the first step as well.
        """
        middle = restart_update(self.golden.needs.steps or self.golden.workload.steps)
        for after, how in ((middle, ""), (1, f"{BREAKS[STATE]} after step 1")):
            trace = Trace()
            result = self._curve(Forgets, trace, after=after)
            told = self._told(result, STATE, trace, how)
            if _outcome(told) not in ("missed", "nothing"):
                return told
            if not same(self._run(Untouched), self._run(Forgets, after=after)):
                return self._told(result, STATE, Trace(found=True), how)
        return _with(told, STATE, "nothing", "no effect" if trace.found else NOTHING[STATE])

    def sync(self) -> Result:
        """The host waits for a number in every step."""
        trace = Trace()
        found = next(iter(self._counts(Syncs, trace)), None)
        return self._told(found, SYNC, trace) if found else self._unasked(COUNTS, SYNC, "not counted")

    def wait(self) -> Result:
        """Every step takes longer, by `SHARE`."""
        if not self.case.scope.timed:
            return self._unasked(TIMING, WAIT, "not timed")
        figures: dict[str, Any] = {}
        try:
            decision = self._timed()
            verdict, figures = _verdict(decision), asdict(decision)
        except (NoTimingError, sides.RefusedError) as error:
            verdict = judge.Verdict("incomparable", f"step times: {error}")
        result = costing.answer(self.case, self.settings, TIMING, verdict, timing=figures)
        return self._told(result, WAIT, Trace(found=True))

    def _unasked(self, aspect: str, name: str, why: str) -> Result:
        """The answer for what this gate does not look at."""
        return _with(costing.answer(self.case, self.settings, aspect, judge.Verdict("match")), name, "unasked", why)

    def _curve(self, how: type[Untouched], trace: Trace, *, twice: bool = False, **settings: Any) -> Result:  # noqa: ANN401 - of the break
        """The answer for the plain curve of the optimizer once it is broken."""
        scope = replace(self.case.scope, twice=twice)
        spec = self._spec(how, trace, **settings)
        return checking.bare(replace(self.case, spec=spec, dtype=self._dtype, route=PLAIN, scope=scope), self.settings)

    def _run(self, how: type[Untouched], **settings: Any) -> Run:  # noqa: ANN401 - of the break
        """The bare training behind `_curve`, which nobody judges."""
        build = building.plain(self._spec(how, Trace(), **settings))
        workload = workloads.load(self.settings.known[self.case.workload])
        return train(build, workload, Conditions(self._dtype, self.settings.device, self.golden.needs))

    def _counts(self, how: type[Untouched], trace: Trace) -> list[Result]:
        """The answer for its counts, on one of the lists of tensors they were taken on; none where none are asked for.

        One is enough for a gate to show that it counts.
        """
        cost = self.golden.costs.get(version_key(self.settings.device))
        counted = tuple(name for name in self.case.scope.counted if cost is None or name in cost.lists)[:1]
        scope = replace(self.case.scope, counted=counted)
        return costing.check(replace(self.case, spec=self._spec(how, trace), scope=scope), self.settings)

    def _timed(self) -> Decision:
        """Whether the step is slower than an untouched one that is there twice, as another revision's would be.

        Raises:
            NoTimingError: the machine cannot tell.
            RefusedError: the optimizer cannot be timed.
        """
        device, needs = self.settings.device, self.golden.needs
        names = sides.accepted(self.case.spec, needs, device)[:FEW]
        slow, sound = self._spec(Waits, Trace(), share=SHARE), self._spec(Untouched, Trace())

        @contextlib.contextmanager
        def company() -> Iterator[list[sides.StepSide]]:
            with sides.settled(device, needs):
                yield [sides.side(spec, needs, device, names) for spec in (slow, sound, sound)]

        return versus.compare(company, company, clock(device))

    def _spec(self, how: type[Untouched], trace: Trace, **settings: Any) -> BrokenSpec:  # noqa: ANN401 - of the break
        return BrokenSpec(self.case.spec, partial(how, trace=trace, **settings))

    def _told(self, result: Result, name: str, trace: Trace, how: str = "") -> Result:
        """What became of a break, from the verdict on it."""
        kind, why = result.verdict.kind, ""
        outcome: Outcome = "missed"
        if trace.trouble:
            outcome, why = "cannot tell", trace.trouble
        elif self.settings.fails(kind):
            outcome = "caught"
        elif kind not in judge.PASSING:
            outcome = "let pass"
        elif kind == "incomparable":
            outcome, why = "cannot tell", result.verdict.note
        elif not trace.found:
            outcome, why = "nothing", NOTHING[name]
        else:
            why = replaced(name)
        return _with(result, name, outcome, why, how)


def _with(result: Result, name: str, outcome: Outcome, why: str = "", how: str = "") -> Result:
    return replace(result, planted=Planted(name, how or BREAKS[name], outcome, why))


def _outcome(result: Result) -> Outcome | None:
    return result.planted.outcome if result.planted is not None else None


def _verdict(decision: Decision) -> judge.Verdict:
    """What a comparison of step times says."""
    if decision.answer == "cannot tell":
        return judge.Verdict("incomparable", f"step times: cannot tell, {decision.reason}")
    figures = f"{decision.ratio:.2f} × the untouched step ({decision.low:.2f} to {decision.high:.2f})"
    return judge.Verdict("slower" if decision.answer == "slower" else "match", figures)
