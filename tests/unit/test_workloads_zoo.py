from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch

from pytest_optcheck.conditions import Conditions
from pytest_optcheck.training import train
from pytest_optcheck.workloads.zoo import SCALES, SHAPES, Zoo

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_optcheck.workloads.base import Problem

F64, F32 = torch.float64, torch.float32


@pytest.fixture
def problem() -> Problem:
    return Zoo().problem(F64)


def gradients(problem: Problem, step: int) -> dict[str, torch.Tensor | None]:
    """The gradients that one backward pass leaves."""
    for parameter in problem.parameters.values():
        parameter.grad = None
    problem.backward(step)
    return {name: parameter.grad for name, parameter in problem.parameters.items()}


def present(problem: Problem, name: str, step: int) -> torch.Tensor:
    gradients(problem, step)
    return present_now(problem.parameters[name])


def present_now(parameter: torch.Tensor) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad


def test_gradients_are_absent_where_they_are_documented_to_be(problem: Problem) -> None:
    absent = {
        step + 1: {name for name, gradient in gradients(problem, step).items() if gradient is None}
        for step in range(Zoo.steps)
    }
    assert {update: names for update, names in absent.items() if names} == {
        1: {"skips", "late"},
        2: {"skips", "late"},
        3: {"pauses"},
        4: {"pauses"},
    }


def test_the_second_group_opens_with_a_tensor_whose_gradient_is_missing_at_once(problem: Problem) -> None:
    first, second = Zoo().groups(list(SHAPES))
    assert [*first, *second] == list(SHAPES)
    assert second[0] == "skips"
    assert gradients(problem, 0)["skips"] is None


def test_the_groups_hold_only_the_tensors_that_are_trained() -> None:
    assert Zoo().groups(["one", "three"]) == [["one", "three"]]
    assert Zoo().groups(["skips", "one"]) == [["one"], ["skips"]]


def test_there_is_a_tensor_of_every_documented_shape(problem: Problem) -> None:
    assert {name: tuple(p.shape) for name, p in problem.parameters.items()} == SHAPES
    shapes = set(SHAPES.values())
    assert {(), (1,), (3,), (17,), (1025,), (0,), (6, 3, 3, 3)} <= shapes
    assert {len(shape) for shape in shapes} == {0, 1, 2, 4}


def test_the_number_of_tensors_is_the_documented_one() -> None:
    assert f"{len(SHAPES)} small tensors" in (Zoo.__doc__ or "")


@pytest.mark.parametrize("dtype", [F64, F32])
def test_the_transposed_tensor_and_its_gradient_are_not_contiguous(dtype: torch.dtype) -> None:
    problem = Zoo().problem(dtype)
    transposed = problem.parameters["transposed"]
    assert transposed.dtype == dtype
    assert transposed.stride() == (1, 7)
    assert present(problem, "transposed", 0).stride() == (1, 7)
    others = [p for name, p in problem.parameters.items() if name != "transposed"]
    assert all(p.is_contiguous() for p in others)


@pytest.mark.parametrize(("name", "scale"), SCALES.items())
def test_gradients_have_their_scale(problem: Problem, name: str, scale: float) -> None:
    largest = float(present(problem, name, 5).abs().max())
    assert 0.4 * scale <= largest <= 1.5 * scale


def test_gradients_of_no_special_scale_are_of_size_one(problem: Problem) -> None:
    found = present(problem, "odd_1025", 5).abs()
    assert 1.4 < float(found.max()) <= 1.5


def test_the_burst_is_a_hundredfold_for_three_updates(problem: Problem) -> None:
    largest = [float(present(problem, "burst", step).abs().max()) for step in range(6)]
    assert min(largest[:3]) > 10 * max(largest[3:])


def test_the_reused_gradient_is_one_tensor_with_the_numbers_of_its_update(problem: Problem) -> None:
    first = present(problem, "reused", 0)
    kept = first.clone()
    first.add_(1.0)
    assert present(problem, "reused", 1) is first
    assert torch.equal(first, kept)


def test_an_optimizer_that_keeps_a_reference_to_a_gradient_shows_on_the_reused_one_alone() -> None:
    class Momentum(torch.optim.Optimizer):
        def __init__(self, params: Iterable[Any], *, copies: bool) -> None:
            super().__init__(params, {"lr": 0.01, "copies": copies})

        @torch.no_grad()
        def step(self) -> None:  # type: ignore[override] # no closure
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        first = p.grad.clone() if group["copies"] else p.grad
                        v = self.state[p].setdefault("v", first)
                        if v is not first:
                            v.mul_(0.9).add_(p.grad)
                        p.sub_(group["lr"] * v)

    kept, copied = (train(lambda p, c=c: Momentum(p, copies=c), Zoo(), Conditions(steps=4)) for c in (False, True))  # type: ignore[misc] # bound in the loop
    ends = {name: (kept.norms[name][4], copied.norms[name][4]) for name in SHAPES}
    assert {name for name, (one, other) in ends.items() if one != pytest.approx(other, rel=1e-9)} == {"reused"}


