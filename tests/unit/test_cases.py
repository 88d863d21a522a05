from __future__ import annotations

import math

import pytest
from interpreter import imported

from pytest_optcheck.cases import Result
from pytest_optcheck.judge import Verdict


def test_a_result_travels_as_plain_scalars() -> None:
    verdict = Verdict("changed", "note", 1, 2.0, 3.0, math.inf, 2, "a", 1, 0.5, None)
    there = Result(
        "s", "w", "float64", "cpu", "sel", verdict, "resume", findings=("a", "b"), limits=("c",), variant=True
    )
    plain = there.as_dict()
    assert {type(value) for value in plain.values()} <= {str, int, float, bool, dict, tuple, type(None)}
    assert Result.from_dict({**plain, "findings": ["a", "b"], "limits": ["c"]}) == there


@pytest.mark.parametrize("name", ["cases", "checking", "conditions", "findings", "session", "targets", "updating"])
def test_what_a_controller_may_need_does_not_import_torch(name: str) -> None:
    assert imported(f"pytest_optcheck.{name}", "torch", "numpy", "scipy") == []
