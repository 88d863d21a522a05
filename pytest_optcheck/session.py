"""The side of the plugin that lives once a session, on the xdist controller where there is one.

Gathers results from reports, writes the goldens they carry, prints the section, pins workers to GPUs. Never
imports torch.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_optcheck import devices, environment
from pytest_optcheck.cases import Result
from pytest_optcheck.costing import RECORDED, with_time
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.format import decode
from pytest_optcheck.goldens import Goldens, write_whole
from pytest_optcheck.report import planted, terminal
from pytest_optcheck.report.document import Ending, document
from pytest_optcheck.roster import Rosters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_optcheck.format import Golden
    from pytest_optcheck.roster import Roster
    from pytest_optcheck.settings import Settings


class Session:
    """Everything that happens once."""

    def __init__(self, settings: Settings) -> None:
        """Start the clock."""
        self.settings = settings
        self.store = Goldens(settings.curves)
        self.results: list[Result] = []
        self.problems: list[str] = []
        self.raised: list[tuple[str, str]] = []
        self.rosters = Rosters(settings.curves)
        self.entered: dict[str, Roster] = {}
        self.written: dict[tuple[str, str], str] = {}
        self.whole: set[tuple[str, str]] = set()
        self.timed = 0
        self.unanswered: list[str] = []
        self.started = time.perf_counter()

    def pytest_report_header(self) -> str:
        """What is about to be checked, and where."""
        settings = self.settings
        doing = "updating" if settings.update else "breaking" if settings.selftest else "checking"
        what = f"{len(settings.targets)} configured optimizers"
        what += "".join(f", those of {module}" for module in settings.discover) + f" on {settings.device}"
        left_out = "; tests marked optcheck are left out" if settings.selftest else ""
        return f"optcheck: {doing} {what}, goldens in {settings.curves}{left_out}"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the results of a report; write the goldens in it at once, so that an interrupt loses none."""
        results = [Result.from_dict(plain) for plain in getattr(report, "optcheck", ())]
        self.results += results
        for result in results:
            if result.golden:
                self._write(result, report.nodeid)
            if RECORDED in result.timing:
                self._time(result)
            if result.discovered and self.settings.update and not result.skipped:
                self._enter(result)
        if report.failed and _is_ours(report) and not any(self._explains(result) for result in results):
            self.raised.append((report.nodeid, report.longreprtext.strip()))
        if self.settings.selftest:
            self._doubt(report)

    def _explains(self, result: Result) -> bool:
        """Whether a test with this result fails because of it."""
        return result.planted is not None or self.settings.fails(result.verdict.kind)

    def _doubt(self, report: pytest.TestReport) -> None:
        """Keep what a self-test that did not run, or was not allowed to fail, leaves unproven."""
        excused = report.skipped or hasattr(report, "wasxfail")
        if excused:
            self.problems.append(f"{report.nodeid} is skipped or expected to fail: nothing that it checks can fail")
        if excused or (report.failed and not getattr(report, "optcheck", ())):
            self.unanswered.append(report.nodeid)

    def _write(self, result: Result, nodeid: str) -> None:
        key = (result.spec, result.workload)
        if key in self.written and result.variant:
            return  # of two specs; either will do
        if key in self.written:
            self.problems.append(
                f"{self.written[key]} and {nodeid} both record {result.spec} on {result.workload}; "
                "the first was kept: give one of them another name"
            )
            return
        self.written[key] = nodeid
        try:
            golden = decode(result.golden or "", self.store.path(*key))
            if golden is not None:
                if not self._refreshes(golden, key):
                    self.whole.add(key)
                self.store.save(golden)
        except OptcheckError as error:
            self.problems.append(str(error))

    def _refreshes(self, golden: Golden, key: tuple[str, str]) -> bool:
        """Whether the stored golden is of the same recording, so that only parts of it were measured anew."""
        with contextlib.suppress(OptcheckError):  # one that is no good is replaced as a whole
            old = self.store.load(*key)
            return old is not None and (old.recorded, old.curves) == (golden.recorded, golden.curves)
        return False

    def _time(self, result: Result) -> None:
        """Keep the time of a step in the golden as it is now; it was taken last, when nothing else ran."""
        try:
            golden = self.store.load(result.spec, result.workload)
            if golden is None:
                return
            renewed = with_time(golden, result, self.settings, anew=(result.spec, result.workload) in self.whole)
            if renewed != golden:
                self.store.save(renewed)
                self.timed += 1
        except OptcheckError as error:
            self.problems.append(str(error))

    def _enter(self, result: Result) -> None:
        """Keep in the roster of its module what became of a discovered optimizer."""
        try:
            roster = self.rosters.load(result.discovered)
            if result.refused:
                roster = roster.with_refused(result.spec, result.workload, result.refused)
            elif result.golden or result.verdict.kind == "match":
                roster = roster.with_recorded(result.spec, result.workload, result.limits)
            self.rosters.save(roster)
            self.entered[result.discovered] = roster
        except OptcheckError as error:
            self.problems.append(str(error))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the figures of the run; what could not be written, or was broken unnoticed, fails the session."""
        self._fail(session)
        if self.settings.report is not None:
            elapsed_s = time.perf_counter() - self.started
            problems = [*self.raised, *(("", problem) for problem in self.problems)]
            ending = Ending(elapsed_s, int(session.exitstatus), problems)
            try:
                write_whole(self.settings.report, document(self.results, environment.machine(), ending))
            except OptcheckError as error:
                self.problems.append(str(error))
                self._fail(session)

    def _fail(self, session: pytest.Session) -> None:
        """Let the session fail where something could not be written, or was broken unnoticed."""
        if (self.problems or planted.unnoticed(self.results)) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the section."""
        results = [result for result in self.results if not result.skipped]
        if not (results or self.problems or self.unanswered):
            return
        terminalreporter.section("optcheck")
        elapsed_s = time.perf_counter() - self.started
        verbose = terminalreporter.verbosity > 0
        tables = [line for roster in self.entered.values() for line in roster.table()]
        answered = [result for result in results if not result.refused]
        if self.settings.selftest:
            lines = planted.section(answered, self.unanswered, elapsed_s=elapsed_s)
        else:
            lines = terminal.section(answered, verbose=verbose, elapsed_s=elapsed_s)
        times = [f"recorded the time of {self.timed} steps"] if self.timed else []
        for line in [*self.problems, *tables, *times, *lines]:
            terminalreporter.line(line)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, specs: Sequence[Any]) -> None:
        """Pin each worker to a GPU before it starts, so that a conftest cannot touch another."""
        for position, spec in enumerate(specs):
            spec.env.update(devices.worker_environment(position, self.settings.device))

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:  # noqa: ANN401 - xdist's worker controller, untyped
        """Tell a worker its device: a pinned one sees a single GPU, number 0."""
        device = self.settings.device
        node.workerinput["optcheck_device"] = "cuda" if device.startswith("cuda") else device


def _is_ours(report: pytest.TestReport) -> bool:
    """Whether the report is of a marked test or of an item that no file holds, which a crashed worker leaves bare."""
    return "optcheck" in report.keywords or report.nodeid.startswith("optcheck::")
