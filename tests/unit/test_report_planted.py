from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from interpreter import imported

from pytest_optcheck.cases import BREAKS, COUNTS, LR, STATE, SYNC, TENSOR, TIMING, UNTOUCHED, WAIT, Planted, Result
from pytest_optcheck.judge import Verdict
from pytest_optcheck.report import planted

MATCH, CHANGED, HEAVIER = Verdict("match"), Verdict("changed", first_step=3), Verdict("heavier")
SPEC = "torch.optim:AdamW(lr=0.001)"


def result(name: str, outcome: Any, verdict: Verdict = MATCH, *, how: str = "", why: str = "") -> Result:  # noqa: ANN401 - an outcome
    """What became of one break."""
    told = Planted(name, how or BREAKS[name], outcome, why)
    return Result(SPEC, "zoo", "float64", "cpu", "--optcheck-workload zoo", verdict, resolution=1e-9, planted=told)


GREEN = result(UNTOUCHED, "green")
CAUGHT = [
    GREEN,
    replace(GREEN, route=COUNTS),
    result(LR, "caught", CHANGED),
    result(TENSOR, "caught", Verdict("lost")),
    result(STATE, "nothing", why="no state"),
    replace(result(SYNC, "caught", HEAVIER), route=COUNTS),
    replace(result(WAIT, "cannot tell", Verdict("incomparable"), why="the machine is busy"), route=TIMING),
]
MISSED = [GREEN, result(LR, "missed", why="judge is conftest.always"), result(TENSOR, "caught", CHANGED)]
LET_PASS = [GREEN, result(LR, "let pass", CHANGED), result(TENSOR, "caught", Verdict("lost"))]
RED = [result(UNTOUCHED, "red", CHANGED)]
MISSING = [result(UNTOUCHED, "red", Verdict("missing", "no golden"))]


def test_a_row_says_break_by_break_what_became_of_it() -> None:
    assert planted.section(CAUGHT, [], elapsed_s=1.25) == [
        " untouched  lr × 1.001  tensor skipped  state lost  a sync more  20 % slower  workload  optimizer",
        f" match      step 3      lost            no state    heavier      cannot tell  zoo       {SPEC}",
        "1 cannot be told: the machine is busy",
        "3 breaks of 1 optimizers, all caught        1.2 s",
    ]


def test_another_factor_than_the_title_says_stands_in_the_cell() -> None:
    row = planted.section([GREEN, result(LR, "caught", CHANGED, how="lr × 1.05")], [], elapsed_s=0.0)[1]
    assert "step 3 (lr × 1.05)" in row


@pytest.mark.parametrize(
    ("results", "cell", "total"),
    [
        (MISSED, "NOT CAUGHT", "2 breaks of 1 optimizers: 1 caught, 1 NOT CAUGHT"),
        (LET_PASS, "LET PASS", "2 breaks of 1 optimizers: 1 caught, 1 NOT CAUGHT"),
        (RED, "CHANGED", "0 breaks of 1 optimizers: 0 caught, 0 NOT CAUGHT, 1 not green to begin with"),
    ],
)
def test_what_goes_unnoticed_stands_out(results: list[Result], cell: str, total: str) -> None:
    lines = planted.section(results, [], elapsed_s=0.0)
    assert cell in lines[1]
    assert lines[-1].startswith(total)
    assert planted.unnoticed(results)


def test_the_worse_of_curve_and_counts_stands_for_the_untouched_copy() -> None:
    heavier = result(UNTOUCHED, "red", HEAVIER)
    for both in ([GREEN, heavier], [heavier, GREEN]):
        assert "HEAVIER" in planted.section(both, [], elapsed_s=0.0)[1]


def test_an_item_without_an_answer_is_listed_and_not_all_is_caught() -> None:
    lines = planted.section(CAUGHT, ["optcheck::a", "optcheck::a"], elapsed_s=0.0)
    assert "no answer from optcheck::a" in lines
    assert lines[-1].startswith("3 breaks of 1 optimizers: 3 caught, 0 NOT CAUGHT, 1 without an answer")


@pytest.mark.parametrize("results", [[], [result(LR, "nothing", why="no lr")]])
def test_where_nothing_was_broken_nothing_is_said_to_be_caught(results: list[Result]) -> None:
    assert "all caught" not in planted.totals(results)


def test_what_is_caught_is_no_complaint() -> None:
    assert planted.complaint(CAUGHT) == ""
    assert not planted.unnoticed(CAUGHT)


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (
            MISSED,
            (
                "lr × 1.001 was NOT CAUGHT, its verdict is match (a learning rate that changes would pass); "
                "judge is conftest.always; reproduce: pytest --optcheck-selftest --optcheck-workload zoo"
            ),
        ),
        (
            LET_PASS,
            (
                "lr × 1.001 is changed, which optcheck_allow lets pass (a learning rate that changes would pass); "
                "reproduce: pytest --optcheck-selftest --optcheck-workload zoo"
            ),
        ),
        (
            RED,
            (
                "CHANGED before anything is broken, so nothing is proven; mend that first: "
                "pytest --optcheck --optcheck-workload zoo"
            ),
        ),
        (
            [GREEN, result(LR, "nothing", why="no lr")],
            "nothing could be broken, so nothing is proven (lr × 1.001: no lr)",
        ),
    ],
)
def test_a_complaint_is_one_line_that_says_what_was_missed_and_what_that_means(
    results: list[Result], expected: str
) -> None:
    assert planted.complaint(results) == f"SELF-TEST: {SPEC} on zoo: {expected}"


@pytest.mark.parametrize(
    ("resolution", "sees"),
    [(None, "its golden sees no learning-rate change"), (0.05, "its golden sees a learning-rate change of 5.0e-02")],
)
def test_a_golden_that_sees_little_is_said_to_be_one(resolution: float | None, sees: str) -> None:
    missed = replace(result(STATE, "missed"), resolution=resolution)
    assert f"); {sees}; reproduce: " in planted.complaint([GREEN, missed])
    heavy = replace(result(SYNC, "missed"), resolution=resolution, route=COUNTS)
    assert "its golden" not in planted.complaint([GREEN, heavy])


def test_every_break_has_a_meaning() -> None:
    assert set(planted.MEANING) == set(BREAKS) - {UNTOUCHED}


def test_a_missing_golden_says_what_it_always_says() -> None:
    lines = planted.complaint(MISSING).splitlines()
    assert lines[0] == f"MISSING: {SPEC} has no golden"
    assert "--optcheck-update=missing" in lines[-1]


def test_a_junit_report_keeps_every_cell_once() -> None:
    found = planted.properties(CAUGHT)
    assert len(dict(found)) == len(found) == len(BREAKS)
    assert ("optcheck_selftest_lr", "step 3") in found


def test_results_of_real_checks_are_none_of_the_self_tests() -> None:
    real = replace(GREEN, planted=None, verdict=CHANGED)
    assert not planted.unnoticed([real])
    assert planted.totals([real]).startswith("0 breaks of 0 optimizers")


def test_the_table_does_not_import_torch() -> None:
    assert imported("pytest_optcheck.report.planted", "torch", "numpy", "scipy") == []
