from __future__ import annotations

import json
import math

from pytest_optcheck.cases import Result
from pytest_optcheck.judge import Verdict
from pytest_optcheck.report.document import SCHEMA, document

MATCH = Result("toy:Adam()", "zoo", "float64", "cpu", "", Verdict("match"), cost={"lists": {}})
DIVERGED = Result(
    "toy:Adam()", "mlp", "float32", "cpu", "", Verdict("diverged", deviation=math.inf), golden="{…}", step_s=0.1
)


def test_every_figure_of_the_run_is_in_the_document() -> None:
    found = json.loads(document([MATCH, DIVERGED], {"torch": "2.13.0"}, 1.5))
    assert (found["schema"], found["machine"], found["elapsed_s"]) == (SCHEMA, {"torch": "2.13.0"}, 1.5)
    assert found["totals"] == {"match": 1, "diverged": 1}
    match, diverged = found["results"]
    assert (match["cost"], match["recorded"]) == ({"lists": {}}, False)
    assert (diverged["step_s"], diverged["recorded"]) == (0.1, True)


def test_a_number_that_is_not_finite_is_a_text() -> None:
    text = document([DIVERGED], {}, math.nan)
    found = json.loads(text, parse_constant=lambda name: f"no JSON: {name}")
    assert (found["elapsed_s"], found["results"][0]["verdict"]["deviation"]) == ("nan", "inf")


def test_a_golden_stays_a_file_of_its_own() -> None:
    assert "{…}" not in document([DIVERGED], {}, 0.0)
