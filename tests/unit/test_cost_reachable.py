from __future__ import annotations

import functools
import weakref
from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from pytest_optcheck.cost.reachable import of_tensor, size, storages

if TYPE_CHECKING:
    from collections.abc import Callable

SOMEWHERE = torch.zeros(3)


class Slotted:
    """Holds without a dict."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        """Take what is to be held."""
        self.value = value

    def method(self) -> object:
        """Lead back."""
        return self.value


def closing_over(value: object) -> Callable[[], object]:
    """A function with a closure."""
    return lambda: value


def with_default(value: object) -> Callable[[], object]:
    """A function with a default."""

    def function(held: object = value) -> object:
        return held

    return function


WAYS: dict[str, Callable[[Any], object]] = {
    "itself": lambda tensor: tensor,
    "a view": lambda tensor: tensor[2:],
    "an attribute": lambda tensor: SimpleNamespace(held=tensor),
    "a slot": Slotted,
    "items": lambda tensor: {"state": [deque([(tensor,)])]},
    "a key": lambda tensor: {tensor: None},
    "a closure": closing_over,
    "a default": with_default,
    "a bound method": lambda tensor: Slotted(tensor).method,
    "a partial": lambda tensor: functools.partial(print, tensor),
    "itself again": lambda tensor: [tensor, tensor, tensor[:1]],
}


@pytest.mark.parametrize("way", WAYS)
def test_memory_is_found_through(way: str) -> None:
    found = storages(WAYS[way](torch.zeros(4)))
    assert size(found) == 16
    assert len(found) == 1


def looking_at_a_global() -> object:
    """A function that knows a tensor by its module."""
    return SOMEWHERE


ELSEWHERE: dict[str, Callable[[Any], object]] = {
    "a weak reference": weakref.ref,
    "a global variable": lambda _: looking_at_a_global,
    "a module": lambda _: torch,
    "a class": lambda tensor: type("Holder", (), {"held": tensor}),
    "nothing": lambda _: None,
}


@pytest.mark.parametrize("way", ELSEWHERE)
def test_memory_is_not_followed_through(way: str) -> None:
    tensor = torch.zeros(4)
    assert storages(ELSEWHERE[way](tensor)) == {}


def test_gradients_and_history_are_not_followed() -> None:
    parameter = torch.zeros(4, requires_grad=True)
    parameter.grad = torch.ones(4)
    assert len(storages(parameter)) == 1
    assert len(storages(parameter * torch.ones(4))) == 1


def test_a_circle_is_walked_once() -> None:
    circle: list[object] = [torch.zeros(2)]
    circle.append(circle)
    assert size(storages(circle)) == 8


def test_several_roots_share_what_they_share() -> None:
    tensor = torch.zeros(2)
    assert size(storages([tensor], (tensor, torch.zeros(1)))) == 12


def test_a_sparse_tensor_is_its_indices_and_values() -> None:
    sparse = torch.zeros(3, 2).index_fill_(0, torch.tensor([1]), 1.0).to_sparse(1)
    assert [storage.nbytes() for storage in of_tensor(sparse)] == [8, 8]


@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_a_tensor_without_memory_has_none() -> None:
    assert of_tensor(torch.zeros(3, 2).to_sparse_csr()) == ()


def test_what_a_tensor_subclass_consists_of_is_found() -> None:
    class Packed(torch.Tensor):
        held: torch.Tensor

    packed = torch.zeros(2).as_subclass(Packed)
    packed.held = torch.zeros(5)
    assert size(storages([packed])) == 28
