"""What two naive tests say: of every optimizer one float32 training, as a test author would write it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_optcheck import workloads
from pytest_optcheck.building import plain
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.goldens import Goldens
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.mutating.trying import Cases
    from pytest_optcheck.curves import Run
    from pytest_optcheck.specs import TextSpec

MODEL = "mlp"
"""Where an optimizer is trained, if it can be there; else where its configured line says first."""

RTOL = 1e-3


@dataclass(frozen=True, slots=True)
class Rules:
    """Which of the naive tests fail.

    Attributes:
        decrease: the last loss is not below the first.
        rtol: a loss is further than `RTOL` from that of the correct code.
    """

    decrease: bool
    rtol: bool

    @classmethod
    def of(cls, run: Run, expected: Run) -> Rules:
        """What they say of `run`."""
        decreases = run.failure is None and run.losses[-1] < run.losses[0]
        return cls(decrease=not decreases, rtol=not _close(run.losses, expected.losses))

    def __or__(self, other: Rules) -> Rules:
        """What fails in either."""
        return Rules(self.decrease or other.decrease, self.rtol or other.rtol)


BOTH, NEITHER = Rules(decrease=True, rtol=True), Rules(decrease=False, rtol=False)


@dataclass(frozen=True, slots=True)
class NaiveTest:
    """One optimizer on one reference model, and what the correct code does there."""

    spec: TextSpec
    workload: str
    conditions: Conditions
    expected: Run

    def fails(self, cases: Cases) -> Rules:
        """What the rules say of the code as it is now."""
        try:
            return Rules.of(_trained(self.spec, self.workload, self.conditions, cases), self.expected)
        except OptcheckError:  # the optimizer is gone
            return BOTH


def tests(cases: Cases) -> dict[str, NaiveTest]:
    """By spec: one for every class, and one for every line with schedulers, on the code as it is now."""
    found: dict[str, NaiveTest] = {}
    classes: set[str] = set()
    for target in cases.settings.targets:
        spec = target.spec
        if not spec.schedulers and spec.address in classes:
            continue
        workload = MODEL if MODEL in target.workloads else target.workloads[0]
        golden = Goldens(cases.settings.curves).load(spec.text, workload)
        if golden is None:
            continue
        conditions = Conditions("float32", needs=golden.needs)
        expected = _trained(spec, workload, conditions, cases)
        if Rules.of(expected, expected) == NEITHER:
            classes.add(spec.address)
            found[spec.text] = NaiveTest(spec, workload, conditions, expected)
    return found


def failing(chosen: Iterable[NaiveTest], cases: Cases) -> Rules:
    """What fails in any of them; no more are made than it takes."""
    found = NEITHER
    for test in chosen:
        found |= test.fails(cases)
        if found == BOTH:
            break
    return found


def _trained(spec: TextSpec, workload: str, conditions: Conditions, cases: Cases) -> Run:
    return train(plain(spec), workloads.load(cases.settings.known[workload]), conditions)


def _close(losses: Sequence[float], expected: Sequence[float]) -> bool:
    return len(losses) == len(expected) and all(
        abs(found - value) <= RTOL * abs(value) for found, value in zip(losses, expected, strict=True)
    )
