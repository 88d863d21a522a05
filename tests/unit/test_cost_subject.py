from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest
import torch

from pytest_optcheck.building import plain
from pytest_optcheck.cost.dispatched import Dispatched
from pytest_optcheck.cost.lists import load
from pytest_optcheck.cost.meters import Unmetered
from pytest_optcheck.cost.subject import Subject
from pytest_optcheck.curves import Needs
from pytest_optcheck.specs import FactorySpec, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

NAMES = ["weight0", "bias0"]
BYTES = 4 * (16 * 12 + 16)


@pytest.fixture(autouse=True)
def _collector_off() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def subject(optimizer: str | Callable[[Iterable[Any]], Any], **needs: Any) -> Subject:  # noqa: ANN401 - fields of Needs
    """An optimizer on a matrix and a vector."""
    spec = parse(optimizer) if isinstance(optimizer, str) else FactorySpec("made", optimizer)
    return Subject(plain(spec), load("ten"), Needs(**needs), "cpu", NAMES)


def test_only_what_is_named_is_handed_over() -> None:
    made = subject("torch.optim:SGD(lr=0.1)")
    assert [tuple(parameter.shape) for parameter in made.parameters] == [(16, 12), (16,)]
    assert made.optimizer.param_groups[0]["params"] == made.parameters
    assert made.parameter_bytes == BYTES


def test_state_is_what_is_kept_besides_the_parameters() -> None:
    made = subject("torch.optim:SGD(lr=0.1, momentum=0.9)")
    assert made.state_bytes == 0
    made.update(Unmetered())
    assert made.state_bytes == BYTES


def test_gradients_change_from_update_to_update_and_are_gone_after_it() -> None:
    made = subject("torch.optim:SGD(lr=1.0)")
    moves = []
    for _ in range(2):
        before = made.parameters[1].detach().clone()
        made.update(Unmetered())
        moves.append(before - made.parameters[1].detach())
        assert all(parameter.grad is None for parameter in made.parameters)
    assert moves[0].any()
    assert not torch.equal(*moves)


def test_how_gradients_come_about_is_not_metered() -> None:
    ops = subject("torch.optim:SGD(lr=0.1)").update(Dispatched()).counts().ops
    assert ops == {"add_.Tensor": 2}


def test_schedulers_are_stepped_with_every_update() -> None:
    made = subject("torch.optim:SGD(lr=1.0) >> ExponentialLR(gamma=0.5)")
    made.update(Unmetered())
    made.update(Unmetered())
    assert made.optimizer.param_groups[0]["lr"] == 0.25


@pytest.mark.parametrize("lr", [1.0, torch.tensor(1.0)], ids=["number", "tensor"])
def test_rates_are_halved(lr: float | torch.Tensor) -> None:
    made = subject(lambda params: torch.optim.Adam(params, lr=lr))
    group = made.optimizer.param_groups[0]
    tensor = group["lr"]
    made.halve_rates()
    assert float(group["lr"]) == 0.5
    assert (group["lr"] is tensor) == isinstance(lr, torch.Tensor)


def test_moved_parameters_have_other_memory_and_the_same_values() -> None:
    made = subject("torch.optim:SGD(lr=1.0)")
    before = [parameter.detach().clone() for parameter in made.parameters]
    addresses = set()
    for _ in range(3):
        addresses.add(made.parameters[0].data_ptr())
        made.move()
    addresses.add(made.parameters[0].data_ptr())
    assert len(addresses) == 4
    assert all(torch.equal(*pair) for pair in zip(before, made.parameters, strict=True))


def test_a_resumed_one_goes_on_where_the_other_was() -> None:
    made = subject("torch.optim:SGD(lr=0.1, momentum=0.9) >> StepLR(step_size=3)")
    for _ in range(2):
        made.update(Unmetered())
    load_meter = Dispatched()
    fresh = made.resume(load_meter)
    assert load_meter.counts().ops == {}
    for _ in range(3):
        made.update(Unmetered())
        fresh.update(Unmetered())
    assert all(torch.equal(*pair) for pair in zip(made.parameters, fresh.parameters, strict=True))
    assert fresh.optimizer.param_groups[0]["lr"] == made.optimizer.param_groups[0]["lr"] != 0.1


