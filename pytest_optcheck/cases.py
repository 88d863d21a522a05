"""What is asked and what is answered: a case, what its golden is recorded with, and its result.

Plain values that travel between processes; imports neither torch nor pytest.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pytest_optcheck import judge
from pytest_optcheck.curves import DTYPES, PLAIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_optcheck.curves import Dtype
    from pytest_optcheck.settings import Settings
    from pytest_optcheck.specs import OptimizerSpec


COUNTS, TIMING, BASE, SELFTEST = ASPECTS = ("counts", "timing", "base", "selftest")
"""What else is asked of an optimizer beside its curves: the operations of a step, its time, both of them and the curve
against the code of another revision, and whether all of them notice it when it is broken."""

UNTOUCHED, LR, TENSOR, STATE, SYNC, WAIT = ("untouched", "lr", "tensor", "state", "sync", "wait")

BREAKS: Mapping[str, str] = {
    UNTOUCHED: "untouched",
    LR: "lr × 1.001",
    TENSOR: "tensor skipped",
    STATE: "state lost",
    SYNC: "a sync more",
    WAIT: "20 % slower",
}
"""What the self-test does to an optimizer, in the order of its table: name -> in words."""

Outcome = Literal["green", "red", "caught", "missed", "let pass", "nothing", "cannot tell", "unasked"]
"""What became of it, see `Planted`."""


@dataclass(frozen=True, slots=True)
class Planted:
    """What the self-test did to an optimizer, and what became of it.

    Attributes:
        name: one of `BREAKS`.
        how: what was done, in words.
        outcome: of the untouched copy ``green``, or ``red`` where it does not match. Of the others ``caught`` where
            the verdict fails a test and ``missed`` where it passes one; ``let pass`` where it would fail one if
            nothing had been allowed; ``nothing`` where there is nothing to break, ``cannot tell`` where this machine
            or golden cannot, ``unasked`` where the configuration does not ask.
        why: for all that is neither green nor caught, in a few words.
    """

    name: str
    how: str
    outcome: Outcome
    why: str = ""


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
        counted: the lists of tensors on which the operations of a step are counted, see `cost.lists`.
        compiled: whether recompiles of its compiled step are counted too.
        timed: whether its step is timed against the control.
        checked: of its dtypes, those that the plain route is checked in where the golden has a curve in the widest.
        ensemble: whether runs over many seeds are kept on the reference models that they are configured for.
        implied: whether the plain route is left to ``resume`` where that lands on the same curve: it begins like it,
            ends like it, and is held against all of it.
    """

    dtypes: tuple[Dtype, ...] = DTYPES
    routes: tuple[str, ...] = ()
    varied: bool = False
    guarded: bool = False
    lean: bool = False
    twice: bool = False
    counted: tuple[str, ...] = ()
    compiled: bool = False
    timed: bool = False
    checked: tuple[Dtype, ...] = DTYPES
    ensemble: bool = True
    implied: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """What one pytest item asks.

    Attributes:
        spec: the optimizer.
        workload: name of the reference model.
        dtype: what to train in; None where a route, all routes, or the golden as a whole is asked for.
        select: command-line arguments that select this case alone.
        diverges: this training is declared to leave the finite numbers.
        route: one of `routes.NAMES`, the plain one, or one of `ASPECTS`.
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
        cost: the counts of its steps, as plain values; empty where nothing was counted.
        timing: the time of its step against that of another, as plain values; empty where nothing was timed.
        convergence: reference model -> what its ensemble says of the change, a `convergence.Answer` as plain values;
            empty where none was asked.
        planted: what the self-test had broken; None for the optimizer as it is.
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
    cost: dict[str, Any] = field(default_factory=dict)
    timing: dict[str, Any] = field(default_factory=dict)
    convergence: dict[str, Any] = field(default_factory=dict)
    planted: Planted | None = None

    def as_dict(self) -> dict[str, Any]:
        """As nested dicts of plain Python scalars, the only thing a test report may carry."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Result:
        """The inverse of `as_dict`."""
        tuples = {name: tuple(plain[name]) for name in ("findings", "limits")}
        verdict = judge.Verdict(**{**plain["verdict"], "details": tuple(plain["verdict"]["details"])})
        planted = Planted(**plain["planted"]) if plain["planted"] else None
        return cls(**{**plain, **tuples, "verdict": verdict, "planted": planted})


def refused(case: Case, settings: Settings, why: str) -> Result:
    """The answer for a discovered optimizer that cannot be recorded."""
    nothing = judge.Verdict("match")
    return Result(
        case.spec.text,
        case.workload,
        DTYPES[0],
        settings.device,
        case.select,
        nothing,
        discovered=case.discovered,
        refused=why,
    )
