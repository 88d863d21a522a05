from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.optim import SGD, Adagrad
from torch.optim.lr_scheduler import StepLR
from toys import Descent, toy

from pytest_optcheck.breaks import BrokenSpec, Forgets, OtherRate, Skips, Syncs, Trace, Untouched, Waits
from pytest_optcheck.cost.dispatched import Dispatched
from pytest_optcheck.specs import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor

Anything = Any
"""What an optimizer takes and returns."""


def vectors(count: int = 3) -> list[Tensor]:
    """Ones, each with a gradient of ones."""
    tensors = [torch.ones(2, requires_grad=True) for _ in range(count)]
    for tensor in tensors:
        tensor.grad = torch.ones(2)
    return tensors


def broken(build: Callable[[Iterable[Any]], Any], params: Sequence[Any], how: type[Untouched], **own: Anything) -> Any:  # noqa: ANN401 - an optimizer
    """What a spec builds that breaks the optimizer of `build`."""
    return BrokenSpec(toy(build), partial(how, **{"trace": Trace(), **own})).factory()(params)


def firsts(tensors: Iterable[Tensor]) -> list[float]:
    return [round(float(tensor.detach()[0]), 6) for tensor in tensors]


def test_an_untouched_optimizer_is_the_optimizer() -> None:
    tensors = vectors()
    optimizer = broken(partial(SGD, lr=0.5), tensors, Untouched)
    assert optimizer.step(lambda: 7.0) == 7.0
    assert firsts(tensors) == [0.5, 0.5, 0.5]
    assert optimizer.param_groups is optimizer.wrapped.param_groups


def test_a_broken_spec_goes_by_the_name_of_the_real_one() -> None:
    spec = parse("torch.optim:SGD(lr=0.1) >> StepLR(step_size=1)")
    assert BrokenSpec(spec, partial(Untouched, trace=Trace())).text == spec.text


def test_schedulers_drive_the_optimizer_inside() -> None:
    spec = BrokenSpec(parse("torch.optim:SGD(lr=0.1) >> StepLR(step_size=1)"), partial(Untouched, trace=Trace()))
    optimizer = spec.factory()(vectors())
    (scheduler,) = spec.schedules()(optimizer)
    optimizer.step()
    scheduler.step()
    assert [round(group["lr"], 6) for group in optimizer.param_groups] == [0.01]


def test_schedulers_that_a_factory_makes_come_along() -> None:
    def build(params: Iterable[Any]) -> tuple[SGD, list[StepLR]]:
        optimizer = SGD(params, lr=0.1)
        return optimizer, [StepLR(optimizer, 1)]

    made = broken(build, vectors(), Untouched)
    assert (type(made[0]), [type(scheduler) for scheduler in made[1]]) == (Untouched, [StepLR])


@pytest.mark.parametrize("lr", [0.5, torch.tensor(0.5)])
def test_another_rate_is_there_during_the_step_alone(lr: Anything) -> None:
    tensors, trace = vectors(1), Trace()
    optimizer = broken(partial(SGD, lr=lr), tensors, OtherRate, factor=1.5, trace=trace)
    optimizer.step()
    assert firsts(tensors) == [0.25]
    assert optimizer.param_groups[0]["lr"] is lr
    assert trace.found


def test_the_rate_comes_back_after_a_step_that_raises() -> None:
    tensors = vectors(1)
    optimizer = broken(partial(SGD, lr=0.5), tensors, OtherRate, factor=1.5)

    def fail() -> None:
        raise ValueError("no loss")

    with pytest.raises(ValueError, match="no loss"):
        optimizer.step(fail)
    assert optimizer.param_groups[0]["lr"] == 0.5


class Rateless(Descent):
    """Gradient descent that keeps its learning rate to itself."""

    def __init__(self, params: Iterable[Any]) -> None:
        super().__init__(params)
        for group in self.param_groups:
            group.pop("lr")

    def step(self) -> None:
        with torch.no_grad():
            for parameter in self.parameters:
                parameter.sub_(0.1)


@pytest.mark.parametrize("build", [Rateless, lambda params: Descent(params, lr=None)])  # type: ignore[arg-type] # as rules without a rate have it
def test_an_optimizer_without_a_rate_is_found_to_be_one(build: Anything) -> None:
    trace, tensors = Trace(), vectors(0)
    broken(build, tensors, OtherRate, factor=1.5, trace=trace).step()
    assert not trace.found


def test_the_last_tensor_that_moves_is_put_back_every_time() -> None:
    """The third has no gradient at first and is none that is skipped."""
    tensors, trace = vectors(3), Trace()
    tensors[2].grad = None
    optimizer = broken(partial(SGD, lr=0.25), tensors, Skips, trace=trace)
    optimizer.step()
    assert firsts(tensors) == [0.75, 1.0, 1.0]
    tensors[2].grad = torch.ones(2)
    optimizer.step()
    assert firsts(tensors) == [0.5, 1.0, 0.75]
    assert trace.found


