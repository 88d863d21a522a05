"""--optcheck-selftest: proof that a gate can fail, and loud failure where it cannot."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from pytest_optcheck import judge
from pytest_optcheck.cost import gate

if TYPE_CHECKING:
    from sample import Project

TITLES = " untouched  lr × 1.001  tensor skipped  state lost  a sync more  20 % slower  workload  optimizer"
DESCENT = " match      step 1      step 1          no state    not counted  not timed    bowl      toy:Descent(lr=0.1)"
MOMENTUM = (
    " match      step 1      step 1          step 5      not counted  not timed    bowl      toy:Momentum(lr=0.05)"
)

BLIND_JUDGE = """
from pytest_optcheck import judge

def always(run, golden, policy):
    return judge.Verdict("match", largest=0.0, largest_step=0, final_old=1.0, final_new=1.0)

judge.judge = always
"""

BLIND_GATE = """
from pytest_optcheck.cost import gate

def never(new, old, refused):
    return gate.Comparison()

gate.compare = never
"""

EXCUSED = """
import pytest

@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.{mark})
"""


APART = pytest.param("-n2", marks=pytest.mark.slow)
"""Two workers, which cost two imports of torch."""


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a project's conftest replaces in this process is put back."""
    for module, name in ((judge, "judge"), (gate, "compare")):
        monkeypatch.setattr(module, name, getattr(module, name))


@pytest.mark.parametrize("workers", ["-n0", APART])
def test_every_break_is_caught_and_the_table_says_where(recorded: Project, workers: str) -> None:
    result = recorded.run("--optcheck-selftest", workers)
    assert result.ret == pytest.ExitCode.OK
    assert result.parseoutcomes()["passed"] == 2
    result.stdout.fnmatch_lines(
        ["optcheck: breaking 2 configured optimizers on cpu*; tests marked optcheck are left out"]
    )
    assert {TITLES, DESCENT, MOMENTUM} <= set(result.outlines)
    result.stdout.fnmatch_lines(["5 breaks of 2 optimizers, all caught *"])


def test_an_option_narrows_it_to_one_optimizer(recorded: Project) -> None:
    result = recorded.run("--optcheck-selftest", "--optcheck-optimizer", "toy:Momentum(lr=0.05)")
    result.stdout.fnmatch_lines(["3 breaks of 1 optimizers, all caught *"])


