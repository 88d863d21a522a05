from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sample import Project

FAMILY = '["toy:Descent = gradient_descent"]'

PLAIN = 'p.add_(p.grad, alpha=-group["lr"])'


def test_the_mistake_is_named_in_the_failure_and_once_in_the_summary(recorded: Project) -> None:
    recorded.set("same_as", FAMILY)
    recorded.edit("toy.py", PLAIN, 'p.add_(p.grad, alpha=group["lr"])')
    result = recorded.run("--optcheck")
    causes = [
        line.strip() for line in result.outlines if "the gradient has the wrong sign: explains the change" in line
    ]
    assert [line.partition(" ")[0] for line in causes] == ["cause:", "cause:", "toy:Descent(lr=0.1):"]


def test_without_a_declared_family_the_norms_say_what_they_can(recorded: Project) -> None:
    recorded.edit("toy.py", PLAIN, 'p.add_(p.grad, alpha=-1.5 * group["lr"])')
    result = recorded.run("--optcheck", "--optcheck-route", "float64")
    result.stdout.fnmatch_lines(
        ["*cause:*seen from its norms alone: tensor * after update 1: its norm has changed 1.5*"]
    )


def test_a_green_run_says_nothing_of_causes(recorded: Project) -> None:
    recorded.set("same_as", FAMILY)
    result = recorded.run("--optcheck")
    assert result.ret == 0
    assert not [line for line in result.outlines if "explains" in line or "cause:" in line]
