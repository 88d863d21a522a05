from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pytest_optcheck.cases import Result
from pytest_optcheck.judge import Kind, Verdict
from pytest_optcheck.report import message, terminal

MATCH = Verdict("match", largest=1e-16, largest_step=3, final_old=0.25, final_new=0.25)
CHANGED = Verdict(
    "changed",
    first_step=2,
    envelopes=3.1e9,
    deviation=6.2e-7,
    largest=0.13,
    largest_step=60,
    tensor="conv1.weight",
    tensor_step=2,
    final_old=0.2104,
    final_new=0.2391,
)


def result(verdict: Verdict = MATCH, *, golden: str | None = None, resolution: float | None = 1e-9) -> Result:
    return Result(
        spec="torch.optim:NAdam(lr=0.002)",
        workload="digits_cnn",
        dtype="float64",
        device="cpu",
        select="--optcheck-optimizer 'torch.optim:NAdam(lr=0.002)' --optcheck-workload digits_cnn",
        verdict=verdict,
        resolution=resolution,
        step_s=0.5,
        golden=golden,
        effect="final loss 0.2104 → 0.2391" if golden else "",
    )


def test_a_failure_names_everything_a_maintainer_asks() -> None:
    assert message.failure(result(CHANGED)).splitlines() == [
        "CHANGED: torch.optim:NAdam(lr=0.002) is no longer the algorithm its golden was recorded from",
        "  on digits_cnn, float64, cpu",
        "  first outside: step 2, by 3.1e+09 × envelope (relative deviation 6.2e-07)",
        "  largest:       relative deviation 1.3e-01 of the loss at step 60",
        "  left first:    tensor conv1.weight, seen at step 2",
        "  final loss:    0.2104 → 0.2391 (+13.6%)",
        (
            "  reproduce:     pytest --optcheck --optcheck-optimizer 'torch.optim:NAdam(lr=0.002)' "
            "--optcheck-workload digits_cnn"
        ),
        (
            "  accept:        pytest --optcheck-update=changed --optcheck-reason 'why' --optcheck-optimizer "
            "'torch.optim:NAdam(lr=0.002)' --optcheck-workload digits_cnn"
        ),
    ]


def test_a_failure_on_a_route_names_it_and_one_on_the_plain_route_does_not() -> None:
    lines = message.failure(replace(result(CHANGED), route="resume")).splitlines()
    assert lines[1] == "  on digits_cnn, float64, cpu, route resume"
    assert "route" not in message.failure(result(CHANGED)).splitlines()[1]


def test_a_schedule_that_departs_where_the_curve_does_not_is_told_without_a_place() -> None:
    note = "the learning rate of group 1 is 0.1 after 300 updates, the golden has 0.05"
    lines = message.failure(result(replace(MATCH, kind="changed", note=note))).splitlines()
    assert [line.partition(":")[0].strip() for line in lines[2:]] == ["note", "reproduce", "accept"]
    assert lines[2] == f"  note:          {note}"


@pytest.mark.parametrize("kind", list(message.HEADLINES))
def test_every_failing_verdict_ends_with_the_command_that_accepts_it(kind: Kind) -> None:
    last = message.failure(result(Verdict(kind, "a note"))).splitlines()[-1]
    mode = kind if kind in ("missing", "stale") else "changed"
    assert f"pytest --optcheck-update={mode} " in last
    assert last.endswith("--optcheck-workload digits_cnn")


def test_a_nan_is_printed_as_one() -> None:
    verdict = replace(CHANGED, kind="diverged", largest=math.inf, final_new=math.nan)
    text = message.failure(result(verdict))
    assert "0.2104 → nan" in text
    assert "relative deviation inf" in text


def test_a_run_without_a_single_loss_shows_the_goldens_alone() -> None:
    assert message.finals(result(replace(CHANGED, final_new=None))) == "0.2104"


def test_a_change_that_four_digits_do_not_show_has_no_percentage() -> None:
    assert message.finals(result(replace(CHANGED, final_new=0.21040001))) == "0.2104 → 0.2104"


def test_failures_come_first_and_matches_are_only_counted() -> None:
    lines = terminal.section([result(), result(CHANGED), result(Verdict("lost", "x"))], verbose=False, elapsed_s=21.4)
    assert "LOST" in lines[1]
    assert "CHANGED" in lines[2]
    assert "step 2, conv1.weight, 3.1e+09 × envelope" in lines[2]
    assert lines[3] == (
        "3 checked · 1 match · 1 changed · 1 lost · 0 missing        21.4 s, 1.5 s of it inside optimizer.step()"
    )
    assert len(lines) == 4


def test_matches_are_listed_with_their_resolution_when_verbose() -> None:
    lines = terminal.section([result(), result(resolution=None)], verbose=True, elapsed_s=1.0)
    assert lines[1].split()[-3:] == ["match", "0.25", "1.0e-09"]
    assert lines[2].endswith("nothing")


def test_the_table_names_the_route_or_the_dtype_of_the_plain_one() -> None:
    lines = terminal.section([result(CHANGED), replace(result(CHANGED), route="resume")], verbose=False, elapsed_s=1.0)
    assert [line.split()[2] for line in lines[1:3]] == ["float64", "resume"]
    assert lines[0].split()[:3] == ["optimizer", "workload", "route"]


def test_what_recording_found_is_told_below_its_golden() -> None:
    found = replace(result(CHANGED, golden="{}"), findings=("route resume departs by 1.0e-02", "refuses closure"))
    assert terminal.recorded([found])[1:] == ["  route resume departs by 1.0e-02", "  refuses closure"]


def test_a_recording_is_told_with_its_effect_and_a_coarse_one_is_warned_about() -> None:
    fine = result(CHANGED, golden="{}")
    lines = terminal.recorded([fine, replace(fine, resolution=0.01), replace(fine, resolution=None), result()])
    assert lines[0] == (
        "recorded torch.optim:NAdam(lr=0.002) on digits_cnn: final loss 0.2104 → 0.2391; "
        "sees a learning-rate change of 1.0e-09"
    )
    assert [line.startswith("  warning: coarse") for line in lines] == [False, False, True, False, True]
    assert "sees no learning-rate change" in lines[3]


def test_a_recorded_case_counts_as_recorded_not_as_changed() -> None:
    line = terminal.totals([result(CHANGED, golden="{}"), result()], 1.0)
    assert line.startswith("2 checked · 1 match · 0 changed · 0 missing · 1 recorded ")


def test_a_result_travels_as_a_plain_dict() -> None:
    there = result(CHANGED)
    plain = there.as_dict()
    assert type(plain["verdict"]) is dict
    assert Result.from_dict(plain) == there