def test_a_closure_is_given_where_it_is_needed_or_asked_for() -> None:
    given = []

    class Asking(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - as torch has it
            given.append(closure is not None)
            return super().step(closure)

    for needs, closure in (({}, False), ({}, True), ({"closure": True}, False)):
        made = subject(Asking, **needs)
        made.update(Unmetered(), closure=closure)
    assert given == [False, True, True]


def test_gradients_are_there_before_a_primed_or_evaluated_closure_is_called() -> None:
    there = []

    class Looking(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - as torch has it
            there.append(self.param_groups[0]["params"][0].grad is not None)
            closure()
            there.append(self.param_groups[0]["params"][0].grad is not None)

    for needs in ({"closure": True}, {"closure": True, "primed": True}, {"evaluated": True}):
        subject(Looking, **needs).update(Unmetered())
    assert there == [False, True, True, True, True, True]


@pytest.mark.filterwarnings("ignore:Using backward")
def test_an_evaluation_counts_as_one_however_it_is_done() -> None:
    for needs in ({"closure": True}, {"closure": True, "create_graph": True}, {"evaluated": True}):
        ops = subject(torch.optim.SGD, **needs).update(Dispatched()).counts().ops
        assert ops == {"add_.Tensor": 2, "closure": 1}


@pytest.mark.filterwarnings("ignore:Using backward")
def test_gradients_have_a_history_where_that_is_needed() -> None:
    seen: list[bool] = []

    class Looking(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - as torch has it
            del closure
            seen.extend(p.grad.grad_fn is not None for p in self.param_groups[0]["params"])

    subject(Looking, create_graph=True).update(Unmetered())
    subject(Looking).update(Unmetered())
    assert seen == [True, True, False, False]


@pytest.mark.filterwarnings("ignore:Sparse invariant")
def test_gradients_are_sparse_where_that_is_needed() -> None:
    made = subject("torch.optim:SparseAdam(lr=0.1)", sparse=True)
    made.update(Unmetered())
    assert made.state_bytes == 2 * BYTES


def test_the_train_mode_is_switched_on() -> None:
    class Switching(torch.optim.SGD):
        mode = ""

        def train(self) -> None:
            self.mode = "train"

    assert subject(Switching).optimizer.mode == "train"


def test_everything_of_a_sound_optimizer_is_freed() -> None:
    made = subject("torch.optim:Adam(lr=0.1) >> StepLR(step_size=3) >> CosineAnnealingLR(T_max=40)")
    made.update(Unmetered())
    made.resume(Unmetered()).update(Unmetered())
    assert made.take_apart() == ()


def test_what_outlives_its_last_reference_is_named() -> None:
    forever: list[Any] = []

    class Keeping(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - as torch has it
            forever.append(self.param_groups[0]["params"][0].grad)
            return super().step(closure)

    made = subject(lambda params: Keeping(params, lr=0.1, momentum=0.9))
    made.update(Unmetered())
    assert made.take_apart() == ("gradients",)

    made = subject("torch.optim:SGD(lr=0.1, momentum=0.9)")
    made.update(Unmetered())
    forever.append(made.optimizer.state[made.parameters[0]]["momentum_buffer"])
    assert made.take_apart() == ("state",)

    made = subject("torch.optim:SGD(lr=0.1, momentum=0.9)")
    forever.append(made.parameters[1])
    assert made.take_apart() == ("parameters",)

    made = subject("torch.optim:SGD(lr=0.1, momentum=0.9) >> StepLR(step_size=3)")
    made.update(Unmetered())
    made.optimizer.scheduler = made.schedules.schedulers[0]
    assert made.take_apart() == ("optimizer", "schedulers", "state", "parameters")


def test_an_optimizer_that_cannot_be_referred_to_weakly_is_not_watched() -> None:
    class Bare:
        __slots__ = ("param_groups",)

        def __init__(self, params: Iterable[Any]) -> None:
            self.param_groups = [{"params": list(params)}]

        def step(self) -> None:
            pass

        def zero_grad(self) -> None:
            pass

    forever = subject(Bare)
    kept = forever.optimizer
    assert forever.take_apart() == ("parameters",)
    assert kept.param_groups
