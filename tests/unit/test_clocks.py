from __future__ import annotations

import time
from itertools import count

import pytest

from pytest_optcheck.clocks import Clocks


@pytest.fixture(autouse=True)
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes whenever the time is asked for."""
    seconds = count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(seconds)))


def test_the_model_and_the_step_are_counted_apart() -> None:
    clocks = Clocks()
    with clocks.model():
        pass
    with clocks.step():
        pass
    with clocks.step():
        pass
    assert (clocks.model_s, clocks.step_s) == (1.0, 2.0)


def test_the_model_inside_a_step_is_the_model_s() -> None:
    clocks = Clocks()
    with clocks.step(), clocks.model():
        pass
    assert (clocks.model_s, clocks.step_s) == (1.0, 2.0)


def test_a_step_that_raises_is_counted_and_a_model_that_raises_is_not() -> None:
    clocks = Clocks()
    for clock in (clocks.step, clocks.model):
        with pytest.raises(ValueError, match="no"), clock():
            raise ValueError("no")
    assert (clocks.model_s, clocks.step_s) == (0.0, 1.0)
