from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import pytest

from pytest_optcheck.cost import ratios, stopwatch, versus
from pytest_optcheck.cost.control import NoTimingError
from pytest_optcheck.cost.locks import NoLockError
from pytest_optcheck.cost.stopwatch import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_optcheck.cost.stopwatch import Side


class FakeClock:
    """Moves on by what steps take."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def fake_clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    made = FakeClock()
    monkeypatch.setattr(stopwatch, "monotonic", made)
    monkeypatch.setattr(Steady, "clock", made)
    return made


class Steady:
    """A side whose steps take exactly so long."""

    clock = FakeClock()

    def __init__(self, step_s: float) -> None:
        self.step_s = step_s
        self.left = 0

    def fresh(self) -> float:
        self.clock.now_s += 3 * self.step_s
        return self.step_s

    def sample(self, steps: int) -> Sample:
        self.clock.now_s += steps * self.step_s
        return Sample(self.step_s)

    def leave(self) -> None:
        self.left += 1


class Company:
    """Gives sides, and counts how often it was asked."""

    def __init__(self, *step_s: float) -> None:
        self.sides = [Steady(seconds) for seconds in step_s]
        self.entered = 0

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Sequence[Side]]:
        self.entered += 1
        yield self.sides


class Watch:
    """Of a machine left alone, unless it says why not."""

    name = "cpu"

    def __init__(self, why: str = "") -> None:
        self.why = why

    def trouble(self) -> str:
        return self.why


def test_the_same_speed_is_not_slower_after_one_look() -> None:
    first, second = Company(1e-4, 1e-4, 1e-4), Company(1e-4, 1e-4, 1e-4)
    assert versus.compare(first, second, Watch()).answer == "not slower"
    assert (first.entered, second.entered) == (1, 0)
    assert all(side.left for side in first.sides)


def test_a_suspicion_is_confirmed_in_other_processes() -> None:
    first, second = Company(1.1e-4, 1e-4, 1e-4), Company(1.1e-4, 1e-4, 1e-4)
    found = versus.compare(first, second, Watch())
    assert found.answer == "slower"
    assert math.isclose(found.ratio, 1.1)
    assert (first.entered, second.entered) == (1, 1)


def test_a_suspicion_that_other_processes_do_not_share_is_no_slowdown() -> None:
    found = versus.compare(Company(1.1e-4, 1e-4, 1e-4), Company(1e-4, 1e-4, 1e-4), Watch())
    assert found.answer == "not slower"


def test_two_per_cent_is_within_the_margin() -> None:
    assert versus.compare(Company(1.019e-4, 1e-4, 1e-4), Company(), Watch()).answer == "not slower"


def test_processes_of_the_old_code_that_differ_as_much_say_nothing() -> None:
    company = Company(1.05e-4, 1e-4, 1.06e-4)
    assert versus.compare(company, company, Watch()).answer == "cannot tell"


def test_a_busy_machine_is_not_asked() -> None:
    with pytest.raises(NoTimingError, match="3 other programs"):
        versus.compare(Company(1e-4, 1e-4, 1e-4), Company(), Watch("3 other programs compute on 2 cores"))


def test_a_lock_that_is_not_to_be_had_means_no_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Taken:
        def __init__(self, device: str) -> None:
            assert device == "cpu"

        def exclusive(self) -> contextlib.AbstractContextManager[None]:
            raise NoLockError("held by another process")

    monkeypatch.setattr(versus, "DeviceLock", Taken)
    with pytest.raises(NoTimingError, match="held by another process"):
        versus.compare(Company(1e-4, 1e-4, 1e-4), Company(), Watch())


def test_time_runs_out_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratios, "LIMIT_S", 0.01)
    monkeypatch.setattr(ratios, "LONGEST_S", 0.01)
    second = Company()
    found = versus.compare(Company(2e-4, 1e-4, 1e-4), second, Watch())
    assert found.answer == "cannot tell"
    assert found.reason.startswith("the time was up after 1 blocks (a step takes 0.2 ms)")
    assert second.entered == 0


@pytest.mark.parametrize("step_s", [1e-4, 1e-3, 2e-3, 5e-3, 1e-2])
def test_slow_steps_are_given_the_time_that_an_answer_takes(step_s: float, fake_clock: FakeClock) -> None:
    first, second = Company(2 * step_s, step_s, step_s), Company(2 * step_s, step_s, step_s)
    found = versus.compare(first, second, Watch())
    assert (found.answer, found.blocks) == ("slower", ratios.CONFIRM[0])
    assert fake_clock.now_s < ratios.LONGEST_S


def test_slow_steps_of_the_same_speed_take_no_longer_than_one_look(fake_clock: FakeClock) -> None:
    found = versus.compare(Company(0.02, 0.02, 0.02), Company(), Watch())
    assert (found.answer, found.blocks) == ("not slower", ratios.LEAD)
    assert fake_clock.now_s < ratios.LONGEST_S / 2


def test_steps_too_slow_for_an_answer_are_named(fake_clock: FakeClock) -> None:
    company = Company(0.06, 0.03, 0.03)
    found = versus.compare(company, company, Watch())
    assert found.answer == "cannot tell"
    assert found.reason.startswith("the time was up after 8 blocks (a step takes 60 ms); 2 of 2 blocks lie above 2%")
    assert fake_clock.now_s < ratios.LONGEST_S + 1.2
