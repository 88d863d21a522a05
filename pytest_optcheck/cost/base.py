"""An optimizer held against its old code: curve, counts and step time of both sides, compared directly.

No golden takes part, so a project that has none gets its answer too. Knows neither pytest nor the terminal; torch is
imported by the processes of the sides alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_optcheck import judge
from pytest_optcheck.cost import gate
from pytest_optcheck.cost.figures import LISTS, Cost
from pytest_optcheck.cost.ratios import Decision
from pytest_optcheck.curves import Failure, Run, same
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.format import decode
from pytest_optcheck.specs import TextSpec

if TYPE_CHECKING:
    from pytest_optcheck.cost.peer import Peer
    from pytest_optcheck.format import Golden
    from pytest_optcheck.specs import OptimizerSpec


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of one optimizer on one reference model.

    Attributes:
        spec: the optimizer.
        workload: the reference model, as ``module:Class``.
        device: where.
        lists: on which steps are counted; none for no counts.
        timed: whether steps are timed.
    """

    spec: OptimizerSpec
    workload: str
    device: str = "cpu"
    lists: tuple[str, ...] = LISTS
    timed: bool = True


@dataclass(frozen=True, slots=True)
class BaseAnswer:
    """How the new code compares with the old.

    Attributes:
        label: of the old code, for reports.
        incomparable: why nothing was compared, in one line; all that follows is then empty.
        verdict: on the new code's curve, by the old code's.
        counts: what became heavier, and what lighter; None where it was not asked for.
        new: what the new code's step was counted to cost.
        old: what the old code's was.
        time: whether the new code's step is slower; None where it was not asked for, or cannot be told at all.
        untimed: why it cannot be told at all.
        notes: what else there is to say, a line each.
    """

    label: str
    incomparable: str = ""
    verdict: judge.Verdict = field(default_factory=lambda: judge.Verdict("match"))
    counts: gate.Comparison | None = None
    new: Cost | None = None
    old: Cost | None = None
    time: Decision | None = None
    untimed: str = ""
    notes: tuple[str, ...] = ()


class _IncomparableError(Exception):
    """The two sides cannot be compared; the text says why."""


def compare_with_base(asked: Asked, peer: Peer) -> BaseAnswer:
    """Compare the optimizer of this code with that of the peer's base.

    Time is taken while the device is held for it, so whoever holds the device's lock must let it go first.

    Raises:
        OptcheckError: the base is not to be had, or this code's side cannot use the spec or the reference model.
        SideError: a side broke down.
    """
    label = peer.base.label
    try:
        return _Comparison(asked, peer).answer()
    except _IncomparableError as error:
        return BaseAnswer(label, incomparable=str(error))


class _Comparison:
    """One question on its way through both sides."""

    def __init__(self, asked: Asked, peer: Peer) -> None:
        """Nothing is asked yet."""
        self.asked, self.peer = asked, peer
        self.spec = asked.spec.text
        self.workload: dict[str, Any] = {"workload": asked.workload, "device": asked.device}

    def answer(self) -> BaseAnswer:
        """Everything that is asked."""
        self._identify()
        found = self._base("needs", spec=self.spec, **self.workload)
        needs, dtype = found["needs"], found["dtype"]
        verdict, notes = self._curves(needs, dtype)
        new = old = counts = time = None
        untimed = ""
        if self.asked.lists:
            new, old, refused = self._counts(needs)
            counts = gate.compare(new, old, refused)
        if self.asked.timed:
            timed = self.peer.time(self.spec, self.asked.device, needs)
            untimed = timed.get("untimed", "")
            time = None if untimed else Decision(**timed)
        borrowed = self.peer.ask("base", "borrowed")
        if borrowed:
            notes.append(f"git ignores {', '.join(borrowed)}: on both sides the work tree's")
        return BaseAnswer(self.peer.base.label, "", verdict, counts, new, old, time, untimed, tuple(notes))

    def _identify(self) -> None:
        """See to it that both sides have the optimizer, and that they are not the same code."""
        if not isinstance(self.asked.spec, TextSpec):
            raise _IncomparableError(
                f"{self.spec} is a Python factory, which the base cannot be asked for; name it as module:function"
            )
        here = self.peer.ask("new", "origins", spec=self.spec)
        try:
            there = self.peer.ask("base", "origins", spec=self.spec)
        except OptcheckError as error:
            raise _IncomparableError(f"not in {self.peer.base.label}, nothing to compare: {error}") from error
        if here == there:
            file = here.get(self.asked.spec.module, "")
            came = f", it comes from {file}" if file else ""
            address, home = self.asked.spec.address, self.peer.base.home
            raise _IncomparableError(f"{address} is not in {home}{came}: both sides are the same code")

    def _base(self, command: str, **arguments: Any) -> Any:  # noqa: ANN401 - plain data
        """Ask the base; what it refuses is nothing that the new code could be blamed for."""
        try:
            return self.peer.ask("base", command, **arguments)
        except OptcheckError as error:
            raise _IncomparableError(f"{self.peer.base.label}: {error}") from error

    def _curves(self, needs: dict[str, Any], dtype: str) -> tuple[judge.Verdict, list[str]]:
        """The verdict on the new curve, and notes; an envelope is measured where the two are not the same bits."""
        arguments = {"spec": self.spec, **self.workload, "dtype": dtype}
        asked = {**arguments, "needs": needs}
        here, there = self.peer.ask_all([("new", "train", asked), ("base", "train", asked)])
        if here["digest"] != there["digest"]:
            other = f"the reference model {self.asked.workload} is another one in {self.peer.base.label}"
            return judge.Verdict("incomparable", other), []
        new, old = as_run(here["run"]), as_run(there["run"])
        if _equal(new, old):
            end = new.losses[-1] if new.losses else None
            return judge.Verdict("match", largest=0.0, final_old=end, final_new=end), []
        golden = self._golden(arguments)
        notes = ["two runs of the old code differ, so the curves say little"] if golden.stochastic else []
        return judge.judge(new, golden, judge.Policy()), notes

    def _golden(self, arguments: dict[str, Any]) -> Golden:
        """What recording makes of the old code."""
        golden = decode(self._base("golden", **arguments), Path(self.spec))
        assert golden is not None  # noqa: S101 - it was written a moment ago, by this version
        return golden

    def _counts(self, needs: dict[str, Any]) -> tuple[Cost, Cost, dict[str, str]]:
        """What a step of the new code and of the old one costs, and what the new one refused."""
        asked = {"spec": self.spec, "device": self.asked.device, "needs": needs, "lists": self.asked.lists}
        here, there = self.peer.ask_all([("new", "count", asked), ("base", "count", asked)])
        return msgspec.convert(here["cost"], Cost), msgspec.convert(there["cost"], Cost), here["refused"]


def as_run(found: dict[str, Any]) -> Run:
    """A run that was plain data."""
    failure = Failure(**found["failure"]) if found["failure"] else None
    return Run(**{**found, "failure": failure})


def _equal(new: Run, old: Run) -> bool:
    """Whether two runs are the same in all that is judged, bit for bit."""
    return same(new, old) and (new.failure, new.broken, new.rates) == (old.failure, old.broken, old.rates)
