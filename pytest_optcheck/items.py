"""The pytest items of the suite, the ``optcheck`` fixture of marked tests, and how both run a case."""

from __future__ import annotations

import contextlib
import shlex
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import pytest

from pytest_optcheck import checking, costing, judge, updating
from pytest_optcheck.cases import BASE, COUNTS, SELFTEST, TIMING, Case, Result, refused
from pytest_optcheck.curves import PLAIN
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.report import costs, message, planted
from pytest_optcheck.specs import FactorySpec, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_optcheck.cases import Scope
    from pytest_optcheck.curves import Dtype
    from pytest_optcheck.settings import Settings
    from pytest_optcheck.specs import Factory, OptimizerSpec

RESULTS = pytest.StashKey[list[Result]]()
"""Where an item keeps what it found, for its report."""


class OptcheckWarning(UserWarning):
    """A verdict that ``--optcheck-allow`` lets pass."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a marked test's ``optcheck`` fixture is parametrised with."""

    workload: str
    dtype: Dtype | None
    scope: Scope
    diverges: bool


class _FilelessItem(pytest.Item):
    """An item that no file holds."""

    def reportinfo(self) -> tuple[str, int, str]:
        """Nowhere, and a headline that is not the end of the node id: pytest would mangle its dots.

        The line is a number because pytest crashes without one where an item is marked to be skipped.
        """
        return "optcheck", 0, f"optcheck {self.name}"


class CaseItem(_FilelessItem):
    """One case of a configured optimizer."""

    case: Case
    settings: Settings

    @classmethod
    def make(cls, parent: pytest.Collector, name: str, case: Case, settings: Settings) -> CaseItem:
        """An item under `parent` that runs `case`."""
        item: CaseItem = cls.from_parent(parent, name=name)
        item.case, item.settings = case, settings
        item.add_marker("optcheck")
        return item

    def runtest(self) -> None:
        """Check or update the case, where anything but a match fails; or break it, where what goes unnoticed does."""
        run = run_selftest if self.case.route == SELFTEST else run_case
        with one_line_failures():
            run(self, self.case, self.settings)


class LeftOutItem(_FilelessItem):
    """A class of a discovered module that cannot even be tried, for the roster."""

    result: Result

    @classmethod
    def make(cls, parent: pytest.Collector, name: str, result: Result) -> LeftOutItem:
        """An item under `parent` that reports `result`."""
        item: LeftOutItem = cls.from_parent(parent, name=name)
        item.result = result
        item.add_marker("optcheck")
        return item

    def runtest(self) -> None:
        """Report."""
        self.stash[RESULTS] = [self.result]


class ComplaintItem(_FilelessItem):
    """A usage error that arose on an xdist worker; its name is the message."""

    def runtest(self) -> NoReturn:
        """Fail with the message."""
        pytest.fail(self.name, pytrace=False)


class Checker:
    """What the ``optcheck`` fixture gives to a marked test: call it with the optimizer under test."""

    def __init__(self, item: pytest.Item, parameter: Parameter, settings: Settings) -> None:
        """One instance serves one test on one workload and dtype."""
        self._item, self._parameter, self._settings = item, parameter, settings
        self.called = False

    def __call__(self, optimizer: Factory | str, name: str = "") -> None:
        """Check one optimizer; fails the test unless it matches its golden.

        Args:
            optimizer: a callable that takes parameters (or parameter groups) and returns an optimizer, or
                a spec as text.
            name: under which the golden of a callable is kept, as ``Lion(lr=1e-4)``.
        """
        self.called = True
        parameter = self._parameter
        test = self._item.nodeid.partition("[")[0]
        select = f"{shlex.quote(test)} --optcheck-workload {parameter.workload}"
        with one_line_failures():
            spec = _spec(optimizer, name.strip())
            case = Case(
                spec, parameter.workload, parameter.dtype, select, diverges=parameter.diverges, scope=parameter.scope
            )
            run_case(self._item, case, self._settings)


