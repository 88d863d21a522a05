from __future__ import annotations

import pytest
import torch

from pytest_optcheck.cost import lists
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.workloads.zoo import SHAPES, Zoo

every_list = pytest.mark.parametrize("name", lists.NAMES)


def test_the_lists_have_the_sizes_they_are_known_for() -> None:
    assert {name: len(lists.load(name).tensor_shapes) for name in lists.NAMES} == {"zoo": 26, "ten": 10, "many": 200}


def test_ten_is_shaped_like_a_network() -> None:
    shapes = lists.load("ten").tensor_shapes
    for layer in range(5):
        outer, inner = shapes[f"weight{layer}"]
        assert shapes[f"bias{layer}"] == (outer,)
        assert layer == 4 or shapes[f"weight{layer + 1}"][1] == outer
        assert inner > 1


def test_many_has_all_its_shapes_among_the_first_few() -> None:
    shapes = list(lists.load("many").tensor_shapes.values())
    assert set(shapes[: len(lists.SMALL_SHAPES)]) == set(shapes)


def test_the_zoo_is_the_zoo() -> None:
    zoo = lists.load("zoo")
    assert zoo.tensor_shapes == SHAPES
    assert zoo.groups(list(SHAPES)) == Zoo().groups(list(SHAPES))
    assert len(zoo.groups(list(SHAPES))) == 2


def test_no_gradient_of_the_zoo_is_missing_and_all_are_of_its_stream() -> None:
    zoo = lists.load("zoo")
    problem = zoo.problem(torch.float64)
    zoo.give(problem, list(SHAPES), 2)
    expected = Zoo().problem(torch.float64)
    for name, parameter in problem.parameters.items():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, expected.rows(name, 2))


@every_list
def test_gradients_have_the_strides_of_their_tensors(name: str) -> None:
    tensors = lists.load(name)
    problem = tensors.problem(torch.float32)
    tensors.give(problem, list(problem.parameters), 0)
    for parameter in problem.parameters.values():
        assert parameter.grad is not None
        assert parameter.grad.stride() == parameter.stride()


@every_list
def test_gradients_come_again_in_memory_of_their_own(name: str) -> None:
    tensors = lists.load(name)
    problem = tensors.problem(torch.float32)
    given = []
    for update in (1, 1 + tensors.steps):
        tensors.give(problem, list(problem.parameters), update)
        given.append([parameter.grad for parameter in problem.parameters.values()])
    for former, latter in zip(*given, strict=True):
        assert former is not None
        assert latter is not None
        assert torch.equal(former, latter)
        assert former is not latter


@every_list
def test_the_quick_objective_is_the_one_that_autograd_derives(name: str) -> None:
    tensors = lists.load(name)
    quick, slow = tensors.problem(torch.float64), tensors.problem(torch.float64)
    loss = tensors.evaluate(quick, list(quick.parameters), 3)
    torch.testing.assert_close(loss, tensors.backward(slow, 3))
    for parameter, other in zip(quick.parameters.values(), slow.parameters.values(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad)


def test_the_objective_is_another_one_at_every_update() -> None:
    tensors = lists.load("ten")
    problem = tensors.problem(torch.float64)
    names = list(problem.parameters)
    assert len({float(tensors.evaluate(problem, names, update)) for update in range(tensors.steps)}) == tensors.steps


def test_a_list_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(OptcheckError, match="no list of tensors is called 'few'; there are zoo, ten, many"):
        lists.load("few")
