"""--optcheck-report: every figure of a run, and what it could not be told of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sample import Project

INTERRUPTED = """

def pytest_runtest_call(item):
    if "Momentum" in item.name:
        raise KeyboardInterrupt
"""


def report(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.root / "all.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_cases_that_could_not_be_answered_and_skipped_ones_are_in_it(recorded: Project, workers: str) -> None:
    recorded.golden("Momentum").write_text("{", encoding="utf-8")
    path = recorded.golden("Descent-lr-0.2")
    golden = json.loads(path.read_text(encoding="utf-8"))
    del golden["curves"]["float64"]
    path.write_text(json.dumps(golden), encoding="utf-8")
    result = recorded.run("--optcheck", "--optcheck-report=all.json", workers)
    result.assert_outcomes(passed=3, failed=2, skipped=1)
    result.stdout.fnmatch_lines(["3 checked · 3 match · *"])
    found = report(recorded)
    assert (found["totals"], found["exit_status"]) == ({"match": 3, "skipped": 1}, 1)
    assert sorted(problem["test"] for problem in found["problems"]) == [
        "optcheck::toy:Momentum(lr=0.05)[bowl-float32]",
        "optcheck::toy:Momentum(lr=0.05)[bowl-float64]",
    ]
    assert all("is not JSON, or is cut off" in problem["text"] for problem in found["problems"])
    (skipped,) = (result for result in found["results"] if result["skipped"])
    assert (skipped["spec"], skipped["skipped"]) == ("Descent(lr=0.2)", "Descent(lr=0.2) accepts float32 only")


def test_a_verdict_that_fails_is_no_problem_besides_and_what_a_marked_test_raises_is(recorded: Project) -> None:
    recorded.edit("toy.py", "v.mul_(0.9)", "v.mul_(0.8)")
    recorded.edit("test_marked.py", 'name="Descent(lr=0.2)")', 'name="Descent(lr=0.2)")\n    assert not "sound"')
    recorded.run("--optcheck", "--optcheck-report=all.json").assert_outcomes(passed=2, failed=4)
    found = report(recorded)
    assert found["totals"] == {"match": 4, "changed": 2}
    assert [problem["test"].partition("[")[0] for problem in found["problems"]] == ["test_marked.py::test_descent"] * 2
    assert all("AssertionError" in problem["text"] for problem in found["problems"])


def test_an_interrupted_run_says_so(recorded: Project) -> None:
    recorded.append("conftest.py", INTERRUPTED)
    recorded.run_apart("--optcheck", "--optcheck-report=all.json", "-p", "no:cov", "-p", "no:xdist")
    found = report(recorded)
    assert found["exit_status"] == 2
    assert found["totals"].get("match", 0) < 6
