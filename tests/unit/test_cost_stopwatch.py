from __future__ import annotations

import gc
import math
import os
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import pytest

from pytest_optcheck.cost import stopwatch
from pytest_optcheck.cost.ratios import Block
from pytest_optcheck.cost.stopwatch import Sample, against_both, block, log_ratio, undistracted

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class FakeSide:
    """A side whose steps take what it is told, and that writes down what it is asked for.

    Attributes:
        name: in the log.
        step_s: seconds a step.
        log: of all sides of a block.
        steps: asked for in each sample.
    """

    name: str
    step_s: float
    log: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    def fresh(self) -> float:
        self.log.append(f"fresh {self.name}")
        return self.step_s

    def sample(self, steps: int) -> Sample:
        self.log.append(self.name)
        self.steps.append(steps)
        return Sample(self.step_s)

    def leave(self) -> None:
        self.log.append(f"leave {self.name}")


def seeded(seed: int = 0) -> Random:
    return Random(seed)  # noqa: S311 - an order that a test repeats


def samples(*step_s: float) -> list[Sample]:
    return [Sample(seconds) for seconds in step_s]


def rounds_of(log: list[str], sides: int) -> list[str]:
    """Who was sampled in each round, in order."""
    return ["".join(log[at : at + sides]) for at in range(sides, len(log) - sides, sides)]


def test_a_block_is_fresh_sides_rounds_of_all_and_every_side_s_leave() -> None:
    log: list[str] = []
    block([FakeSide(name, 1e-4, log) for name in "abc"], seeded())
    assert sorted(log[:3]) == ["fresh a", "fresh b", "fresh c"]
    assert log[-3:] == [line.replace("fresh", "leave") for line in reversed(log[:3])]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds_of(log, 3))


def test_the_first_round_does_not_count() -> None:
    class Warming(FakeSide):
        def sample(self, steps: int) -> Sample:
            return super().sample(steps)._replace(step_s=float(len(self.steps)))

    sides = [Warming(name, 1e-4) for name in "ab"]
    found = block(sides, seeded())
    assert [len(side.steps) for side in sides] == [stopwatch.ROUNDS + 1] * 2
    assert [[sample.step_s for sample in row] for row in found] == [
        [2.0 + part for part in range(stopwatch.ROUNDS)]
    ] * 2


def test_sides_are_made_and_sampled_in_every_order() -> None:
    made, sampled = set(), set()
    for seed in range(20):
        log: list[str] = []
        block([FakeSide(name, 1e-4, log) for name in "abc"], seeded(seed))
        made.add("".join(line[-1] for line in log[:3]))
        sampled |= set(rounds_of(log, 3))
    assert len(made) == len(sampled) == math.factorial(3)


def test_the_same_seed_gives_the_same_order() -> None:
    logs: list[list[str]] = [[], [], []]
    for log, seed in zip(logs, (7, 7, 8), strict=True):
        block([FakeSide(name, 1e-4, log) for name in "ab"], seeded(seed))
    assert logs[0] == logs[1] != logs[2]


def test_a_sample_has_as_many_steps_as_make_it_long_enough() -> None:
    quick, slow = FakeSide("quick", stopwatch.SAMPLE_S / 7.5), FakeSide("slow", 2 * stopwatch.SAMPLE_S)
    block([quick, slow], seeded())
    assert set(quick.steps) == {8}
    assert set(slow.steps) == {1}


def test_sides_of_the_same_algorithm_make_the_same_steps() -> None:
    sides = [FakeSide(str(part), stopwatch.SAMPLE_S / part) for part in (3, 4, 9)]
    block(sides, seeded(), alike=True)
    assert [set(side.steps) for side in sides] == [{4}] * 3


@pytest.mark.parametrize(
    ("step_s", "rounds"),
    [(stopwatch.BLOCK_S / 20, 10), (stopwatch.BLOCK_S, stopwatch.LEAST), (1e-4, stopwatch.ROUNDS)],
)
def test_a_block_of_slow_steps_has_fewer_rounds_but_enough(step_s: float, rounds: int) -> None:
    found = block([FakeSide("a", step_s), FakeSide("b", step_s)], seeded())
    assert [len(row) for row in found] == [rounds, rounds]


