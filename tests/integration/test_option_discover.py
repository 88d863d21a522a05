"""--optcheck-discover and its ini twins; what a library is recorded as, and that a check afterwards is green."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from sample import Project

LIB = """
import torch
from torch.optim import Optimizer


class Base(Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    def descend(self, factor=1.0):
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p.add_(p.grad, alpha=-factor * group["lr"])


class Neat(Base):
    def step(self, closure=None):
        self.descend()


class Closed(Base):
    def step(self, closure=None):
        if closure is None:
            raise RuntimeError("give a closure")
        with torch.enable_grad():
            loss = closure()
        self.descend()
        return loss


class Flagged(Base):
    def step(self, closure=None):
        if not all("use_half" in group for group in self.param_groups):
            raise RuntimeError("set use_half in every group")
        self.descend(0.5)


class Broken(Base):
    def step(self, closure=None):
        raise RuntimeError("out of order")


class Secret(Base):
    def __init__(self, params, key):
        super().__init__(params)
        self.key = key

    def step(self, closure=None):
        self.descend(self.key)
"""
"""A library with an optimizer of each kind."""

NEW = """

class Newcomer(Base):
    def step(self, closure=None):
        self.descend(0.7)
"""

PICKY = """

class Picky(Base):
    def step(self, closure=None):
        if any(p.numel() == 6 for group in self.param_groups for p in group["params"]):
            raise RuntimeError("six is too many")
        if any(p.numel() == 3 for group in self.param_groups for p in group["params"]):
            raise RuntimeError("three is too few")
        self.descend()
"""
SECOND = """

class Deep(Bowl):
    name = "deep"

    def init(self, random):
        return {"vector": random.uniform(-1.0, 1.0, 4), "matrix": np.asarray(random.uniform(-1.0, 1.0, (2, 4)))}
"""
"""A second reference model, the only one of the two that ``Picky`` trains."""

REFUSED = "lib:Broken() does not train bowl: RuntimeError: out of order; leave it out by listing its workloads"
LEFT_OUT = (
    "needs argument key; add a line lib:Secret(key=…) to optcheck_arguments, or write a marked test where no literal "
    "will do"
)
ROSTER = {
    "lib:Broken()": {"refused": {"bowl": REFUSED}},
    "lib:Closed()": {"guarded": ["bowl"], "limits": ["steps with a closure"]},
    "lib:Flagged()": {"guarded": ["bowl"], "limits": ["needs use_half in every group"]},
    "lib:Neat()": {"guarded": ["bowl"]},
    "lib:Secret": {"refused": {"": LEFT_OUT}},
}
TABLE = [
    "lib: 5 optimizers, 1 guarded, 2 guarded with a limitation, 2 not guardable",
    "  guarded: Neat",
    "  guarded with a limitation: Closed: steps with a closure",
    "  guarded with a limitation: Flagged: needs use_half in every group",
    f"  not guardable: Broken: not on bowl: {REFUSED}",
    f"  not guardable: Secret: {LEFT_OUT}",
]
GUARDED = ["lib:Closed()", "lib:Flagged()", "lib:Neat()"]
CASES = [f"{spec}[bowl-float64]" for spec in GUARDED]


def roster(project: Project) -> dict[str, Any]:
    """The entries of the roster of ``lib``."""
    stored = json.loads((project.root / "reference_curves" / "lib.json").read_text(encoding="utf-8"))
    assert (stored["schema"], stored["module"]) == (1, "lib")
    entries: dict[str, Any] = stored["optimizers"]
    return entries


def table(result: pytest.RunResult) -> list[str]:
    """The printed lines about ``lib``."""
    begin = next(number for number, line in enumerate(result.outlines) if line.startswith("lib: "))
    kinds = ("  guarded", "  not guardable")
    return [result.outlines[begin], *(line for line in result.outlines[begin + 1 :] if line.startswith(kinds))]


@pytest.fixture
def library(project: Project) -> Project:
    """A project that has a library and configures none of its optimizers by name."""
    (project.root / "lib").mkdir()
    project.append("lib/__init__.py", LIB)
    (project.root / "test_marked.py").unlink()
    project.configure("[]")
    return project


@pytest.fixture(scope="module")
def discovered_curves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the goldens and the roster of the library are kept once they are recorded."""
    return tmp_path_factory.mktemp("discovered") / "reference_curves"


@pytest.fixture
def guarded(library: Project, discovered_curves: Path) -> Project:
    """The library with its goldens, discovered by the ini setting."""
    library.set("discover", '["lib"]')
    if not discovered_curves.exists():
        library.run("--optcheck-update").assert_outcomes(passed=5)
        shutil.copytree(library.root / "reference_curves", discovered_curves)
    shutil.copytree(discovered_curves, library.root / "reference_curves", dirs_exist_ok=True)
    return library


@pytest.mark.slow
def test_an_update_in_parallel_records_what_can_be_and_tables_all(library: Project) -> None:
    result = library.run("--optcheck-update", "--optcheck-discover", "lib", "-n2")
    result.assert_outcomes(passed=5)
    assert table(result) == TABLE
    assert roster(library) == ROSTER
    recorded = [json.loads(text)["spec"] for name, text in library.goldens().items() if name != "lib.json"]
    assert sorted(recorded) == GUARDED
    checked = library.run("--optcheck", "--optcheck-discover", "lib")
    checked.assert_outcomes(passed=len(CASES))
    checked.stdout.fnmatch_lines([f"{len(CASES)} checked · {len(CASES)} match · 0 changed · 0 missing *"])


def test_a_check_has_no_case_for_what_the_roster_refuses_and_leaves_every_file(guarded: Project) -> None:
    before = guarded.goldens()
    assert sorted(guarded.collected()) == sorted(CASES)
    result = guarded.run("--optcheck")
    result.assert_outcomes(passed=len(CASES))
    assert "not guardable" not in result.stdout.str()
    assert guarded.goldens() == before


def test_what_is_checked_does_not_depend_on_what_the_roster_refuses_or_an_option_names(library: Project) -> None:
    """Float32 is for the first of the reference models alone, also where that one cannot be trained."""
    library.append("bowl.py", SECOND)
    library.edit("conftest.py", '"bowl:Bowl"', '"bowl:Bowl", "deep": "bowl:Deep"')
    library.set("workloads", '["bowl", "deep"]')
    library.append("lib/__init__.py", PICKY)
    library.set("discover", '["lib"]')
    library.run("--optcheck-update", "--optcheck-workload=deep").assert_outcomes(passed=6)
    library.run("--optcheck-update").assert_outcomes(passed=11)
    assert list(roster(library)["lib:Picky()"]["refused"]) == ["bowl"]
    deep = [f"{spec}[deep-float64]" for spec in ("lib:Closed()", "lib:Flagged()", "lib:Neat()", "lib:Picky()")]
    assert sorted(library.collected()) == sorted([*CASES, *deep])
    assert sorted(library.collected("--optcheck-workload=deep")) == sorted(deep)
    library.run("--optcheck").assert_outcomes(passed=len(CASES) + len(deep))


def test_without_the_setting_or_the_option_nothing_is_discovered(guarded: Project) -> None:
    guarded.set("discover", None)
    result = guarded.run("--optcheck")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --optcheck has nothing to check here*"])


def test_the_option_goes_before_the_ini_setting(guarded: Project) -> None:
    guarded.set("discover", '["no_such_library"]')
    assert sorted(guarded.collected("--optcheck-discover", "lib")) == sorted(CASES)


def test_a_second_update_writes_nothing_and_prints_the_table_again(guarded: Project) -> None:
    before = guarded.goldens()
    result = guarded.run("--optcheck-update")
    result.assert_outcomes(passed=5)
    assert table(result) == TABLE
    assert guarded.goldens() == before


def test_an_ini_line_gives_the_argument_that_cannot_be_guessed(guarded: Project) -> None:
    guarded.set("arguments", '["lib:Secret(key=0.5)", "other:Thing(x=1)"]')
    result = guarded.run("--optcheck-update=missing")
    result.assert_outcomes(passed=5)
    assert table(result) == [
        "lib: 5 optimizers, 2 guarded, 2 guarded with a limitation, 1 not guardable",
        "  guarded: Neat, Secret(key=0.5)",
        *TABLE[2:5],
    ]
    guarded.run("--optcheck").assert_outcomes(passed=len(CASES) + 1)


def test_an_update_of_some_optimizers_leaves_the_others_in_the_roster(guarded: Project) -> None:
    asked = ("--optcheck-optimizer", "lib:Neat()", "--optcheck-workload", "bowl")
    guarded.run("--optcheck-update", *asked).assert_outcomes(passed=1)
    assert roster(guarded) == ROSTER


def test_a_class_that_is_added_later_is_missing_until_its_command_records_it(guarded: Project) -> None:
    guarded.append("lib/__init__.py", NEW)
    result = guarded.run("--optcheck")
    result.assert_outcomes(passed=len(CASES), failed=1)
    result.stdout.fnmatch_lines(["MISSING: lib:Newcomer() has no golden", "  on bowl, float64, cpu"])
    guarded.obey(result, "record").assert_outcomes(passed=1)
    guarded.run("--optcheck").assert_outcomes(passed=len(CASES) + 1)


def test_an_optimizer_that_works_now_is_tried_again_by_an_update(guarded: Project) -> None:
    guarded.edit("lib/__init__.py", 'raise RuntimeError("out of order")', "self.descend(0.3)")
    assert sorted(guarded.collected()) == sorted(CASES)
    guarded.run("--optcheck-update=missing").assert_outcomes(passed=5)
    assert roster(guarded)["lib:Broken()"] == {"guarded": ["bowl"]}
    guarded.run("--optcheck").assert_outcomes(passed=len(CASES) + 1)


def test_a_changed_optimizer_fails_alone_and_its_accept_command_mends_it(guarded: Project) -> None:
    guarded.edit("lib/__init__.py", "self.descend(0.5)", "self.descend(0.6)")
    before = guarded.goldens()
    result = guarded.run("--optcheck")
    result.assert_outcomes(passed=len(CASES) - 1, failed=1)
    result.stdout.fnmatch_lines(["CHANGED: lib:Flagged() is no longer the algorithm its golden was recorded from"])
    guarded.obey(result, "accept").assert_outcomes(passed=1)
    moved = [name for name, text in guarded.goldens().items() if before[name] != text]
    assert len(moved) == 1
    assert "Flagged" in moved[0]
    guarded.run("--optcheck").assert_outcomes(passed=len(CASES))


def test_an_optimizer_that_is_configured_by_name_too_is_checked_once(guarded: Project) -> None:
    guarded.configure('["lib:Neat"]')
    assert sorted(guarded.collected()) == sorted([*CASES, "lib:Neat()[bowl-float32]"])  # as a configured one is
    result = guarded.run("--optcheck-update")
    result.assert_outcomes(passed=5)
    assert "both record" not in result.stdout.str()


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("no_such_library", "optcheck_discover: module 'no_such_library' does not import (ModuleNotFoundError: *)"),
        ("bowl", "optcheck_discover: 'bowl' has no optimizer"),
    ],
)
def test_a_module_without_optimizers_is_a_usage_error_in_one_line(library: Project, name: str, complaint: str) -> None:
    result = library.run("--optcheck", "--optcheck-discover", name)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = (line for line in result.errlines if line)
    assert line.startswith(f"ERROR: {complaint.partition('*')[0]}")


