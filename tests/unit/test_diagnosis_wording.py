from __future__ import annotations

import math

from pytest_optcheck.curves import Run
from pytest_optcheck.diagnosis import wording
from pytest_optcheck.diagnosis.ranking import Candidate, Explanation, First
from pytest_optcheck.diagnosis.replaying import Hypothesis
from pytest_optcheck.format import Curve, Point
from pytest_optcheck.oracles.adam import AdamW

RULE = AdamW(lr=0.5)
FIRST = First("conv", 3, 0.93, 12.4)


def candidate(words: str, fit: float, where: str = "") -> Candidate:
    return Candidate(Hypothesis(words), fit, where)


def told(*named: Candidate, second: Candidate | None = None, first: First | None = FIRST) -> str:
    return wording.told(Explanation(0.5, named, second, first), RULE)


def test_the_best_explanation_stands_with_its_fit_beside_the_next_best() -> None:
    assert told(candidate("second-moment bias correction missing", 4e-15), second=candidate("eps squared", 2e-2)) == (
        "second-moment bias correction missing: explains the change to 4e-15; next best 2e-02 (eps squared)"
    )
    assert told(candidate("a", 4e-15, "in vectors only"), second=candidate("b", 3.0)) == (
        "a, in vectors only: explains the change to 4e-15; nothing else comes near"
    )


def test_what_cannot_be_told_apart_is_said_in_one_breath() -> None:
    assert told(candidate("a", 4e-15), candidate("b", 4e-15)).startswith("a or b: explains")
    five = [candidate(name, 4e-15) for name in "abcde"]
    assert told(*five).startswith("a or b or c (or 2 more that look the same here): explains")


def test_where_nothing_fits_the_first_step_is_told() -> None:
    assert told(second=candidate("eps squared", 2e-2)) == (
        "no textbook mistake explains it (best: eps squared, 2e-02); "
        "update 3 of conv is the first that is not AdamW's, 0.93 times as long, at an angle of 12.4°"
    )
    small = Explanation(3e-8, (), None, FIRST)
    assert "; without one the rule is off by 3e-08; update 3" in wording.told(small, RULE)
    assert told(first=First("conv", 1, math.nan, math.nan)) == (
        "no textbook mistake explains it; update 1 of conv is the first that is not AdamW's"
    )


def test_an_optimizer_that_takes_the_right_steps_is_not_accused() -> None:
    assert told(first=None).startswith("on the gradients it gets it takes the steps of AdamW")
    assert "lr=0.5" in wording.renewed(RULE)
    assert "float32 alone" in wording.narrow()


def run(*values: float) -> Run:
    return Run("float64", "cpu", (1.0, 1.0), norms={"a": dict(enumerate(values, 1)), "b": {1: 1.0, 2: 1.0}})


def curve(*values: float) -> Curve:
    a = [Point(step, value, 0.0) for step, value in enumerate(values, 1)]
    return Curve([Point(0, 1.0, 0.0), Point(1, 1.0, 0.0)], {"a": a, "b": [Point(1, 1.0, 0.0), Point(2, 1.0, 0.0)]})


def test_without_a_rule_the_norms_say_what_they_can() -> None:
    moved = wording.norms(run(1.0, 3.0), curve(1.0, 2.0), {"a": 0.0, "b": 1.0})
    assert moved.endswith("tensor a after update 2: it has moved 1.5 times as far as it had")
    changed = wording.norms(run(1.0, 3.0), curve(1.0, 2.0), {"a": 1.0, "b": 1.0})
    assert changed.endswith("tensor a after update 2: its norm has changed 2 times as much")
    assert "angle" not in changed


def test_norms_that_say_nothing_are_not_made_to() -> None:
    assert wording.norms(run(1.0, 2.0), curve(1.0, 2.0), {"a": 0.0}) == ""
    assert wording.norms(run(1.0, 3.0), curve(1.0, 2.0), {}).endswith("tensor a is elsewhere after update 2")
    assert wording.norms(run(1.0, math.nan), curve(1.0, 2.0), {"a": 0.0}).endswith("elsewhere after update 2")
