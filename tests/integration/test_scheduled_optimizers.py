"""Optimizers with learning-rate schedulers: the rates of every group are recorded and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sample import Project

SCHEDULED = "torch.optim:SGD(lr=0.1) >> StepLR(gamma=0.5, step_size=3)"
HALVES = """

def halve(optimizer):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda updates: 0.5 ** (updates // 3))
"""
DEAF = """

class Deaf(torch.optim.lr_scheduler.LambdaLR):
    def load_state_dict(self, state_dict):
        pass
"""
OWN = "torch.optim:SGD(lr=0.1) >> toy.halve()"
MANY = """
    def groups(self, names):
        return [[name] for name in names]
"""


@pytest.fixture
def scheduled(project: Project) -> Project:
    """One optimizer with a scheduler of the project's own, recorded on two parameter groups with two routes."""
    (project.root / "test_marked.py").unlink()
    project.append("toy.py", HALVES)
    project.append("bowl.py", MANY)
    project.set("routes", '["float64", "resume"]')
    project.configure(f'["{OWN}"]')
    project.run("--optcheck-update").assert_outcomes(passed=1)
    return project


def test_a_schedule_in_a_spec_is_recorded_with_the_rates_of_every_group(project: Project) -> None:
    project.append("bowl.py", MANY)
    project.configure('["torch.optim:SGD(lr=0.1) >> StepLR(step_size=3, gamma=0.5)"]')
    project.run("--optcheck-update", "-k", "SGD").assert_outcomes(passed=1, deselected=2)
    stored = project.stored("SGD")
    assert stored["spec"] == SCHEDULED
    beyond_the_end = 8 + 21
    assert stored["rates"] == [[lr * 0.5 ** (k // 3) for k in range(beyond_the_end)] for lr in (0.1, 0.05)]
    project.run("--optcheck", "-k", "SGD").assert_outcomes(passed=2, deselected=3)


@pytest.mark.parametrize(
    ("workers", "new", "note", "moves"),
    [
        ("-n0", "0.5 ** (updates // 4)", "group 0 is 0.1 after 3 updates, the golden has 0.05", True),
        ("-n2", "0.5 ** (updates // 4)", "group 0 is 0.1 after 3 updates, the golden has 0.05", True),
        (
            "-n0",
            "0.5 ** (updates // 3) if updates < 9 else 0.0",
            "group 0 is 0.0 after 9 updates, the golden has 0.0125",
            False,
        ),
    ],
    ids=["during", "during_in_parallel", "beyond_the_end"],
)
def test_a_changed_schedule_is_a_change_with_group_and_update_named(
    scheduled: Project, workers: str, new: str, note: str, moves: bool
) -> None:
    scheduled.edit("toy.py", "0.5 ** (updates // 3)", new)
    result = scheduled.run("--optcheck", workers)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines([f"CHANGED: {OWN} is no longer *", f"  note:          the learning rate of {note}"])
    assert ("first outside" in result.stdout.str()) == moves
    assert "Traceback" not in result.stdout.str()


def test_one_group_that_is_scheduled_otherwise_is_named(scheduled: Project) -> None:
    scheduled.edit(
        "toy.py", "lambda updates: 0.5 ** (updates // 3))", "[lambda k: 0.5 ** (k // 3), lambda k: 0.5 ** (k // 5)])"
    )
    result = scheduled.run("--optcheck", "--optcheck-route=float64")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the learning rate of group 1 is 0.05 after 3 updates, the golden has 0.025"])


def test_the_commands_of_a_changed_schedule_mend_it(scheduled: Project) -> None:
    scheduled.edit("toy.py", "0.5 ** (updates // 3)", "0.5 ** (updates // 4)")
    failed = scheduled.run("--optcheck")
    failed.assert_outcomes(failed=2)
    scheduled.obey(failed, "reproduce").assert_outcomes(failed=1)
    scheduled.obey(failed, "accept").assert_outcomes(passed=1)
    assert scheduled.stored("SGD")["rates"][0][:5] == [0.1, 0.1, 0.1, 0.1, 0.05]
    assert list(scheduled.stored("SGD")["routes"]) == ["resume"]
    scheduled.run("--optcheck").assert_outcomes(passed=2)


def test_a_scheduler_that_a_resume_forgets_is_a_change_on_that_route_alone(scheduled: Project) -> None:
    scheduled.append("toy.py", DEAF)
    scheduled.edit("toy.py", "torch.optim.lr_scheduler.LambdaLR(optimizer", "Deaf(optimizer")
    result = scheduled.run("--optcheck")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines([f"CHANGED: {OWN} *", "*route resume", "  note:*the learning rate of group 0 is *"])


@pytest.mark.parametrize(
    ("scheduler", "line"),
    [
        ("StepLRR(step_size=3)", "*has no 'StepLRR'; did you mean 'StepLR'?*"),
        ("StepLR(steps=3)", "*StepLR takes no 'steps'*"),
    ],
)
def test_a_scheduler_that_cannot_be_built_fails_with_one_line(project: Project, scheduler: str, line: str) -> None:
    project.configure(f'["torch.optim:SGD(lr=0.1) >> {scheduler}"]')
    result = project.run("--optcheck", "-k", "SGD")
    result.assert_outcomes(failed=2, deselected=3)
    result.stdout.fnmatch_lines([line])
    assert "Traceback" not in result.stdout.str()
