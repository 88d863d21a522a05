from __future__ import annotations

import math
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import msgspec
import pytest
from toys import Descent, toy

from pytest_optcheck.conditions import NOTHING
from pytest_optcheck.cost import clock, control, ratios, stopwatch
from pytest_optcheck.cost.control import NoTimingError, against_control, compare
from pytest_optcheck.cost.figures import Timing
from pytest_optcheck.cost.locks import DeviceLock, NoLockError
from pytest_optcheck.cost.stopwatch import Sample, Samples

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

SPEC = toy(Descent)
GOLDEN = Timing(fingerprint={}, ratio=3.0, spread=0.01, blocks=24, control_spread=0.01)


class Bench:
    """A machine on which a step takes what it is told.

    Attributes:
        ratio: of the step to the control.
        noise: log ratio of control and control.
        scatter: of blocks, one standard deviation.
        blocks: timed so far.
    """

    def __init__(self) -> None:
        self.ratio = 3.0
        self.noise = 0.0
        self.scatter = 0.0
        self.disturbed = False
        self.blocks = 0
        self.random = Random(0)  # noqa: S311 - draws that a test repeats

    def block(self, sides: Sequence[object], _shuffle: Random) -> Samples:
        assert len(sides) == 3
        self.blocks += 1
        step = self.ratio * math.exp(self.random.gauss(0, self.scatter))
        times = (step, math.exp(self.noise / 2), math.exp(-self.noise / 2))
        return [[Sample(seconds, self.disturbed)] * 5 for seconds in times]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    made = Bench()
    monkeypatch.setattr(control, "block", made.block)
    monkeypatch.setattr(control, "DeviceLock", lambda name: DeviceLock(name, tmp_path, 0.05))
    monkeypatch.setattr(clock.CpuClock, "trouble", lambda _: "")
    return made


def test_a_recording_keeps_ratio_spreads_and_machine(bench: Bench) -> None:
    bench.scatter, bench.noise = 0.02, 0.01
    timing = against_control(SPEC, NOTHING, "cpu")
    assert timing.ratio == pytest.approx(3.0, rel=0.02)
    assert timing.spread == pytest.approx(0.02, rel=0.5)
    assert timing.control_spread == pytest.approx(0.0, abs=1e-9)
    assert timing.blocks == bench.blocks == control.RECORDED
    assert timing.fingerprint["threads"] == "1"
    assert msgspec.json.decode(msgspec.json.encode(timing), type=Timing) == timing


@pytest.mark.parametrize(
    ("slowdown", "answer"), [(1.0, "not slower"), (0.5, "not slower"), (1.2, "not slower"), (1.3, "slower")]
)
def test_a_step_is_compared_with_its_golden_s_ratio(bench: Bench, slowdown: float, answer: str) -> None:
    golden = against_control(SPEC, NOTHING, "cpu")
    bench.ratio *= slowdown
    found = compare(SPEC, NOTHING, "cpu", [golden])
    assert found.decision.answer == answer
    assert found.decision.ratio == pytest.approx(slowdown)
    assert found.ratio == pytest.approx(3.0 * slowdown)
    assert found.margin == pytest.approx(0.25)


def test_a_golden_whose_blocks_scattered_bears_more(bench: Bench) -> None:
    golden = msgspec.structs.replace(against_control(SPEC, NOTHING, "cpu"), spread=0.08)
    bench.ratio *= 1.4
    found = compare(SPEC, NOTHING, "cpu", [golden])
    assert found.decision.answer == "not slower"
    assert found.margin == pytest.approx(math.expm1(control.FACTOR * 0.08))


