"""Turns settings and marked tests into pytest items, and runs them. Active under ``--optcheck`` only."""

from __future__ import annotations

import contextlib
import shlex
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_optcheck import checking
from pytest_optcheck.checking import Case, Result
from pytest_optcheck.curves import DTYPES
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.report import message
from pytest_optcheck.specs import FactorySpec, parse

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from pytest_optcheck.curves import Dtype
    from pytest_optcheck.settings import Settings
    from pytest_optcheck.specs import Factory, OptimizerSpec

RESULTS = pytest.StashKey[list[Result]]()
MARKER_KEYWORDS = ("workloads", "diverges")
NOTHING = (
    "--optcheck has nothing to check here: list optimizers in the ini setting optcheck_optimizers, "
    'as optcheck_optimizers = ["torch.optim:AdamW(lr=0.001)"], or mark tests with pytest.mark.optcheck'
)


class OptcheckWarning(UserWarning):
    """A verdict that ``--optcheck-allow`` lets pass."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a marked test's ``optcheck`` fixture is parametrised with."""

    workload: str
    dtype: Dtype | None
    diverges: bool


class Suite:
    """Collection hooks: the zero-code items, and the parameters of marked tests."""

    def __init__(self, settings: Settings, *, on_worker: bool) -> None:
        """`on_worker`: an xdist worker cannot end the session with a usage error, so it fails an item instead."""
        self.settings = settings
        self.on_worker = on_worker
        self.complaints: list[str] = []
        self.narrowed_out: set[str] = set()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a test that uses the ``optcheck`` fixture once for each workload and dtype."""
        if "optcheck" not in metafunc.fixturenames:
            return
        try:
            parameters = list(self._parameters(metafunc.definition))
        except OptcheckError as error:
            self.complaints.append(f"{metafunc.definition.nodeid}: {error}")
            parameters = []
        if not parameters:
            self.narrowed_out.add(metafunc.definition.nodeid)
        ids = [_case_id(parameter.workload, parameter.dtype) for parameter in parameters]
        metafunc.parametrize("optcheck", parameters, indirect=True, ids=ids)

    def _parameters(self, definition: pytest.Item) -> Iterator[Parameter]:
        marker = definition.get_closest_marker("optcheck")
        keywords: dict[str, Any] = dict(marker.kwargs) if marker else {}
        unknown = sorted(set(keywords) - set(MARKER_KEYWORDS))
        if unknown or (marker and marker.args):
            found = f"keyword {unknown[0]!r}" if unknown else "positional argument"
            raise OptcheckError(f"marker optcheck takes no {found}; it takes {', '.join(MARKER_KEYWORDS)}")
        workloads = keywords.get("workloads", self.settings.workloads)
        if isinstance(workloads, str):
            raise OptcheckError(f"marker optcheck: workloads is {workloads!r}, expected a list of names")
        for workload in workloads:
            checking.require_known(workload, self.settings)
            if self.settings.only and workload not in self.settings.only:
                continue
            for dtype in self._dtypes():
                yield Parameter(workload, dtype, bool(keywords.get("diverges", False)))

    def _dtypes(self) -> tuple[Dtype | None, ...]:
        """One case a dtype; one a golden where goldens are updated."""
        return (None,) if self.settings.update else DTYPES

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Add the zero-code items to what the session collects, unless tests were asked for by name."""
        report = yield
        named = any("::" in argument for argument in collector.config.args)
        if isinstance(collector, pytest.Session) and report.passed and not named:
            node: SuiteNode = SuiteNode.from_parent(collector, name="optcheck", nodeid="optcheck")
            node.suite = self
            report.result = [*(report.result or ()), node]
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Drop what is neither a case nor marked; the zero-code items come first."""
        cases = [item for item in items if isinstance(item, CaseItem)]
        marked = [item for item in items if item not in set(cases) and self._runs(item)]
        kept = {*cases, *marked}
        others = [item for item in items if item not in kept]
        if self.complaints or not kept:
            self._complain(session, items, self.complaints or [NOTHING])
            return
        items[:] = [*cases, *marked]
        if others:
            config.hook.pytest_deselected(items=others)

    def _runs(self, item: pytest.Item) -> bool:
        """Whether a collected test is marked and no option leaves it out."""
        left_out = not self.settings.marked or item.nodeid.partition("[")[0] in self.narrowed_out
        marked = item.get_closest_marker("optcheck") or "optcheck" in getattr(item, "fixturenames", ())
        return bool(marked) and not left_out

    def items(self, parent: SuiteNode) -> Iterator[pytest.Item]:
        """Zero-code items under `parent`, costly workloads first, so that parallel workers end together."""
        for name in reversed(list(self.settings.known)):
            for target in self.settings.targets:
                for dtype in self._dtypes() if name in target.workloads else ():
                    text = target.spec.text
                    select = f"--optcheck-optimizer {shlex.quote(text)} --optcheck-workload {name}"
                    case = Case(target.spec, name, dtype, select)
                    yield CaseItem.make(parent, f"{text}[{_case_id(name, dtype)}]", case, self.settings)

    def _complain(self, session: pytest.Session, items: list[pytest.Item], complaints: list[str]) -> None:
        if not self.on_worker:
            raise pytest.UsageError(*complaints)
        parent = SuiteNode.from_parent(session, name="optcheck", nodeid="optcheck")
        items[:] = [ComplaintItem.from_parent(parent, name=complaint) for complaint in complaints]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Send results along with the report, as plain dicts: a worker that crashes later cannot lose them."""
        report = yield
        if call.when == "call":
            plain = [result.as_dict() for result in item.stash.get(RESULTS, [])]
            report.optcheck = plain  # type: ignore[attr-defined] # reports take extra attributes
        return report


