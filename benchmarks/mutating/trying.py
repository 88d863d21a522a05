"""The cases of ``pytest --optcheck`` in this repository, collected by pytest itself, and tried one by one.

Everything of the profile ``default`` but the timing of steps, which no alteration is to wait for.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pytest_optcheck import checking, costing, judge
from pytest_optcheck.cases import COUNTS, TIMING
from pytest_optcheck.curves import DTYPES, PLAIN
from pytest_optcheck.errors import FOREIGN, OptcheckError, one_line
from pytest_optcheck.items import CaseItem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_optcheck.cases import Case, Result
    from pytest_optcheck.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures"  # on the module path of pytest by pyproject.toml: schedules are named that are there

RAISED = "raised"
"""The answer where a case ends in an exception before there is any verdict."""


class Failing(NamedTuple):
    """What is said against the code by one case; `kind` is one of `judge.KINDS` or `RAISED`."""

    kind: str
    note: str

    @property
    def constructing(self) -> bool:
        """Whether not even the optimizer could be built."""
        return self.kind == RAISED or self.note.startswith("construction raised")


@dataclass(frozen=True, slots=True)
class Cases:
    """All cases, and how they are tried."""

    all: tuple[Case, ...]
    settings: Settings

    def failing(self, index: int) -> Failing | None:
        """What the case of this number says; None if it passes."""
        try:
            results = self._answers(self.all[index])
        except OptcheckError as error:
            return Failing(RAISED, str(error))
        except FOREIGN as error:  # an altered optimizer may bring down whoever looks at it
            return Failing(RAISED, one_line(error))
        bad = (result for result in results if not result.skipped and result.verdict.kind not in judge.PASSING)
        return next((Failing(r.verdict.kind, r.verdict.note or "; ".join(r.verdict.details)) for r in bad), None)

    def _answers(self, case: Case) -> list[Result]:
        """As its pytest item would get them."""
        if case.route == COUNTS:
            return costing.check(case, self.settings)
        return [checking.bare(case, self.settings)]

    def name(self, index: int) -> str:
        """A case for a reader."""
        case = self.all[index]
        return f"{case.spec.text} on {case.workload}, {case.dtype or case.route}"

    def rank(self, index: int) -> int:
        """Which cases are tried first: plain float64 trainings of ``zoo``, then all else there, then all others."""
        case = self.all[index]
        if case.workload != "zoo":
            return 2
        return 0 if case.route == PLAIN and case.dtype == DTYPES[0] else 1

    def samples(self) -> Iterable[int]:
        """One case of every reference model and one of every route: they fill what is filled once in a process."""
        seen: set[str] = set()
        for index, case in enumerate(self.all):
            if not {case.workload, case.route} <= seen:
                seen |= {case.workload, case.route}
                yield index


@dataclass(slots=True, eq=False)  # a plugin must be hashable
class _Gathered:
    """A pytest plugin that keeps the cases of a session."""

    cases: list[Case] = field(default_factory=list)
    settings: list[Settings] = field(default_factory=list)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Keep them."""
        for item in session.items:
            if isinstance(item, CaseItem):
                self.cases.append(item.case)
                self.settings.append(item.settings)


def collect(*options: str) -> Cases:
    """What ``pytest --optcheck`` runs in this repository with these options, but for timing.

    Raises:
        LookupError: it collects nothing, or complains.
    """
    gathered = _Gathered()
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as empty, contextlib.redirect_stdout(said):
        configured = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-p", "no:cacheprovider"]
        pytest.main(["--optcheck", "--collect-only", "-q", *configured, *options, empty], plugins=[gathered])
    cases = tuple(case for case in gathered.cases if case.route != TIMING)
    if not cases:
        raise LookupError(f"pytest --optcheck collected no case: {said.getvalue().strip()[-500:]}")
    if str(FIXTURES) not in sys.path:
        sys.path.insert(0, str(FIXTURES))
    return Cases(cases, gathered.settings[0])
