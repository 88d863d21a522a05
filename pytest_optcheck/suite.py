"""Which items there are under ``--optcheck``: configured cases, marked tests, nothing else."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_optcheck import routes
from pytest_optcheck.cases import Case, Scope, refused
from pytest_optcheck.curves import DTYPES, PLAIN
from pytest_optcheck.discovery import optimizers
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.items import RESULTS, CaseItem, ComplaintItem, LeftOutItem, Parameter
from pytest_optcheck.listing import Listing
from pytest_optcheck.marks import is_marked
from pytest_optcheck.specs import FactorySpec
from pytest_optcheck.targets import Target, known_names

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from pytest_optcheck.settings import Settings

MARKER_KEYWORDS = ("workloads", "routes", "diverges")
NOTHING = (
    "--optcheck has nothing to check here: list optimizers in the ini setting optcheck_optimizers, "
    'as optcheck_optimizers = ["torch.optim:AdamW(lr=0.001)"], or mark tests with pytest.mark.optcheck'
)
NOTHING_TO_BREAK = (
    "--optcheck-selftest has nothing to break here: it takes optimizers of the ini settings optcheck_optimizers and "
    "optcheck_discover, and leaves marked tests out"
)
NOTHING_TO_COMPARE = (
    "--optcheck-base has nothing to compare here: it takes optimizers of the ini settings optcheck_optimizers and "
    "optcheck_discover, on the routes float64, counts and timing, and leaves marked tests out"
)


class Suite:
    """Collection hooks: the zero-code items, and the parameters of marked tests."""

    def __init__(self, settings: Settings, *, on_worker: bool) -> None:
        """`on_worker`: an xdist worker cannot end the session with a usage error, so it fails an item instead."""
        self.settings = settings
        self.on_worker = on_worker
        self.complaints: list[str] = []
        self.narrowed_out: set[str] = set()
        self.nothing = NOTHING_TO_BREAK if settings.selftest else NOTHING_TO_COMPARE if settings.base else NOTHING
        self._listing = Listing(settings)

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
        ids = [_case_id(parameter.workload, parameter.dtype or self._other) for parameter in parameters]
        metafunc.parametrize("optcheck", parameters, indirect=True, ids=ids)

    @property
    def _other(self) -> str | None:
        """The id of what has no dtype: all routes, or a golden as a whole."""
        return None if self.settings.update else "routes"

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
        for workload in known_names(workloads, self.settings.known):
            if self.settings.only and workload not in self.settings.only:
                continue
            diverges = bool(keywords.get("diverges", False))
            usual = keywords.get("workloads", self.settings.usual)
            names = self._routes(keywords, workload, usual)
            counted = self.settings.counted_on(workload, usual)
            scope = Scope(self.settings.dtypes or DTYPES, names, counted=counted, compiled=self.settings.compiled)
            for dtype in self._listing.dtypes(scope):
                yield Parameter(workload, dtype, scope, diverges)
            if (names or scope.counted) and not self.settings.update:
                yield Parameter(workload, None, scope, diverges)

    def _routes(self, keywords: dict[str, Any], workload: str, all_workloads: Sequence[str]) -> tuple[str, ...]:
        """Routes of a marked test: those it names, or those of the profile."""
        asked = keywords.get("routes", "default")
        by_profile = self.settings.routes_on(workload, all_workloads)
        if asked == "default":
            return by_profile
        if isinstance(asked, str) or (unknown := [name for name in asked if name not in routes.NAMES]):
            found = repr(asked) if isinstance(asked, str) else repr(unknown[0])
            expected = f"'default' or a list of names; known are {', '.join(routes.NAMES)}"
            raise OptcheckError(f"marker optcheck: routes has {found}, expected {expected}")
        return tuple(name for name in asked if not self.settings.routes or name in self.settings.routes)

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
        cases = [item for item in items if isinstance(item, (CaseItem, LeftOutItem))]
        own = set(cases)
        marked = [item for item in items if item not in own and self._runs(item)]
        kept = {*cases, *marked}
        others = [item for item in items if item not in kept]
        if self.complaints or not kept:
            self._complain(session, items, self.complaints or [self.nothing])
            return
        items[:] = [*cases, *marked]
        if others:
            config.hook.pytest_deselected(items=others)

    def _runs(self, item: pytest.Item) -> bool:
        """Whether a collected test is marked and no option leaves it out."""
        left_out = not self.settings.marked or item.nodeid.partition("[")[0] in self.narrowed_out
        return is_marked(item) and not left_out

    def pytest_sessionfinish(self) -> None:
        """End what the cases started."""
        if self.settings.base:
            from pytest_optcheck import basing

            basing.close()

    def items(self, parent: SuiteNode) -> Iterator[pytest.Item]:
        """Zero-code items under `parent`."""
        targets: list[Target] = []
        for module in self.settings.discover:
            try:
                found = optimizers(module, self.settings.arguments)
                targets += self._listing.discovered(module, found.specs)
            except OptcheckError as error:
                self.complaints.append(str(error))
                continue
            for name, why in found.left_out.items() if self.settings.update else ():
                case = Case(FactorySpec(name, _never), "", None, "", discovered=module)
                yield LeftOutItem.make(parent, name, refused(case, self.settings, why))
        cases = self._listing.cases(targets)
        if self.settings.routes and not (cases or self.settings.base) and (self.settings.targets or targets):
            self.nothing = self._unheld()
        for case in cases:
            name = f"{case.spec.text}[{_case_id(case.workload, case.dtype or _route(case))}]"
            yield CaseItem.make(parent, name, case, self.settings)

    def _unheld(self) -> str:
        """What is said where there are optimizers, and no golden of theirs holds a route that was asked for."""
        settings = self.settings
        asked = () if settings.marked else tuple(shlex.quote(target.spec.text) for target in settings.targets)
        narrowed = {"optimizer": asked, "workload": settings.only, "route": settings.routes}
        options = " ".join(f"--optcheck-{name} {value}" for name, values in narrowed.items() for value in values)
        which = " or ".join(settings.routes)
        return f"no golden holds route {which}; record it with pytest --optcheck-update=missing {options}"

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
            results = item.stash.get(RESULTS, [])
            item.stash[RESULTS] = []  # a plugin may run the item again
            report.optcheck = [result.as_dict() for result in results]  # type: ignore[attr-defined] # reports take extra attributes
        return report


class SuiteNode(pytest.Collector):
    """The parent of zero-code items; belongs to no file."""

    suite: Suite

    def collect(self) -> Iterator[pytest.Item]:
        """The items of the suite."""
        return self.suite.items(self)


def _never(params: object) -> NoReturn:
    """The factory of what is left out: it cannot be built."""
    raise AssertionError(params)


def _case_id(workload: str, what: str | None) -> str:
    return workload if what is None else f"{workload}-{what}"


def _route(case: Case) -> str | None:
    return None if case.route == PLAIN else case.route