def test_in_parallel_each_such_module_is_a_failing_item(library: Project) -> None:
    result = library.run("--optcheck", "-n2", "--optcheck-discover=no_such_library", "--optcheck-discover=bowl")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["*module 'no_such_library' does not import (ModuleNotFoundError: *", "*'bowl' has no optimizer*"]
    )
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
@pytest.mark.parametrize("name", ["lib:Neat", "lib-b", "lib.", "1lib"])
def test_a_malformed_module_name_is_a_usage_error_in_one_line(library: Project, name: str, workers: str) -> None:
    result = library.run("--optcheck", workers, "--optcheck-discover", name)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = (line for line in result.errlines if line)
    assert line == f"ERROR: optcheck_discover: {name!r} is no module name; expected one as torch.optim"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("lib:Neet(lr=1.0)", "optcheck_arguments: lib has no optimizer 'Neet'; did you mean 'Neat'"),
        ("lib:Neat(lr=", "optimizer spec 'lib:Neat(lr='"),
    ],
)
def test_a_wrong_line_of_arguments_is_a_usage_error_in_one_line(
    guarded: Project, arguments: str, complaint: str
) -> None:
    guarded.set("arguments", json.dumps([arguments]))
    result = guarded.run("--optcheck")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = (line for line in result.errlines if line)
    assert line.startswith(f"ERROR: {complaint}")


def test_a_damaged_roster_is_a_usage_error_that_names_it(guarded: Project) -> None:
    path = guarded.root / "reference_curves" / "lib.json"
    path.write_text("<<<<<<< ours\n", encoding="utf-8")
    result = guarded.run("--optcheck")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = (line for line in result.errlines if line)
    assert line.startswith(f"ERROR: {path}: is no roster (DecodeError: ")
    assert line.endswith("; delete it and run --optcheck-update")
    path.unlink()
    guarded.run("--optcheck-update").assert_outcomes(passed=5)
    assert roster(guarded) == ROSTER
