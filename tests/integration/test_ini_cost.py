"""optcheck_cost, and the routes counts and timing: what a step costs is recorded, compared, accepted and reported."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sample import Project

SPEC = "toy:Descent(lr=0.1)"
STEP = 'p.add_(p.grad, alpha=-group["lr"])'
FASTER = 'p.add_(p.grad, alpha=-1.1 * group["lr"])'
HEAVIER = f"{STEP}\n                p.sum().item()"

CLOCK = """
import os
from pytest_optcheck.cost import control
from pytest_optcheck.cost.figures import Timing
from pytest_optcheck.cost.ratios import Decision

def against_control(spec, needs, device):
    return Timing({"cpu": "toy"}, float(os.environ["TOY_RATIO"]), 0.01, 24, 0.01)

def compare(spec, needs, device, timings):
    if not timings:
        raise control.NoTimingError("no step was timed yet")
    ratio = float(os.environ["TOY_RATIO"]) / timings[0].ratio
    answer = "slower" if ratio > 1.1 else "not slower"
    return control.Comparison(Decision(answer, "", ratio, ratio - 0.1, ratio + 0.1, 0.01, 0.01, 16), 2.0 * ratio, 0.1)

control.against_control, control.compare = against_control, compare
"""
"""In place of a clock: what it says is what the environment says."""


@pytest.fixture
def counted(project: Project) -> Project:
    """One optimizer whose steps are counted, recorded."""
    for name, value in {"routes": None, "profile": '"quick"', "cost": '["counts"]'}.items():
        project.set(name, value)
    project.configure(f'["{SPEC}"]')
    (project.root / "test_marked.py").unlink()
    project.run("--optcheck-update").assert_outcomes(passed=1)
    return project


@pytest.fixture
def clocked(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """One optimizer whose steps are timed by a clock that says 2, recorded."""
    from pytest_optcheck.cost import control

    for name in ("against_control", "compare"):
        monkeypatch.setattr(control, name, getattr(control, name))  # put back what the project's conftest replaces
    monkeypatch.setenv("TOY_RATIO", "2.0")
    for name, value in {"routes": '["float64", "timing"]', "cost": None}.items():
        project.set(name, value)
    project.configure(f'["{SPEC}"]')
    (project.root / "test_marked.py").unlink()
    project.append("conftest.py", CLOCK)
    project.run("--optcheck-update").assert_outcomes(passed=2)
    return project


def items(result: pytest.RunResult) -> dict[str, int]:
    found: dict[str, int] = result.parseoutcomes()
    return found


def test_a_step_is_counted_for_the_golden_and_compared_with_it(counted: Project) -> None:
    assert list(counted.stored("Descent")["costs"].popitem()[1]["lists"]) == ["zoo", "ten"]
    result = counted.run("--optcheck", "--optcheck-route=counts", "-v")
    assert items(result) == {"passed": 1}
    result.stdout.fnmatch_lines(["*toy:Descent(lr=0.1) * bowl * match * 26 * 0 * 0.00 ×"])


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_a_heavier_step_fails_names_what_was_added_and_can_be_accepted(counted: Project, workers: str) -> None:
    counted.edit("toy.py", STEP, HEAVIER)
    run = counted.run_apart if workers == "-n2" else counted.run
    result = run("--optcheck", "--optcheck-route=counts", workers)
    assert items(result) == {"failed": 1}
    result.stdout.fnmatch_lines(
        [
            f"HEAVIER: {SPEC} does more in a step than it did",
            "  more: * zoo, first: 26 → 78 operations (+26 _local_scalar_dense, +26 sum)",
            "* zoo, warm: 0 → 26 syncs",
        ]
    )
    assert items(counted.obey(result, "accept")) == {"passed": 1}
    assert items(counted.run("--optcheck")) == {"passed": 4}


def test_accepting_another_curve_on_one_route_keeps_the_counts(counted: Project) -> None:
    lists = list(counted.stored("Descent")["costs"].popitem()[1]["lists"])
    counted.edit("toy.py", STEP, FASTER)
    result = counted.run("--optcheck", "--optcheck-route=resume")
    assert items(result) == {"failed": 1}
    assert items(counted.obey(result, "accept")) == {"passed": 1}
    assert list(counted.stored("Descent")["costs"].popitem()[1]["lists"]) == lists
    assert items(counted.run("--optcheck")) == {"passed": 4}


def test_a_lighter_step_passes_and_is_told(counted: Project) -> None:
    counted.edit("toy.py", STEP, HEAVIER)
    counted.run("--optcheck-update=changed").assert_outcomes(passed=1)
    counted.edit("toy.py", HEAVIER, STEP)
    result = counted.run("--optcheck", "--optcheck-route=counts")
    assert items(result) == {"passed": 1}
    result.stdout.fnmatch_lines([f"lighter: {SPEC} on bowl: zoo, first: 78 → 26 operations *"])


def test_counts_of_another_torch_are_not_compared_and_this_is_said_once(counted: Project) -> None:
    path = counted.golden("Descent")
    golden = json.loads(path.read_text(encoding="utf-8"))
    golden["costs"] = {"torch 1.0, python 3.0": golden["costs"].popitem()[1]}
    path.write_text(json.dumps(golden), encoding="utf-8")
    result = counted.run("--optcheck")
    assert items(result) == {"passed": 4}
    result.stdout.fnmatch_lines(
        [f"1 incomparable: {SPEC} on bowl: steps were counted with torch 1.0, python 3.0, this is *"]
    )
    assert items(counted.run("--optcheck-update=missing")) == {"passed": 1}
    assert len(counted.stored("Descent")["costs"]) == 2


def test_without_cost_nothing_is_counted_or_timed(counted: Project) -> None:
    counted.set("cost", '["none"]')
    assert [name.partition("[")[2] for name in counted.collected()] == [
        "bowl-float64]",
        "bowl-float32]",
        "bowl-resume]",
    ]


def test_a_marked_test_counts_too(project: Project) -> None:
    for name, value in {"routes": None, "profile": '"quick"', "cost": '["counts"]', "optimizers": "[]"}.items():
        project.set(name, value)
    project.run("--optcheck-update").assert_outcomes(passed=1)
    assert [len(json.loads(text)["costs"]) for text in project.goldens().values()] == [1]
    assert "counts" in project.run("--optcheck", "-v").stdout.str()


def test_a_step_is_timed_last_and_its_time_kept_in_the_golden(clocked: Project) -> None:
    assert [timing["ratio"] for timing in clocked.stored("Descent")["timings"]] == [2.0]
    assert clocked.collected()[-1].endswith("[bowl-timing]")
    assert items(clocked.run("--optcheck")) == {"passed": 2}


def test_a_slower_step_fails_and_can_be_accepted(clocked: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_RATIO", "3.0")
    result = clocked.run("--optcheck")
    assert items(result) == {"failed": 1, "passed": 1}
    result.stdout.fnmatch_lines([f"SLOWER: {SPEC} takes more time for a step than it did", "*a step takes 1.50 × its*"])
    accepted = clocked.obey(result, "accept")
    assert items(accepted) == {"passed": 2}
    accepted.stdout.fnmatch_lines(["recorded the time of 1 steps"])
    assert [timing["ratio"] for timing in clocked.stored("Descent")["timings"]] == [3.0]
    assert items(clocked.run("--optcheck")) == {"passed": 2}


def test_accepting_another_curve_keeps_the_time(clocked: Project) -> None:
    clocked.edit("toy.py", STEP, FASTER)
    result = clocked.run("--optcheck", "--optcheck-route=float64")
    assert items(result) == {"failed": 1}
    assert items(clocked.run("--optcheck-update=changed", "--optcheck-route=float64")) == {"passed": 1}
    assert [timing["ratio"] for timing in clocked.stored("Descent")["timings"]] == [2.0]


def test_a_golden_recorded_anew_is_timed_anew_and_a_refreshed_one_is_not(
    clocked: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_RATIO", "1.9")
    assert items(clocked.run("--optcheck-update=missing", "--optcheck-route=resume", "--optcheck-route=timing")) == {
        "passed": 2
    }
    assert list(clocked.stored("Descent")["routes"]) == ["resume"]
    assert [timing["ratio"] for timing in clocked.stored("Descent")["timings"]] == [2.0]
    clocked.edit("toy.py", STEP, FASTER)
    assert items(clocked.run("--optcheck-update=changed")) == {"passed": 2}
    assert [timing["ratio"] for timing in clocked.stored("Descent")["timings"]] == [1.9]


def test_a_time_that_is_missing_is_no_failure(clocked: Project) -> None:
    path = clocked.golden("Descent")
    golden: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**golden, "timings": []}), encoding="utf-8")
    result = clocked.run("--optcheck")
    assert items(result) == {"passed": 2}
    result.stdout.fnmatch_lines([f"1 incomparable: {SPEC} on bowl: step times: no step was timed yet*"])
    clocked.run("--optcheck-update=missing").stdout.fnmatch_lines(["recorded the time of 1 steps"])


def test_every_figure_is_in_the_report_and_in_the_junit_file(counted: Project) -> None:
    counted.edit("toy.py", STEP, HEAVIER)
    counted.run("--optcheck", "--optcheck-report=all.json", "--junit-xml=junit.xml")
    report = json.loads((counted.root / "all.json").read_text(encoding="utf-8"))
    (found,) = (result for result in report["results"] if result["route"] == "counts")
    assert found["verdict"]["kind"] == "heavier"
    assert found["cost"]["lists"]["zoo"]["moments"]["warm"]["syncs"] == 26
    assert report["totals"] == {"match": 3, "heavier": 1}
    text = (counted.root / "junit.xml").read_text(encoding="utf-8")
    assert '<property name="optcheck_syncs" value="26"' in text
    assert '<property name="optcheck_verdict" value="heavier"' in text
