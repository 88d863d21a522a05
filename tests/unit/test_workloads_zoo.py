from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from pytest_optcheck.workloads.zoo import SCALES, SHAPES, Zoo

if TYPE_CHECKING:
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
    found = gradients(problem, step)[name]
    assert found is not None
    return found


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


def test_the_reused_gradient_is_one_tensor_that_nobody_refreshes(problem: Problem) -> None:
    first = present(problem, "reused", 0)
    second = present(problem, "reused", 1)
    assert second is first
    first.add_(1.0)
    assert torch.equal(present(problem, "reused", 2), first)


def test_another_training_has_a_reused_gradient_of_its_own(problem: Problem) -> None:
    present(problem, "reused", 0).add_(1.0)
    fresh = Zoo().problem(F64)
    assert not torch.equal(present(fresh, "reused", 0), present(problem, "reused", 0))


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
