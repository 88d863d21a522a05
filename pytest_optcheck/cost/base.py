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
from pytest_optcheck.cost.locks import sharing
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
        curves: whether curves are compared.
    """

    spec: OptimizerSpec
    workload: str
    device: str = "cpu"
    lists: tuple[str, ...] = LISTS
    timed: bool = True
    curves: bool = True


@dataclass(frozen=True, slots=True)
class BaseAnswer:
    """How the new code compares with the old.

    Attributes:
        label: of the old code, for reports.
        incomparable: why nothing was compared, in one line; all that follows is then empty.
        verdict: on the new code's curve, by the old code's; ``match`` where it was not asked for.
        doubt: why that says little; empty where it does not.
        counts: what became heavier, and what lighter; None where it was not asked for.
        new: what the new code's step was counted to cost.
        old: what the old code's was.
        time: whether the new code's step is slower; None where it was not asked for, or cannot be told at all.
        untimed: why it cannot be told at all.
        notes: what else there is to say of all of it, a line each.
    """

    label: str
    incomparable: str = ""
    verdict: judge.Verdict = field(default_factory=lambda: judge.Verdict("match"))
    doubt: str = ""
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

    Nothing is trained or counted while anyone times steps on the device, and time is taken while the device is held
    for it, so whoever holds the device's lock must let it go first.

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
        if not isinstance(self.asked.spec, TextSpec):
            raise _IncomparableError(
                f"{self.spec} is a Python factory, which the base cannot be asked for; name it as module:function"
            )
        with sharing(self.peer.ask("new", "device", device=self.asked.device)):
            self._identify(self.asked.spec)
            found = self._base("needs", spec=self.spec, **self.workload)
            needs = found["needs"]
            curve = self._curves(needs, found["dtype"]) if self.asked.curves else {}
            counted = self._counts(needs) if self.asked.lists else {}
        timed = self.peer.time(self.spec, self.asked.device, needs) if self.asked.timed else {}  # locks for itself
        untimed = timed.get("untimed", "")
        borrowed = self.peer.ask("base", "borrowed")
        return BaseAnswer(
            self.peer.base.label,
            **curve,
            **counted,
            time=Decision(**timed) if timed and not untimed else None,
            untimed=untimed,
            notes=(f"git ignores {', '.join(borrowed)}: on both sides the work tree's",) if borrowed else (),
        )

    def _identify(self, spec: TextSpec) -> None:
        """See to it that both sides have the optimizer, and that they are not the same code."""
        here = self.peer.ask("new", "origins", spec=self.spec)
        try:
            there = self.peer.ask("base", "origins", spec=self.spec)
        except OptcheckError as error:
            raise _IncomparableError(f"not in {self.peer.base.label}, nothing to compare: {error}") from error
        if here == there:
            file = here.get(spec.module, "")
            came = f", it comes from {file}" if file else ""
            raise _IncomparableError(
                f"{spec.address} is not in {self.peer.base.home}{came}: both sides are the same code"
            )

    def _base(self, command: str, **arguments: Any) -> Any:  # noqa: ANN401 - plain data
        """Ask the base; what it refuses is nothing that the new code could be blamed for."""
        try:
            return self.peer.ask("base", command, **arguments)
        except OptcheckError as error:
            raise _IncomparableError(f"{self.peer.base.label}: {error}") from error

    def _curves(self, needs: dict[str, Any], dtype: str) -> dict[str, Any]:
        """The verdict on the new curve, and doubts; an envelope is measured where the two are not the same bits."""
        arguments = {"spec": self.spec, **self.workload, "dtype": dtype}
        asked = {**arguments, "needs": needs}
        here, there = self.peer.ask_all([("new", "train", asked), ("base", "train", asked)])
        if here["digest"] != there["digest"]:
            other = f"the reference model {self.asked.workload} is another one in {self.peer.base.label}"
            mend = "choose one that both have with --optcheck-workload, or a base that has this one"
            return {"verdict": judge.Verdict("incomparable", f"{other}; {mend}")}
        new, old = as_run(here["run"]), as_run(there["run"])
        if _equal(new, old):
            end = new.losses[-1] if new.losses else None
            return {"verdict": judge.Verdict("match", largest=0.0, final_old=end, final_new=end)}
        golden = self._golden(arguments)
        doubt = "two runs of the old code differ, so the curves say little" if golden.stochastic else ""
        return {"verdict": judge.judge(new, golden, judge.Policy()), "doubt": doubt}

    def _golden(self, arguments: dict[str, Any]) -> Golden:
        """What recording makes of the old code."""
        golden = decode(self._base("golden", **arguments), Path(self.spec))
        assert golden is not None  # noqa: S101 - it was written a moment ago, by this version
        return golden

    def _counts(self, needs: dict[str, Any]) -> dict[str, Any]:
        """What a step of the new code and of the old one costs, and how they compare."""
        asked = {"spec": self.spec, "device": self.asked.device, "needs": needs, "lists": self.asked.lists}
        here, there = self.peer.ask_all([("new", "count", asked), ("base", "count", asked)])
        new, old = (msgspec.convert(side["cost"], Cost) for side in (here, there))
        return {"counts": gate.compare(new, old, here["refused"]), "new": new, "old": old}


def as_run(found: dict[str, Any]) -> Run:
    """A run that was plain data."""
    failure = Failure(**found["failure"]) if found["failure"] else None
    return Run(**{**found, "failure": failure})


def _equal(new: Run, old: Run) -> bool:
    """Whether two runs are the same in all that is judged, bit for bit."""
    return same(new, old) and (new.failure, new.broken, new.rates) == (old.failure, old.broken, old.rates)