def test_blocks_that_scatter_more_than_the_golden_s_did_call_nothing_slower(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = against_control(SPEC, NOTHING, "cpu")
    bench.ratio, bench.scatter = bench.ratio * 1.6, 0.15
    found = compare(SPEC, NOTHING, "cpu", [golden])
    assert found.decision.answer == "cannot tell"
    assert found.decision.reason.endswith("here, where those of the golden did by 0.0%")
    monkeypatch.setattr(control, "FACTOR", 1.0)
    assert compare(SPEC, NOTHING, "cpu", [golden]).decision.answer == "slower"


def test_the_golden_of_this_machine_is_found_among_others(bench: Bench) -> None:
    golden = against_control(SPEC, NOTHING, "cpu")
    other = msgspec.structs.replace(golden, fingerprint={"cpu": "another"}, ratio=1.0)
    assert compare(SPEC, NOTHING, "cpu", [other, golden, other]).decision.answer == "not slower"
    assert bench.blocks == control.RECORDED + ratios.LEAD


def test_another_machine_s_golden_says_nothing_and_no_time_is_spent(bench: Bench) -> None:
    golden = against_control(SPEC, NOTHING, "cpu")
    elsewhere = {**golden.fingerprint, "cpu": "Abacus", "cores": "12"}
    here = golden.fingerprint
    with pytest.raises(NoTimingError) as caught:
        compare(SPEC, NOTHING, "cpu", [msgspec.structs.replace(golden, fingerprint=elsewhere)])
    expected = f"steps were timed elsewhere: this is cpu {here['cpu']}, not Abacus, cores {here['cores']}, not 12"
    assert str(caught.value) == expected
    assert bench.blocks == control.RECORDED


def test_a_golden_without_a_timing_says_how_to_add_one(bench: Bench) -> None:
    with pytest.raises(NoTimingError, match="no step was timed yet; pytest --optcheck-update=missing does it"):
        compare(SPEC, NOTHING, "cpu", [])
    assert bench.blocks == 0


@pytest.mark.parametrize("ask", [against_control, partial(compare, timings=[GOLDEN])])
def test_a_machine_in_trouble_is_not_asked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, ask: Callable[..., object]
) -> None:
    monkeypatch.setattr(clock.CpuClock, "trouble", lambda _: "9 other programs compute on 2 cores")
    monkeypatch.setattr(clock.CpuClock, "fingerprint", lambda _: {})
    with pytest.raises(NoTimingError, match="9 other programs compute on 2 cores"):
        ask(SPEC, NOTHING, "cpu")
    assert bench.blocks == 0


def test_without_the_lock_nothing_is_timed(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(control, "DeviceLock", lambda name: DeviceLock(name, tmp_path / "nowhere", 0.05))
    with pytest.raises(NoTimingError, match="cannot be opened"):
        against_control(SPEC, NOTHING, "cpu")
    assert bench.blocks == 0


def test_the_device_is_locked_while_blocks_are_timed_and_free_after(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def block(sides: Sequence[object], shuffle: Random) -> Samples:
        with pytest.raises(NoLockError):
            DeviceLock("cpu", tmp_path, 0.0).exclusive().__enter__()
        return bench.block(sides, shuffle)

    monkeypatch.setattr(control, "block", block)
    against_control(SPEC, NOTHING, "cpu")
    with DeviceLock("cpu", tmp_path, 0.0).exclusive():
        assert bench.blocks == control.RECORDED


def test_an_optimizer_that_takes_no_tensor_cannot_be_timed(bench: Bench) -> None:
    class Picky(Descent):
        def step(self) -> None:
            raise ValueError("only cubes, please")

    with pytest.raises(NoTimingError, match="takes none of the tensors it could be timed on: ValueError: only cubes"):
        against_control(toy(Picky), NOTHING, "cpu")
    assert bench.blocks == 0


def test_identical_code_that_differs_is_not_recorded(bench: Bench) -> None:
    bench.noise = 0.06
    with pytest.raises(NoTimingError, match=r"identical code differs by 6\.2% here"):
        against_control(SPEC, NOTHING, "cpu")


def test_disturbed_blocks_are_not_recorded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratios, "LIMIT_S", 0.05)
    bench.disturbed = True
    with pytest.raises(NoTimingError, match=r"the time was up after \d+ blocks, \d+ of them disturbed"):
        against_control(SPEC, NOTHING, "cpu")
    assert bench.blocks > control.RECORDED


def test_no_block_is_begun_after_the_time_is_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = against_control(SPEC, NOTHING, "cpu")
    monkeypatch.setattr(ratios, "LIMIT_S", 0.0)
    monkeypatch.setattr(ratios, "LONGEST_S", 0.0)
    found = compare(SPEC, NOTHING, "cpu", [golden])
    assert found.decision.answer == "cannot tell"
    assert bench.blocks == control.RECORDED


def test_slow_steps_are_given_the_time_that_an_answer_takes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 0.2 s a block, two seconds would screen, and never confirm."""
    golden = against_control(SPEC, NOTHING, "cpu")
    bench.ratio, bench.blocks = 2 * bench.ratio, 0
    monkeypatch.setattr(stopwatch, "monotonic", lambda: 0.2 * bench.blocks)
    found = compare(SPEC, NOTHING, "cpu", [golden])
    assert (found.decision.answer, bench.blocks) == ("slower", ratios.LEAD + ratios.CONFIRM[0])


def test_a_real_step_is_not_slower_than_itself_or_says_why_it_cannot_be_told() -> None:
    try:
        golden = against_control(SPEC, NOTHING, "cpu")
        found = compare(SPEC, NOTHING, "cpu", [golden])
    except NoTimingError as error:
        assert str(error)  # noqa: PT017 - a busy machine
        return
    assert 0.05 < golden.ratio < 20
    assert found.decision.answer != "slower"
