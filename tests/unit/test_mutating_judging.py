"""What is made of a mutant: from the messages of its process to the counts of all."""

from __future__ import annotations

import ast
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.mutating import judging, naive, scoring
from benchmarks.mutating.files import File
from benchmarks.mutating.forks import HANGS
from benchmarks.mutating.judging import EQUIVALENT, KILLED, SURVIVED, UNREACHABLE, Mutant, Outcome
from benchmarks.mutating.naive import Rules
from benchmarks.mutating.reviews import REVIEWS, review
from benchmarks.mutating.reviews.base import Review
from benchmarks.mutating.scoring import Judged
from benchmarks.mutating.trying import Failing
from benchmarks.mutating.walking import alterations
from pytest_optcheck.curves import Failure, Run

if TYPE_CHECKING:
    from collections.abc import Sequence

CASE = {"case": 7, "tried": 3}
RULES = {"rules": {"decrease": False, "rtol": True}}
SOURCE = """
def step(grad, capturable):
    if capturable:
        grad += 1
    if torch.jit.is_scripting() or wrong(grad):
        raise ValueError
    return grad
"""


def mutants(name: str = "adam") -> list[Mutant]:
    found = alterations(ast.parse(SOURCE), lambda _: True)
    return [Mutant(File(name), alteration, *alteration.texts(), (), ()) for alteration in found]


def mutant(before: str) -> Mutant:
    return next(one for one in mutants() if one.before == before)


@pytest.mark.parametrize(
    ("messages", "code", "expected"),
    [
        ([{"kind": EQUIVALENT, "by": "compiles to the same code"}], 0, (EQUIVALENT, "compiles to the same code", None)),
        ([CASE, {"kind": KILLED, "by": "changed", "note": "x"}, RULES], 0, (KILLED, "changed", 7)),
        ([CASE, {"kind": SURVIVED, "case": None}, RULES], 0, (SURVIVED, "", None)),
        ([CASE], HANGS, (KILLED, judging.HANGING, 7)),
        ([CASE], -11, (KILLED, judging.CRASHES, 7)),
        ([CASE], 1, (KILLED, judging.CRASHES, 7)),
        ([], HANGS, (KILLED, judging.HANGING, None)),
    ],
)
def test_an_outcome_is_what_the_process_said_or_how_it_died(
    messages: Sequence[dict[str, Any]], code: int, expected: tuple[str, str, int | None]
) -> None:
    found = judging.outcome(messages, code)
    assert (found.kind, found.by, found.case) == expected


def test_the_naive_tests_fail_where_they_end_the_process_and_are_asked_again_where_a_case_did() -> None:
    survived = judging.outcome([CASE, {"kind": SURVIVED, "case": None}], HANGS)
    assert survived.rules == naive.BOTH
    hanging = judging.outcome([CASE], HANGS)
    assert hanging.rules is None
    assert judging.with_rules(hanging, [RULES]).rules == Rules(decrease=False, rtol=True)
    assert judging.with_rules(hanging, []).rules == naive.BOTH


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (Failing("raised", "module 'torch.optim' does not import"), True),
        (Failing("lost", "construction raised ValueError: x"), True),
        (Failing("lost", "update 1 raised ValueError: x"), False),
        (Failing("changed", ""), False),
    ],
)
def test_only_what_could_not_be_built_counts_as_raising(said: Failing, expected: bool) -> None:
    assert said.constructing is expected


def run(*losses: float, failure: Failure | None = None) -> Run:
    return Run("float32", "cpu", losses, failure=failure)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (run(2.0, 1.0), naive.NEITHER),
        (run(2.0, 1.0005), naive.NEITHER),
        (run(2.0, 1.002), Rules(decrease=False, rtol=True)),
        (run(2.0, 2.0), naive.BOTH),
        (run(2.0, float("nan")), naive.BOTH),
        (run(2.0, failure=Failure(1, "raised", "x")), naive.BOTH),
    ],
)
def test_naive_tests_see_what_their_authors_wrote(found: Run, expected: Rules) -> None:
    assert Rules.of(found, run(2.0, 1.0)) == expected


def test_a_review_holds_where_all_of_it_matches() -> None:
    added = mutant("grad += 1")
    whole = Review(EQUIVALENT, "why", "ad*", "step", added.alteration.kind, r"^grad \+=", r"-=", "^capturable$")
    assert whole.holds(added)
    for field, value in (
        ("file", "sgd"),
        ("function", "other"),
        ("kind", "constant"),
        ("before", "x"),
        ("after", "x"),
        ("guard", "x"),
    ):
        assert not replace(whole, **{field: value}).holds(added)


def test_branches_that_no_cpu_takes_are_unreachable() -> None:
    found = review(mutant("grad += 1"))
    assert found is not None
    assert found.outcome == UNREACHABLE
    assert review(mutant("return grad")) is None


def test_every_review_has_a_reason_of_its_own_and_one_of_two_outcomes() -> None:
    assert all(entry.reason and entry.outcome in (EQUIVALENT, UNREACHABLE) for entry in REVIEWS)
    assert len(set(REVIEWS)) == len(REVIEWS)


ENTRY = Review(EQUIVALENT, "does nothing")
RULED = Rules(decrease=False, rtol=True)


def judged() -> list[Judged]:
    added, refusing, returned = mutant("grad += 1"), mutant("raise ValueError"), mutant("return grad")
    return [
        Judged(added, Outcome(KILLED, "changed", 0, tried=1, rules=RULED)),
        Judged(added, Outcome(KILLED, judging.HANGING, 0, tried=2, rules=naive.BOTH), ENTRY),
        Judged(added, Outcome(SURVIVED, tried=9, rules=naive.NEITHER), ENTRY),
        Judged(refusing, Outcome(SURVIVED, "never executed")),
        Judged(returned, Outcome(EQUIVALENT, "compiles to the same code")),
    ]


def test_a_reviewed_survivor_is_not_counted_as_one_and_a_killed_one_contradicts() -> None:
    found = judged()
    assert [one.kind for one in found] == [KILLED, KILLED, EQUIVALENT, SURVIVED, EQUIVALENT]
    assert [one.contradicts for one in found] == [False, True, False, False, False]


def test_the_score_is_the_share_killed_of_those_that_can_be() -> None:
    assert scoring.score(judged()) == {
        "mutants": 5,
        "killed": 2,
        "survived": 1,
        "equivalent": 2,
        "unreachable": 0,
        "killed_percent": 66.67,
    }
    assert "killed_percent" not in scoring.score(judged()[4:])


def test_the_figures_tell_verdicts_from_deaths_and_count_naive_tests_of_what_was_asked() -> None:
    found = scoring.figures(judged())
    assert found["killed_without_verdict"] == 1
    assert found["refusals_survived"] == 1
    assert found["equivalent_by_code"] == 1
    assert found["reviews_contradicted"] == 1
    assert (found["naive_asked"], found["naive_decrease_killed"], found["naive_rtol_killed"]) == (2, 1, 2)