def _spec(optimizer: Factory | str, name: str) -> OptimizerSpec:
    if isinstance(optimizer, str):
        return parse(optimizer)
    if not name:
        raise OptcheckError("optcheck(factory) needs name='…': the golden is kept under it")
    return FactorySpec(name, optimizer)


@contextlib.contextmanager
def one_line_failures() -> Iterator[None]:
    """Turn what is meant for the user into a failed test with that line alone."""
    complaint = ""
    try:
        yield
    except OptcheckError as error:
        complaint = str(error)
    if complaint:
        raise pytest.fail.Exception(complaint, pytrace=False) from None  # or the report would show both errors


def run_case(item: pytest.Item, case: Case, settings: Settings) -> None:
    """Check or update `case`, keep its results on `item`, and pass, fail, warn or skip accordingly.

    A case without dtype or route asks for all routes of its scope.

    Raises:
        OptcheckError: spec, workload or golden cannot be used.
    """
    results = _answers(case, settings)
    item.stash.setdefault(RESULTS, []).extend(results)
    if skipped := next((result.skipped for result in results if result.skipped), ""):
        pytest.skip(skipped)
    if not results:
        pytest.skip(f"no golden of {case.spec.text} on {case.workload} holds a route")
    item.user_properties += [pair for result in results for pair in _properties(result)]
    bad = [result for result in results if result.verdict.kind not in judge.PASSING and not _recorded(result, settings)]
    for result in bad:
        if result.verdict.kind in settings.allow:
            warnings.warn(message.failure(result), OptcheckWarning, stacklevel=2)
    failing = [message.failure(result) for result in bad if settings.fails(result.verdict.kind)]
    if failing:
        pytest.fail("\n\n".join(failing), pytrace=False)


def _recorded(result: Result, settings: Settings) -> bool:
    """Whether what `result` found is recorded: a golden, or a time that replaces the golden's."""
    return bool(result.golden) or (costing.RECORDED in result.timing and result.verdict.kind in settings.update)


def run_selftest(item: pytest.Item, case: Case, settings: Settings) -> None:
    """Break the optimizer of `case`, keep the results on `item`, and fail unless every break is caught.

    Raises:
        OptcheckError: spec, workload or golden cannot be used.
    """
    from pytest_optcheck import selftest

    results = selftest.check(case, settings)
    item.stash.setdefault(RESULTS, []).extend(results)
    item.user_properties += planted.properties(results)
    complaint = planted.complaint(results)
    if complaint:
        pytest.fail(complaint, pytrace=False)


def _answers(case: Case, settings: Settings) -> list[Result]:
    if case.route == TIMING:
        return [costing.timed(case, settings)]
    if case.route == BASE:
        from pytest_optcheck import basing

        return basing.check(case, settings)
    with costing.sharing(settings.device):
        if settings.update:
            return _update(case, settings)
        if case.route == COUNTS:
            return costing.check(case, settings)
        if case.dtype is None and case.route == PLAIN:
            return [*checking.check_routes(case, settings), *costing.check(case, settings)]
        return [checking.check(case, settings)]


def _update(case: Case, settings: Settings) -> list[Result]:
    """Update `case`; that a discovered optimizer cannot be recorded is an answer, not a failure."""
    try:
        return updating.update(case, settings)
    except OptcheckError as error:
        if not case.discovered:
            raise
        return [refused(case, settings, str(error))]


def _properties(result: Result) -> list[tuple[str, object]]:
    """What a JUnit report keeps of a result."""
    verdict = result.verdict
    pairs = (
        ("spec", result.spec),
        ("workload", result.workload),
        ("dtype", result.dtype),
        ("route", result.route),
        ("device", result.device),
        ("verdict", "recorded" if result.golden else verdict.kind),
        ("first_step", verdict.first_step),
        ("envelopes", verdict.envelopes),
        ("tensor", verdict.tensor),
        ("final_loss_golden", verdict.final_old),
        ("final_loss", verdict.final_new),
        *costs.figures(result).items(),
    )
    return [(f"optcheck_{key}", value) for key, value in pairs if value is not None]
