from __future__ import annotations

from collections import Counter
from dataclasses import FrozenInstanceError
from typing import get_args

import judge_cases
import pytest
from interpreter import imported

from pytest_optcheck import judge


@pytest.mark.parametrize("case", judge_cases.CASES, ids=lambda case: case.name)
def test_the_judge_answers(case: judge_cases.Case) -> None:
    assert case.ask(judge) == case.answer


def test_every_case_has_a_name_of_its_own() -> None:
    names = Counter(case.name for case in judge_cases.CASES)
    assert names.most_common(1)[0][1] == 1


def test_every_kind_of_verdict_is_listed() -> None:
    assert get_args(judge.Kind) == judge.KINDS


def test_every_kind_of_verdict_is_answered_by_some_case() -> None:
    answered = set()
    for case in judge_cases.CASES:
        if isinstance(case.answer, dict):
            answered.add(case.answer["kind"])
        elif isinstance(case.answer, tuple):
            answered.add(case.answer[0])
    of_costs, of_ensembles = {"incomparable", "slower", "heavier"}, {"improved", "regression"}
    assert answered == set(judge.KINDS) - of_costs - of_ensembles


def test_judging_twice_gives_the_same_verdict() -> None:
    golden, policy = judge_cases.golden(), judge.Policy()
    assert judge.judge(judge_cases.RUN, golden, policy) == judge.judge(judge_cases.RUN, golden, policy)


def test_a_verdict_cannot_be_changed_afterwards() -> None:
    verdict = judge.Verdict("changed")
    with pytest.raises(FrozenInstanceError):
        verdict.kind = "match"  # type: ignore[misc] # the point of the test


def test_the_judge_imports_neither_torch_nor_pytest() -> None:
    assert imported("pytest_optcheck.judge", "torch", "pytest") == []
