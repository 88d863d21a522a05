from __future__ import annotations

from typing import Any

import pytest

from pytest_optcheck.cases import BASE, COUNTS, TIMING, Result
from pytest_optcheck.judge import Kind, Verdict
from pytest_optcheck.report import costs, message, terminal

COST: dict[str, Any] = {
    "lists": {
        "zoo": {
            "moments": {
                "first": {"ops": {"zeros_like": 900}, "syncs": 90},
                "warm": {"ops": {"add_.Tensor": 1000, "mul_.Tensor": 802}, "syncs": 3},
            },
            "parameter_bytes": 400,
            "state_bytes": 800,
        },
        "ten": {"moments": {"warm": {"ops": {"add_.Tensor": 10}}}, "parameter_bytes": 40, "state_bytes": 40},
    }
}
TIME = {"ratio": 2.345}


def measured(route: str, verdict: Verdict, *, spec: str = "toy:Adam()", golden: str | None = None) -> Result:
    figures: dict[str, Any] = {"cost": COST} if route == COUNTS else {"timing": TIME}
    return Result(spec, "zoo", "float64", "cpu", f"--optcheck-route {route}", verdict, route, golden=golden, **figures)


HEAVIER = measured(
    COUNTS, Verdict("heavier", details=("zoo, warm: 1,602 → 1,802 operations", "zoo, warm: 0 → 3 syncs"))
)
ON_TIME = measured(TIMING, Verdict("match"))


def test_counts_and_time_of_one_optimizer_share_a_row() -> None:
    assert costs.rows([HEAVIER, ON_TIME], verbose=False) == [
        ("optimizer", "workload", "verdict", "step × control", "operations", "syncs", "state"),
        ("toy:Adam()", "zoo", "HEAVIER", "2.35 ×", "1,802", "3", "2.00 ×"),
    ]


def test_what_costs_no_more_is_listed_only_on_demand() -> None:
    light = measured(COUNTS, Verdict("match"))
    assert costs.rows([light, ON_TIME], verbose=False) == []
    assert len(costs.rows([light, ON_TIME, measured(TIMING, Verdict("match"), spec="toy:SGD()")], verbose=True)) == 3


def test_results_without_figures_make_no_table() -> None:
    curve = Result("toy:Adam()", "zoo", "float64", "cpu", "", Verdict("changed"))
    assert costs.rows([curve], verbose=True) == []


def test_a_state_without_parameters_is_told_without_dividing_by_zero() -> None:
    nothing = {"lists": {"zoo": {"moments": {"warm": {"ops": {}}}, "parameter_bytes": 0, "state_bytes": 0}}}
    result = Result("s", "zoo", "float64", "cpu", "", Verdict("match"), COUNTS, cost=nothing)
    assert costs.figures(result) == {"operations": 0, "syncs": 0, "state_ratio": 0.0}


def test_what_cannot_be_compared_is_said_once_for_each_reason() -> None:
    results = [measured(TIMING, Verdict("incomparable", note)) for note in ("busy", "elsewhere", "elsewhere")]
    assert list(costs.incomparable([*results, ON_TIME])) == [
        "2 incomparable: elsewhere",
        "1 incomparable: toy:Adam() on zoo: busy",
    ]


def against_base(*notes: str, spec: str = "toy:Adam()", kind: Kind = "match") -> Result:
    return Result(spec, "zoo", "float64", "cpu", "--optcheck-base main", Verdict(kind), BASE, findings=notes)


def test_a_note_on_a_base_is_said_once_and_names_the_one_optimizer_that_it_is_on() -> None:
    both = [against_base("shared"), against_base("shared"), against_base("doubtful", "shared", spec="toy:SGD()")]
    lines = ["2 noted: shared", "1 noted: toy:SGD(): doubtful"]
    assert list(costs.noted([*both, HEAVIER])) == lines
    assert terminal.section(both, verbose=False, elapsed_s=1.0)[:-1] == lines


def test_what_a_golden_was_found_to_be_is_no_note() -> None:
    assert list(costs.noted([measured(COUNTS, Verdict("match"), golden="{}")])) == []


def test_a_failure_against_a_base_brings_its_notes() -> None:
    assert message.failure(against_base("doubtful", "shared", kind="changed")).splitlines() == [
        "CHANGED: toy:Adam() does not compute what the base does",
        "  on zoo, float64, cpu, base",
        "  noted:         doubtful",
        "                 shared",
        "  reproduce:     pytest --optcheck --optcheck-base main",
    ]


def test_a_comparison_with_a_base_claims_no_resolution() -> None:
    rows = terminal.section([against_base()], verbose=True, elapsed_s=1.0)[:2]
    assert rows[0].endswith("first step outside")
    assert rows[1].split() == ["toy:Adam()", "zoo", "base", "match"]


def test_a_lighter_step_is_told() -> None:
    lighter = measured(COUNTS, Verdict("match", details=("zoo, warm: 12 → 10 operations",)))
    assert list(costs.lighter([lighter, HEAVIER, ON_TIME])) == [
        "lighter: toy:Adam() on zoo: zoo, warm: 12 → 10 operations"
    ]


def test_a_heavier_step_is_explained_line_by_line() -> None:
    assert message.failure(HEAVIER).splitlines() == [
        "HEAVIER: toy:Adam() does more in a step than it did",
        "  on zoo, float64, cpu, counts",
        "  more:          zoo, warm: 1,602 → 1,802 operations",
        "                 zoo, warm: 0 → 3 syncs",
        "  reproduce:     pytest --optcheck --optcheck-route counts",
        "  accept:        pytest --optcheck-update=changed --optcheck-reason 'why' --optcheck-route counts",
    ]


@pytest.mark.parametrize("verbose", [False, True])
def test_the_section_holds_the_table_of_costs(verbose: bool) -> None:
    text = "\n".join(terminal.section([HEAVIER, ON_TIME], verbose=verbose, elapsed_s=1.0))
    assert text.count("2.35 ×") == 1
    assert "1 heavier" in text


def test_the_section_passes_over_what_cannot_be_compared_but_for_one_line() -> None:
    away = measured(TIMING, Verdict("incomparable", "this is another machine"))
    lines = terminal.section([away, away], verbose=False, elapsed_s=1.0)
    assert lines[0] == "2 incomparable: this is another machine"
    assert len(lines) == 2