def test_every_side_that_was_asked_leaves_where_one_raises() -> None:
    class Raising(FakeSide):
        def fresh(self) -> float:
            super().fresh()
            raise RuntimeError(self.name)

    for seed in range(6):
        log: list[str] = []
        with pytest.raises(RuntimeError, match="b"):
            block([FakeSide("a", 1e-4, log), Raising("b", 1e-4, log), FakeSide("c", 1e-4, log)], seeded(seed))
        made = [line for line in log if line.startswith("fresh")]
        assert made[-1] == "fresh b"
        assert log == [*made, *(line.replace("fresh", "leave") for line in reversed(made))]
        assert gc.isenabled()


def test_the_ratio_is_that_of_the_steps_within_a_round() -> None:
    drift = [1.0, 2.0, 4.0, 8.0, 16.0]
    ratio = log_ratio(samples(*(1.1 * pace for pace in drift)), samples(*drift))
    assert ratio == pytest.approx(math.log(1.1))


def test_a_few_rounds_that_went_astray_do_not_move_the_ratio() -> None:
    steady = [1.0] * 20
    astray = [*steady[:15], 50.0, 60.0, 70.0, 80.0, 90.0]
    ratio = log_ratio(samples(*astray), samples(*steady))
    assert ratio == 0.0


def test_disturbed_rounds_are_left_out_whichever_side_it_was() -> None:
    one = [*samples(1.1, 1.1, 1.1, 1.1, 1.1), Sample(99.0, disturbed=True), Sample(1.0)]
    two = [*samples(1.0, 1.0, 1.0, 1.0, 1.0), Sample(1.0), Sample(99.0, disturbed=True)]
    assert log_ratio(one, two) == pytest.approx(math.log(1.1))


def test_too_few_undisturbed_rounds_say_nothing() -> None:
    least = samples(*[1.0] * stopwatch.LEAST)
    assert log_ratio(least, least) == 0.0
    assert log_ratio([*least[1:], Sample(1.0, disturbed=True)], least) is None


def test_it_scatters_a_quarter_less_than_the_median_of_the_rounds() -> None:
    random = seeded(1)
    blocks = [[random.gauss(0, 0.05) for _ in range(25)] for _ in range(300)]
    ours = [log_ratio(samples(*map(math.exp, logs)), samples(*[1.0] * 25)) for logs in blocks]
    medians = [sorted(logs)[12] for logs in blocks]

    def square(values: list[float]) -> float:
        return sum(value * value for value in values) / len(values)

    assert square([value for value in ours if value is not None]) < 0.75 * square(medians)


def test_a_side_stands_against_the_mean_of_two_whose_difference_is_the_noise() -> None:
    found = against_both(samples(*[3.0] * 5), samples(*[1.0] * 5), samples(*[2.0] * 5))
    assert found is not None
    assert found.ratio == pytest.approx(math.log(3 / math.sqrt(2)))
    assert found.noise == pytest.approx(math.log(1 / 2))


def test_a_block_in_which_one_side_was_disturbed_throughout_says_nothing() -> None:
    good = samples(*[1.0] * 5)
    assert against_both(good, good, good) == Block(0.0, 0.0, 1.0)
    assert against_both(good, good, [Sample(1.0, disturbed=True)] * 5) is None
    assert against_both([Sample(1.0, disturbed=True)] * 5, good, good) is None


@pytest.fixture
def collecting() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


@pytest.mark.usefixtures("collecting")
def test_within_a_block_the_collector_rests_and_comes_back_even_after_an_error() -> None:
    enabled = []

    def work() -> None:
        with undistracted(), undistracted():
            enabled.append(gc.isenabled())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert enabled == [False]
    assert gc.isenabled()


@pytest.mark.usefixtures("collecting")
def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with undistracted():
        pass
    assert not gc.isenabled()


def test_within_a_block_the_thread_stays_on_one_core_the_same_for_everyone() -> None:
    allowed = os.sched_getaffinity(0)
    with undistracted():
        outer = os.sched_getaffinity(0)
        with undistracted():
            assert os.sched_getaffinity(0) == outer == {max(allowed)}
    assert os.sched_getaffinity(0) == allowed


def test_a_system_without_a_choice_of_cores_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "sched_setaffinity", None)
    with undistracted():
        assert not gc.isenabled()