@pytest.mark.parametrize("workers", ["-n0", "-n1"])
@pytest.mark.usefixtures("restored")
def test_a_comparator_that_always_passes_fails_loudly_and_by_name(recorded: Project, workers: str) -> None:
    recorded.append("conftest.py", BLIND_JUDGE)
    result = recorded.run("--optcheck-selftest", workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes()["failed"] == 2
    result.stdout.fnmatch_lines(
        [
            (
                "SELF-TEST: toy:Descent(lr=0.1) on bowl: lr × 1.001 was NOT CAUGHT, its verdict is match (*), tensor "
                "skipped was NOT CAUGHT*; pytest_optcheck.judge.judge is conftest.always; reproduce: *"
            ),
            " match *NOT CAUGHT *NOT CAUGHT *toy:Descent(lr=0.1)",
            "5 breaks of 2 optimizers: 0 caught, 5 NOT CAUGHT *",
        ]
    )


@pytest.mark.usefixtures("restored")
def test_the_same_comparator_lets_a_check_of_a_broken_optimizer_pass(recorded: Project) -> None:
    """Which is what the self-test is for."""
    recorded.append("conftest.py", BLIND_JUDGE)
    recorded.edit("toy.py", "v.mul_(0.9)", "v.mul_(0.5)")
    assert recorded.run("--optcheck").ret == pytest.ExitCode.OK


@pytest.mark.usefixtures("restored")
def test_a_gate_that_counts_and_never_minds_fails_loudly_and_by_name(project: Project) -> None:
    for name, value in {"routes": None, "profile": '"quick"', "cost": '["counts"]'}.items():
        project.set(name, value)
    project.configure('["toy:Descent(lr=0.1)"]')
    project.run("--optcheck-update").assert_outcomes(passed=2)
    sound = project.run("--optcheck-selftest")
    sound.stdout.fnmatch_lines([" match *heavier *not timed *", "3 breaks of 1 optimizers, all caught *"])
    project.append("conftest.py", BLIND_GATE)
    blind = project.run("--optcheck-selftest")
    assert blind.ret == pytest.ExitCode.TESTS_FAILED
    blind.stdout.fnmatch_lines(
        [
            (
                "SELF-TEST: *a sync more was NOT CAUGHT, its verdict is match (a wait for the device in every "
                "step would pass); pytest_optcheck.cost.gate.compare is conftest.never; *"
            ),
            "3 breaks of 1 optimizers: 2 caught, 1 NOT CAUGHT *",
        ]
    )


@pytest.mark.parametrize("option", ["--optcheck-allow=changed", "-ooptcheck_allow=changed"])
def test_what_is_allowed_does_not_count_as_caught(recorded: Project, option: str) -> None:
    result = recorded.run("--optcheck-selftest", option)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes()["failed"] == 2
    result.stdout.fnmatch_lines(["SELF-TEST: *lr × 1.001 is changed, which optcheck_allow lets pass *"])


def test_an_optimizer_that_is_not_green_is_not_broken(recorded: Project) -> None:
    """Not even where what it is now is allowed."""
    recorded.edit("toy.py", "v.mul_(0.9)", "v.mul_(0.5)")
    result = recorded.run(
        "--optcheck-selftest", "--optcheck-allow=changed", "--optcheck-optimizer=toy:Momentum(lr=0.05)"
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["SELF-TEST: toy:Momentum(lr=0.05) on bowl: CHANGED before anything is broken*"])


def test_without_a_golden_the_message_ends_with_the_command_that_records_it(project: Project) -> None:
    result = project.run("--optcheck-selftest")
    assert result.parseoutcomes()["failed"] == 2
    result.stdout.fnmatch_lines(["MISSING: toy:Descent(lr=0.1) has no golden"])
    assert project.obey(result, "record").ret == pytest.ExitCode.OK


@pytest.mark.parametrize("mark", ["xfail", "skip"])
@pytest.mark.parametrize("workers", ["-n0", APART])
def test_a_gate_that_may_not_fail_fails_the_self_test(recorded: Project, mark: str, workers: str) -> None:
    recorded.append("conftest.py", EXCUSED.format(mark=mark))
    result = recorded.run("--optcheck-selftest", workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["optcheck::toy:*is skipped or expected to fail: nothing that it checks can fail"])
    result.stdout.no_fnmatch_line("*all caught*")


@pytest.mark.parametrize("workers", ["-n0", APART])
def test_an_empty_configuration_proves_nothing(recorded: Project, workers: str) -> None:
    recorded.configure("[]")
    result = recorded.run("--optcheck-selftest", workers)
    assert result.ret not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    text = "\n".join([*result.outlines, *result.errlines])
    assert "--optcheck-selftest has nothing to break here" in text


@pytest.mark.parametrize("other", ["--optcheck-update=missing", "--optcheck-base=HEAD"])
def test_it_is_done_alone(recorded: Project, other: str) -> None:
    result = recorded.run("--optcheck-selftest", other)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --optcheck-selftest breaks optimizers *{other.partition('=')[0]} does *"])


def test_reports_hold_every_break(recorded: Project) -> None:
    recorded.run("--optcheck-selftest", "--optcheck-report=report.json", "--junit-xml=report.xml")
    found = json.loads((recorded.root / "report.json").read_text(encoding="utf-8"))
    assert found["totals"] == {"green": 2, "caught": 5, "nothing": 1, "unasked": 4}
    assert {(r["planted"]["name"], r["planted"]["outcome"]) for r in found["results"]} > {("lr", "caught")}
    cells = {
        (p.get("name"), p.get("value"))
        for p in ET.parse(recorded.root / "report.xml").iter("property")  # noqa: S314 - our own file
    }
    assert {("optcheck_selftest_lr", "step 1"), ("optcheck_selftest_state", "no state")} <= cells
