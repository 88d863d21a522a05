from __future__ import annotations

import json
import math
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_optcheck.cases import Planted, Result
from pytest_optcheck.convergence import Answer, Effect
from pytest_optcheck.cost.figures import Counts, ListCost, Timing
from pytest_optcheck.cost.ratios import Decision
from pytest_optcheck.judge import Verdict
from pytest_optcheck.report.document import SCHEMA, Ending, document

if TYPE_CHECKING:
    from collections.abc import Iterable

DOCUMENTED = Path(__file__).parents[2] / "docs" / "report.md"
MATCH = Result("toy:Adam()", "zoo", "float64", "cpu", "", Verdict("match"), cost={"lists": {}})
DIVERGED = Result(
    "toy:Adam()", "mlp", "float32", "cpu", "", Verdict("diverged", deviation=math.inf), golden="{…}", step_s=0.1
)


def test_every_figure_of_the_run_is_in_the_document() -> None:
    found = json.loads(document([MATCH, DIVERGED], {"torch": "2.13.0"}, Ending(1.5)))
    assert (found["schema"], found["machine"], found["elapsed_s"]) == (SCHEMA, {"torch": "2.13.0"}, 1.5)
    assert found["totals"] == {"match": 1, "diverged": 1}
    match, diverged = found["results"]
    assert (match["cost"], match["recorded"]) == ({"lists": {}}, False)
    assert (diverged["step_s"], diverged["recorded"]) == (0.1, True)


def test_a_number_that_is_not_finite_is_a_text() -> None:
    text = document([DIVERGED], {}, Ending(math.nan))
    found = json.loads(text, parse_constant=lambda name: f"no JSON: {name}")
    assert (found["elapsed_s"], found["results"][0]["verdict"]["deviation"]) == ("nan", "inf")


def test_a_golden_stays_a_file_of_its_own() -> None:
    assert "{…}" not in document([DIVERGED], {}, Ending(0.0))


def test_a_skipped_case_is_no_match() -> None:
    skipped = replace(MATCH, skipped="toy accepts float32 only")
    found = json.loads(document([MATCH, skipped], {}, Ending(0.0)))
    assert found["totals"] == {"match": 1, "skipped": 1}
    assert [result["skipped"] for result in found["results"]] == ["", "toy accepts float32 only"]


def test_how_the_session_ended_and_what_went_wrong_besides_is_said() -> None:
    found = json.loads(document([], {}, Ending(1.0, 2, [("optcheck::a", "no such class"), ("", "disk full")])))
    assert found["exit_status"] == 2
    assert found["problems"] == [
        {"test": "optcheck::a", "text": "no such class"},
        {"test": "", "text": "disk full"},
    ]


def documented() -> dict[str, set[str]]:
    """The keys in the tables of the page -> all that is said of each in backticks, itself included."""
    found = {}
    for line in DOCUMENTED.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            named = set(re.findall(r"`([^`]+)`", line))
            found.update(dict.fromkeys(re.findall(r"`([^`]+)`", line.split("|")[1]), named))
    return found


def test_every_key_of_the_document_is_documented_and_no_other() -> None:
    found = json.loads(document([MATCH], {}, Ending(0.0)))
    assert set(documented()) == {*found, *found["results"][0]}


def named(*kinds: type) -> set[str]:
    """Fields of data classes or structs."""
    return {
        name
        for kind in kinds
        for name in (getattr(kind, "__struct_fields__", ()) or [field.name for field in fields(kind)])
    }


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("verdict", named(Verdict)),
        ("cost", {"lists", *named(ListCost, Counts)}),
        ("timing", {"to_golden", "margin", "recorded", *named(Decision, Timing)}),
        ("convergence", {"sentence", "decision", *named(Answer, Effect)}),
        ("planted", named(Planted)),
        ("problems", {"test", "text"}),
    ],
)
def test_every_key_further_down_is_documented(key: str, names: Iterable[str]) -> None:
    assert set(names) - documented()[key] == set()