class SuiteNode(pytest.Collector):
    """The parent of zero-code items; belongs to no file."""

    suite: Suite

    def collect(self) -> Iterator[pytest.Item]:
        """The items of the suite."""
        return self.suite.items(self)


class _FilelessItem(pytest.Item):
    """An item that no file holds."""

    def reportinfo(self) -> tuple[str, None, str]:
        """Nowhere, and a headline that is not the end of the node id: pytest would mangle its dots."""
        return "optcheck", None, f"optcheck {self.name}"


class CaseItem(_FilelessItem):
    """One case of a configured optimizer."""

    case: Case
    settings: Settings

    @classmethod
    def make(cls, parent: SuiteNode, name: str, case: Case, settings: Settings) -> CaseItem:
        """An item under `parent` that runs `case`."""
        item: CaseItem = cls.from_parent(parent, name=name)
        item.case, item.settings = case, settings
        item.add_marker("optcheck")
        return item

    def runtest(self) -> None:
        """Check or update the case; anything but a match fails."""
        with one_line_failures():
            run_case(self, self.case, self.settings)


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
            case = Case(spec, parameter.workload, parameter.dtype, select, diverges=parameter.diverges)
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
    if complaint:  # outside the handler, or the report would show both errors
        pytest.fail(complaint, pytrace=False)


def run_case(item: pytest.Item, case: Case, settings: Settings) -> None:
    """Check or update `case`, keep its result on `item`, and pass, fail, warn or skip accordingly.

    Raises:
        OptcheckError: spec, workload or golden cannot be used.
    """
    result = checking.update(case, settings) if settings.update else checking.check(case, settings)
    if result.skipped:
        pytest.skip(result.skipped)
    item.stash.setdefault(RESULTS, []).append(result)
    verdict = result.verdict
    item.user_properties += [
        (f"optcheck_{key}", value)
        for key, value in (
            ("spec", result.spec),
            ("workload", result.workload),
            ("dtype", result.dtype),
            ("device", result.device),
            ("verdict", "recorded" if result.golden else verdict.kind),
            ("first_step", verdict.first_step),
            ("envelopes", verdict.envelopes),
            ("tensor", verdict.tensor),
            ("final_loss_golden", verdict.final_old),
            ("final_loss", verdict.final_new),
        )
        if value is not None
    ]
    if verdict.kind == "match" or result.golden:
        return
    if verdict.kind in settings.allow:
        warnings.warn(message.failure(result), OptcheckWarning, stacklevel=2)
        return
    pytest.fail(message.failure(result), pytrace=False)


def _case_id(workload: str, dtype: str | None) -> str:
    return workload if dtype is None else f"{workload}-{dtype}"
