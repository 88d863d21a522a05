from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from guarded import asked, case, only

from pytest_optcheck import basing
from pytest_optcheck.cases import BASE, Result, Scope
from pytest_optcheck.cost.base import Asked, BaseAnswer
from pytest_optcheck.cost.figures import TEN, Cost
from pytest_optcheck.cost.gate import Comparison
from pytest_optcheck.cost.ratios import Decision
from pytest_optcheck.judge import Verdict

if TYPE_CHECKING:
    from pathlib import Path

SLOWER = Decision("slower", "", 1.31, 1.27, 1.36, 0.01, 0.01, 16)
HEAVIER = Comparison(heavier=("ten, warm: 0 → 10 syncs",))
ALL = Scope(("float64",), counted=(TEN,), timed=True)


def checked(
    answer: BaseAnswer, scope: Scope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Asked, list[Result]]:
    """What the sides are asked for under `scope`, and the results where this is the answer."""
    questions: list[Asked] = []

    def compare(question: Asked, _: object) -> BaseAnswer:
        questions.append(question)
        return answer

    monkeypatch.setattr(basing, "compare_with_base", compare)
    monkeypatch.setitem(basing._peers, "main", object())  # noqa: SLF001 - nobody asks it
    results = basing.check(case(dtype=None, route=BASE, scope=scope), asked(tmp_path, base="main"))
    return questions[0], results


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (ALL, (True, (TEN,), True)),
        (Scope(("float64",)), (True, (), False)),
        (Scope((), counted=(TEN,)), (False, (TEN,), False)),
        (Scope((), timed=True), (False, (), True)),
    ],
)
def test_the_sides_are_asked_for_what_the_scope_holds(
    scope: Scope, expected: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question, results = checked(BaseAnswer("main"), scope, tmp_path, monkeypatch)
    assert (question.curves, question.lists, question.timed) == expected
    assert len(results) == bool(scope.dtypes)


def test_every_result_has_the_notes_and_the_curve_its_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = BaseAnswer("main", doubt="little", counts=HEAVIER, new=Cost({}), time=SLOWER, notes=("shared",))
    _, results = checked(answer, ALL, tmp_path, monkeypatch)
    assert [result.verdict.kind for result in results] == ["match", "heavier", "slower"]
    assert [result.findings for result in results] == [("little", "shared"), ("shared",), ("shared",)]


def test_a_slower_step_says_what_was_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = BaseAnswer("main", time=SLOWER)
    _, results = checked(answer, Scope((), timed=True), tmp_path, monkeypatch)
    note = "a step takes 1.31 × the time of main (1.27 to 1.36, 16 blocks); 1.02 × is allowed"
    assert only(results).verdict == Verdict("slower", note)