def test_another_training_has_a_reused_gradient_of_its_own(problem: Problem) -> None:
    first = present(problem, "reused", 0)
    kept = first.clone()
    assert present(Zoo().problem(F64), "reused", 0) is not first
    present(Zoo().problem(F64), "reused", 0).add_(1.0)
    assert torch.equal(first, kept)


def test_gradients_are_added_to_what_is_there(problem: Problem) -> None:
    once = {name: None if g is None else g.clone() for name, g in gradients(problem, 0).items()}
    problem.backward(0)
    for name, parameter in problem.parameters.items():
        gradient = once[name]
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(present_now(parameter), 2.0 * gradient)


def test_an_absent_gradient_is_absent_though_there_was_one(problem: Problem) -> None:
    for parameter in problem.parameters.values():
        parameter.grad = torch.ones_like(parameter)
    problem.backward(2)
    assert {name for name, p in problem.parameters.items() if p.grad is None} == {"pauses"}


def test_tensors_that_are_idle_at_first_are_declared_with_their_updates(problem: Problem) -> None:
    assert Zoo.idle == {"skips": 2, "late": 2}
    for name, updates in Zoo.idle.items():
        found = [gradients(problem, step)[name] is None for step in range(updates + 1)]
        assert found == [True] * updates + [False]


def test_every_tensor_has_its_anchor_in_one_row(problem: Problem) -> None:
    """The loss sees each of them at its own distance: moved to its anchor, a tensor no longer counts."""
    anchors = problem.rows("anchors", 0)
    assert 1.0 <= float(anchors.min()) < float(anchors.max()) <= 2.0
    before, at = problem.final_loss(), 0
    for name, parameter in problem.parameters.items():
        apart = (parameter.detach().reshape(-1) - anchors[at : at + parameter.numel()]).square()
        parameter.data.copy_(anchors[at : at + parameter.numel()].view(parameter.shape))
        gone = math.log1p(math.sqrt(float(apart.mean()))) if parameter.numel() else 0.0
        after = problem.final_loss()
        assert before - after == pytest.approx(gone, rel=1e-9, abs=1e-12), name
        before, at = after, at + parameter.numel()
    assert before == pytest.approx(0.0, abs=1e-12)
    assert at == len(anchors)


def test_every_other_gradient_is_a_fresh_tensor(problem: Problem) -> None:
    first = present(problem, "one", 0)
    first.add_(1.0)
    assert not torch.equal(present(Zoo().problem(F64), "one", 0), first)
    assert present(problem, "one", 0) is not first


def test_some_zeros_are_some_of_the_entries(problem: Problem) -> None:
    zeros = sum(int((present(problem, "some_zeros", step) == 0).sum()) for step in range(20))
    assert 0.2 < zeros / (20 * 24) < 0.4


def test_zero_init_starts_at_zero_and_nothing_else_does(problem: Problem) -> None:
    at_zero = {name for name, p in problem.parameters.items() if p.numel() and not p.any()}
    assert at_zero == {"zero_init"}


def test_gradients_do_not_depend_on_the_parameters(problem: Problem) -> None:
    before = gradients(problem, 3)
    with torch.no_grad():
        for parameter in problem.parameters.values():
            parameter.mul_(-2.0)
    after = gradients(problem, 3)
    for name, gradient in before.items():
        other = after[name]
        assert (gradient is None) == (other is None)
        assert gradient is None or other is None or torch.equal(gradient, other)


def test_gradients_have_a_mean_that_first_moments_can_find(problem: Problem) -> None:
    total = torch.stack([present(problem, "three", step) for step in range(Zoo.steps)]).mean(0)
    assert float(total.abs().min()) > 0.3


def test_a_frozen_tensor_gets_no_gradient(problem: Problem) -> None:
    problem.parameters["one"].requires_grad_(False)
    assert gradients(problem, 5)["one"] is None


def test_the_loss_sees_every_tensor_with_like_weight(problem: Problem) -> None:
    before = problem.final_loss()
    moves = []
    for parameter in problem.parameters.values():
        with torch.no_grad():
            parameter.add_(1.0)
            moves.append(abs(problem.final_loss() - before))
            parameter.sub_(1.0)
    seen = [move for name, move in zip(problem.parameters, moves, strict=True) if name != "empty"]
    assert 0.05 < min(seen) <= max(seen) < 1.0
