"""pytest hooks, options, marker and fixture: wiring only.

Imports the standard library and pytest; everything else waits until ``--optcheck`` asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_optcheck.marks import is_marked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_optcheck.items import Checker
    from pytest_optcheck.settings import Settings

SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()

MARKER = (
    "optcheck(workloads=[…], routes=[…], diverges=False): check an optimizer against its golden curves (see --optcheck)"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options and their ini twins."""
    group = parser.getgroup("optcheck", "optimizer regression testing")
    add = group.addoption
    add("--optcheck", action="store_true", help="check every configured optimizer and every marked test")
    add(
        "--optcheck-update",
        nargs="?",
        const="all",
        choices=("missing", "changed", "stale", "all"),
        help="record goldens that are missing, changed, stale or all of these (implies --optcheck)",
    )
    add("--optcheck-reason", metavar="TEXT", help="why goldens are recorded anew; kept in them")
    add("--optcheck-force", action="store_true", help="record under CI all the same")
    add(
        "--optcheck-optimizer",
        action="append",
        metavar="SPEC",
        help="check this optimizer only, as module:Class(kw=literal); may be repeated (ini: optcheck_optimizers)",
    )
    add(
        "--optcheck-discover",
        action="append",
        metavar="MODULE",
        help="check every optimizer of this module; may be repeated (ini: optcheck_discover, and optcheck_arguments "
        "for constructors that need more than parameters)",
    )
    add(
        "--optcheck-workload",
        action="append",
        metavar="NAME",
        help="use this reference model only; may be repeated (ini: optcheck_workloads)",
    )
    add(
        "--optcheck-route",
        action="append",
        metavar="NAME",
        help="check this route only (resume, foreach, …), or the plain one in float64 or float32; may be repeated "
        "(ini: optcheck_routes)",
    )
    add("--optcheck-profile", metavar="NAME", help="how much: quick, default or full (ini: optcheck_profile)")
    add(
        "--optcheck-base",
        metavar="REV",
        help="compare every optimizer's curve, counts and step time with those of the code of this git revision, "
        "directory, or pip:NAME==VERSION, instead of with goldens (implies --optcheck)",
    )
    add(
        "--optcheck-selftest",
        action="store_true",
        help="break every configured optimizer in memory, in several ways, and fail unless its check notices each",
    )
    add(
        "--optcheck-report",
        metavar="FILE",
        help="write every figure of the run to this file, as JSON (ini: optcheck_report)",
    )
    add("--optcheck-device", metavar="DEVICE", help="cpu, cuda, cuda:N or auto (ini: optcheck_device)")
    add("--optcheck-curves", metavar="DIR", help="directory of the goldens (ini: optcheck_curves)")
    add(
        "--optcheck-allow",
        action="append",
        metavar="VERDICT",
        help="let this verdict pass with a warning; may be repeated (ini: optcheck_allow)",
    )
    ini = parser.addini
    ini("optcheck_optimizers", "optimizers to check: SPEC, or SPEC @ workload, workload [route, route]", "linelist")
    ini("optcheck_discover", "modules whose optimizers are all checked", "args")
    ini("optcheck_arguments", "discovered optimizers with the arguments they need, one SPEC a line", "linelist")
    ini(
        "optcheck_same_as",
        "optimizers that should follow a textbook rule, module:Class = family each line, as mylib:AdamW2 = adamw",
        "linelist",
    )
    ini("optcheck_workloads", "reference models where a line names none (default: all)", "args")
    ini("optcheck_routes", "routes to check (default: those of the profile)", "args")
    ini("optcheck_profile", "quick, default or full", "string", default="default")
    ini("optcheck_variants", "auto, none, or settings, each line of which makes a variant", "linelist")
    ini(
        "optcheck_cost",
        "what is asked of a step: counts, timing, both (default) or none",
        "args",
        default=["counts", "timing"],
    )
    ini(
        "optcheck_ensembles",
        "reference models on which runs over 24 seeds are kept, to say whether a change is worse; or none",
        "args",
        default=["mlp", "digits_cnn"],
    )
    ini("optcheck_margin", "relative difference of losses and steps that counts as none", "string", default="0.01")
    ini(
        "optcheck_testpaths",
        "where marked tests are looked for if no path is given; empty for nowhere (default: testpaths)",
        "args",
        default=None,
    )
    ini("optcheck_report", "file for every figure of the run, as JSON", "string", default="")
    ini("optcheck_device", "cpu, cuda, cuda:N or auto", "string", default="cpu")
    ini("optcheck_curves", "directory of the goldens", "string", default="reference_curves")
    ini("optcheck_allow", "verdicts that pass with a warning", "args")
    ini("optcheck_diverging", "optimizers that are meant to leave the finite numbers", "linelist")


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks for specs and workloads."""
    from pytest_optcheck import hooks

    pluginmanager.add_hookspecs(hooks)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; under ``--optcheck`` read the settings and register what does the work."""
    config.addinivalue_line("markers", MARKER)
    if not _asked(config):
        return
    from pytest_optcheck.errors import OptcheckError
    from pytest_optcheck.session import Session
    from pytest_optcheck.settings import Settings
    from pytest_optcheck.suite import Suite

    try:
        settings = Settings.from_pytest_config(config)
    except OptcheckError as error:
        raise pytest.UsageError(str(error)) from error
    paths = config.getini("optcheck_testpaths")
    if paths is not None and config.args_source is not config.ArgsSource.ARGS:
        config.args[:] = paths
    on_worker = hasattr(config, "workerinput")
    config.stash[SETTINGS] = settings
    config.pluginmanager.register(Suite(settings, on_worker=on_worker), "optcheck-suite")
    if not on_worker:
        config.pluginmanager.register(Session(settings), "optcheck-session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without ``--optcheck`` marked tests are skipped."""
    if _asked(config):
        return
    skip = pytest.mark.skip(reason="needs --optcheck")
    for item in items:
        if is_marked(item):
            item.add_marker(skip)


@pytest.fixture
def optcheck(request: pytest.FixtureRequest) -> Iterator[Checker]:
    """Check an optimizer against its golden: ``optcheck(lambda params: Lion(params), name="Lion")``."""
    from pytest_optcheck.items import Checker

    checker = Checker(request.node, request.param, request.config.stash[SETTINGS])
    yield checker
    if not checker.called:
        pytest.fail(f"{request.node.nodeid} takes the optcheck fixture but never calls it", pytrace=False)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """``-n auto`` is one worker a GPU where GPUs are used."""
    if not _asked(config):
        return None
    from pytest_optcheck import devices
    from pytest_optcheck.errors import OptcheckError

    try:
        device = devices.resolve(config.option.optcheck_device or config.getini("optcheck_device"))
    except OptcheckError:  # pytest_configure will say so
        return None
    return devices.visible_gpus() if device == "cuda" else None


def _asked(config: pytest.Config) -> bool:
    option = config.option
    return bool(option.optcheck or option.optcheck_update or option.optcheck_base or option.optcheck_selftest)
