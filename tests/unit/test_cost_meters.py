from __future__ import annotations

import cProfile
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from pytest_optcheck.cost.meters import Calls, Kernels, Unmetered

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from pytest_optcheck.cost.meters import Meter


def kernels(*actions: Callable[[], object]) -> dict[str, int]:
    """Operations at every depth while they ran."""
    meter = Kernels()
    meter.run(actions)
    return meter.counted


def calls(*actions: Callable[[], object]) -> Calls:
    """What was counted while they ran."""
    meter = Calls()
    meter.run(actions)
    return meter


def test_without_a_meter_things_just_run() -> None:
    tensor = torch.zeros(2)
    meter = Unmetered()

    def action() -> None:
        with meter.aside():
            tensor.add_(1.0)

    meter.run([action, action])
    assert tensor.tolist() == [2.0, 2.0]


def test_a_foreach_operation_over_ten_tensors_shows_ten() -> None:
    tensors = [torch.ones(3) for _ in range(10)]
    others = [torch.ones(3) for _ in range(10)]
    assert kernels(lambda: torch._foreach_add_(tensors, others)) == {"_foreach_add_": 1, "add_": 10}


def test_operations_are_counted_at_every_depth() -> None:
    tensor = torch.ones(3)
    assert kernels(tensor[0].item) == {
        "item": 1,
        "_local_scalar_dense": 1,
    }


def test_ranges_that_someone_named_are_no_operations() -> None:
    tensor = torch.ones(3)
    optimizer = torch.optim.SGD([tensor], lr=0.1)
    tensor.grad = torch.ones(3)
    assert not any("SGD" in name for name in kernels(optimizer.step))


def test_the_profiler_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    kernels(lambda: torch.ones(3))
    assert capfd.readouterr() == ("", "")


def test_the_profiler_is_switched_off_by_what_raises() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        kernels(fail)
    tensor = torch.ones(3)
    assert kernels(tensor.sqrt_) == {"sqrt_": 1}


def doing_something_aside(meter: Meter, tensor: torch.Tensor) -> Callable[[], None]:
    """An action with an evaluation in it."""

    def action() -> None:
        tensor.sqrt_()
        with meter.aside():
            identity(tensor.sum().mul_(tensor.max()))
        tensor.sqrt_()

    return action


def identity(value: object) -> object:
    """A Python call."""
    return value


def test_what_is_put_aside_runs_no_operations() -> None:
    meter = Kernels()
    meter.run([doing_something_aside(meter, torch.ones(3))])
    assert meter.counted == {"sqrt_": 2}


def test_what_is_put_aside_makes_no_calls() -> None:
    meter = Calls()
    meter.run([doing_something_aside(meter, torch.ones(3))])
    assert meter.counted == 1  # the action itself


def test_calls_of_python_functions_are_counted_and_no_others() -> None:
    def action() -> None:
        for _ in range(3):
            identity(len([1, 2]))

    assert calls(action).counted == 1 + 3
    assert calls(action, action).counted == 2 * (1 + 3)
    assert calls(torch.ones(3).sqrt_).counted == 0


def test_a_list_of_numbers_is_a_sync_that_dispatches_nothing() -> None:
    tensor = torch.ones(3)
    assert calls(tensor.tolist, tensor.tolist).syncs == 2
    assert calls(memoryview(b"a").tolist).syncs == 0


def test_a_step_on_another_device_does_not_wait_for_a_list_of_the_cpu() -> None:
    meter = Calls("cuda")
    meter.run([torch.ones(3).tolist])
    assert meter.syncs == 0


def test_whoever_was_profiling_goes_on() -> None:
    seen = []

    def profile(frame: FrameType, event: str, argument: object) -> None:
        del argument
        seen.append((frame.f_code.co_name, event))

    former = sys.getprofile()
    sys.setprofile(profile)
    try:
        calls(lambda: identity(1))
        identity(2)
        now = sys.getprofile()
    finally:
        sys.setprofile(former)
    assert now is profile
    assert [name for name, event in seen if event == "call" and name == "identity"] == ["identity"]


def test_a_profiler_written_in_c_goes_on_too() -> None:
    profiler = cProfile.Profile()
    profiler.enable()
    meter = calls(lambda: identity(1))
    identity(2)
    profiler.disable()
    assert meter.counted == 2
    assert any(getattr(entry.code, "co_name", "") == "identity" for entry in profiler.getstats())


def test_nothing_profiles_after_what_raised() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    former = sys.getprofile()
    with pytest.raises(ZeroDivisionError):
        calls(fail)
    assert sys.getprofile() is former