def test_where_nothing_moves_there_is_nothing_to_skip() -> None:
    trace = Trace()
    optimizer = broken(partial(SGD, lr=0.0), vectors(), Skips, trace=trace)
    optimizer.step()
    assert not trace.found


@pytest.mark.parametrize("grouped", [False, True])
def test_a_lost_velocity_begins_anew(grouped: bool) -> None:
    """Of two steps at momentum 0.5 the second is 1.5 times the first; without its velocity it is as long."""
    tensors, trace = vectors(2), Trace()
    params = [{"params": [tensor]} for tensor in tensors] if grouped else tensors
    optimizer = broken(partial(SGD, lr=0.1, momentum=0.5), params, Forgets, after=2, trace=trace)
    found = []
    for _ in range(4):
        optimizer.step()
        found.append(firsts(tensors)[0])
    assert found == [0.9, 0.75, 0.65, 0.5]
    assert trace.found


def test_state_that_a_constructor_makes_is_made_again() -> None:
    build = partial(Adagrad, lr=0.1, initial_accumulator_value=2.0)
    tensors, trace = vectors(1), Trace()
    optimizer = broken(build, tensors, Forgets, after=1, trace=trace)
    optimizer.step()
    optimizer.step()
    assert optimizer.state[tensors[0]]["sum"].tolist() == [3.0, 3.0]
    assert (trace.found, trace.trouble) == (True, "")


def test_groups_outlive_the_loss_with_their_settings_their_schedulers_and_those_that_joined() -> None:
    tensors = vectors(2)
    optimizer = broken(partial(SGD, lr=0.1, momentum=0.5), tensors[:1], Forgets, after=1)
    scheduler = StepLR(optimizer.wrapped, 1)
    optimizer.step()
    optimizer.add_param_group({"params": tensors[1:], "momentum": 0.25})
    scheduler.step()
    optimizer.step()
    assert [(round(g["lr"], 6), g["momentum"]) for g in optimizer.param_groups] == [(0.01, 0.5), (0.01, 0.25)]
    assert firsts(tensors) == [0.89, 0.99]


def test_an_optimizer_without_state_is_found_to_be_one() -> None:
    trace = Trace()
    optimizer = broken(partial(SGD, lr=0.1), vectors(), Forgets, after=1, trace=trace)
    optimizer.step()
    optimizer.step()
    assert not trace.found


def test_one_that_cannot_be_built_twice_stays_and_says_why() -> None:
    built: list[Descent] = []

    def once(params: Iterable[Any]) -> Descent:
        if built:
            raise RuntimeError("once is enough")
        built.append(Descent(params))
        return built[0]

    trace = Trace()
    optimizer = broken(once, vectors(), Forgets, after=0, trace=trace)
    optimizer.step()
    assert (trace.trouble, built[0].updates) == ("RuntimeError: once is enough", 1)


class Moody(Descent):
    """Trains after ``train()`` only."""

    training = False

    def train(self) -> None:
        self.training = True

    def step(self) -> None:
        assert self.training
        super().step()


def test_one_that_has_modes_trains_after_the_loss_too() -> None:
    optimizer = broken(Moody, vectors(), Forgets, after=1)
    optimizer.train()
    optimizer.step()
    optimizer.step()
    assert optimizer.wrapped.updates == 1


def test_a_sync_more_is_one_sync_more_in_every_step() -> None:
    syncs = {}
    for how in (Untouched, Syncs):
        trace, meter = Trace(), Dispatched()
        optimizer = broken(partial(SGD, lr=0.1), vectors(), how, trace=trace)
        meter.run([optimizer.step, optimizer.step])
        syncs[how] = (meter.counts().syncs, trace.found)
    assert syncs == {Untouched: (0, False), Syncs: (2, True)}


@pytest.mark.parametrize("how", [Skips, Syncs])
def test_an_optimizer_that_holds_no_tensors_leaves_nothing_to_break(how: type[Untouched]) -> None:
    class Groupless:
        def step(self) -> None:
            """Nothing."""

    trace = Trace()
    broken(lambda _: Groupless(), [], how, trace=trace).step()
    assert not trace.found


def test_a_wait_makes_the_step_longer_by_its_share() -> None:
    class Slow(Descent):
        def step(self) -> None:
            time.sleep(0.02)

    optimizer = broken(Slow, vectors(), Waits, share=0.5)
    started_s = time.perf_counter()
    optimizer.step()
    assert time.perf_counter() - started_s >= 0.03
