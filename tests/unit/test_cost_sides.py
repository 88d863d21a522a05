from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import pytest
import torch
from toys import Descent, toy

from pytest_optcheck.conditions import NOTHING
from pytest_optcheck.cost import lists, sides
from pytest_optcheck.cost.clock import CpuClock
from pytest_optcheck.cost.sides import RefusedError, StepSide, Timed
from pytest_optcheck.curves import Needs
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.specs import parse

if TYPE_CHECKING:
    from pytest_optcheck.specs import OptimizerSpec

NAMES = list(lists.load(sides.LIST).tensor_shapes)
MATRICES = [name for name, shape in lists.load(sides.LIST).tensor_shapes.items() if len(shape) == 2]


def made(spec: OptimizerSpec, needs: Needs = NOTHING) -> Timed:
    return sides.side(spec, needs, "cpu", NAMES).make()


def values(timed: Timed) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in timed.parameters]


def test_a_step_updates_every_tensor_again_and_again() -> None:
    timed = made(parse("torch.optim:Adam(lr=0.1)"))
    timed.ready()
    step = timed.step()
    for _ in range(3):
        before = values(timed)
        step()
        assert all(not torch.equal(old, new) for old, new in zip(before, values(timed), strict=True))


@pytest.mark.parametrize(
    ("spec", "needs"),
    [
        ("torch.optim:LBFGS(lr=0.5, max_iter=2)", Needs(closure=True)),
        ("torch.optim:SGD(lr=0.1)", Needs(closure=True, primed=True)),
        ("torch.optim:SGD(lr=0.1)", Needs(evaluated=True)),
        ("torch.optim:SGD(lr=0.1)", Needs(create_graph=True)),
        ("torch.optim:SparseAdam(lr=0.1)", Needs(sparse=True)),
        ("torch.optim:SGD(lr=0.1)", Needs(grouped=True)),
    ],
)
def test_a_step_gets_what_the_optimizer_needs(spec: str, needs: Needs) -> None:
    with sides.settled("cpu", needs):
        timed = made(parse(spec), needs)
        timed.ready()
        before = values(timed)
        timed.step()()
        timed.step()()
    assert all(not torch.equal(old, new) for old, new in zip(before, values(timed), strict=True))


def test_what_needs_differentiable_gradients_gets_new_ones_in_every_step() -> None:
    histories: list[object] = []

    class Curious(Descent):
        def step(self) -> None:
            histories.append(self.parameters[0].grad.grad_fn)  # type: ignore[union-attr] # there is a gradient
            super().step()

    step = made(toy(Curious), Needs(create_graph=True)).step()
    step()
    step()
    assert None not in histories
    assert histories[0] is not histories[1]


def test_gradients_that_an_optimizer_spoils_are_made_good_before_the_next_sample() -> None:
    class Spoiling(Descent):
        def step(self) -> None:
            assert all(parameter.grad is not None for parameter in self.parameters)
            for parameter in self.parameters:
                parameter.grad = None

    side = sides.side(toy(Spoiling), NOTHING, "cpu", NAMES)
    side.fresh()
    side.sample(1)
    side.leave()


def test_schedulers_are_built_and_never_stepped() -> None:
    timed = made(parse("torch.optim:SGD(lr=0.1) >> LinearLR(start_factor=0.5, total_iters=2)"))
    for _ in range(5):
        timed.ready()
        timed.step()()
    assert timed.optimizer.param_groups[0]["lr"] == 0.05


def test_a_side_is_warmed_up_on_a_fresh_optimizer_every_time() -> None:
    built: list[Descent] = []

    def build(params: Any) -> Descent:  # noqa: ANN401 - what an optimizer takes
        built.append(Descent(params))
        return built[-1]

    side = sides.side(toy(build), NOTHING, "cpu", NAMES)
    assert 0 < side.fresh() < 0.1
    assert 0 < side.sample(10).step_s < 0.1
    side.leave()
    side.fresh()
    side.leave()
    assert [optimizer.updates for optimizer in built] == [sides.WARM + 10, sides.WARM]


def test_a_sample_is_seconds_a_step_with_what_the_clock_saw() -> None:
    class Ten(CpuClock):
        def time(self, work: Any) -> Any:  # noqa: ANN401 - see CpuClock
            return super().time(work)._replace(seconds=10.0, disturbed=True)

    side = StepSide(sides.side(toy(Descent), NOTHING, "cpu", NAMES).make, Ten())
    side.fresh()
    assert side.sample(4) == (2.5, True)
    side.leave()


def test_a_side_is_undistracted_from_fresh_to_leave() -> None:
    allowed = os.sched_getaffinity(0)
    side = sides.control("cpu", NAMES)
    side.fresh()
    within = gc.isenabled(), os.sched_getaffinity(0)
    side.leave()
    assert within == (False, {max(allowed)})
    assert (gc.isenabled(), os.sched_getaffinity(0)) == (True, allowed)


def test_the_optimizer_is_gone_when_its_side_has_left() -> None:
    alive: list[int] = []

    class Counted(Descent):
        def __init__(self, params: Any) -> None:  # noqa: ANN401 - see Descent
            super().__init__(params)
            alive.append(1)

        def __del__(self) -> None:
            alive.pop()

    side = sides.side(toy(Counted), NOTHING, "cpu", NAMES)
    side.fresh()
    assert alive
    side.leave()
    assert not alive


def test_an_optimizer_is_timed_on_all_tensors_that_it_takes() -> None:
    assert sides.accepted(parse("torch.optim:Adam(lr=0.1)"), NOTHING, "cpu") == NAMES
    assert sides.accepted(parse("torch.optim:Muon(lr=0.1)"), NOTHING, "cpu") == MATRICES


def test_one_that_takes_none_of_them_is_refused_in_its_own_words() -> None:
    class Picky(Descent):
        def step(self) -> None:
            raise ValueError("only cubes, please")

    with pytest.raises(RefusedError, match="ValueError: only cubes, please"):
        sides.accepted(toy(Picky), NOTHING, "cpu")


def test_a_spec_that_cannot_be_built_is_the_user_s_to_mend() -> None:
    with pytest.raises(OptcheckError, match="Nothing"):
        sides.accepted(parse("torch.optim:Nothing()"), NOTHING, "cpu")


def test_the_control_keeps_a_momentum_and_goes_tensor_by_tensor() -> None:
    optimizer = sides.control("cpu", NAMES).make().optimizer
    assert isinstance(optimizer, torch.optim.SGD)
    assert (optimizer.defaults["momentum"], optimizer.defaults["foreach"]) == (0.9, False)


def test_blocks_are_timed_with_one_thread_and_unfilled_memory_and_the_caller_s_settings_come_back() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with sides.settled("cpu", NOTHING):
            assert torch.get_num_threads() == 1
            assert torch.get_deterministic_debug_mode() == 0
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)


def test_a_process_group_is_there_where_one_is_needed() -> None:
    with sides.settled("cpu", Needs(process_group=True)):
        assert torch.distributed.is_initialized()
    assert not torch.distributed.is_initialized()
