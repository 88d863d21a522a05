"""The registry, and what holds for every built-in reference model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
import torch
from interpreter import imported
from toys import Bowl

from pytest_optcheck import workloads
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.specs import parse
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.random import RandomState
    from numpy.typing import NDArray
    from torch import Tensor

    from pytest_optcheck.workloads.base import Arrays, Problem, Tensors, Workload

Class: TypeAlias = Any
"""A workload class to inherit from, chosen at run time."""

BUILTIN = sorted(workloads.BUILTIN)
WITH_DATA = ["digits_cnn", "finetune", "linear", "logistic", "lstm", "mlp", "zoo"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Digests take tiny operations, which threads only slow down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def builtin(name: str) -> Workload:
    return workloads.load(workloads.BUILTIN[name])


def kind(name: str) -> Class:
    return type(builtin(name))


def nudged(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """The arrays with one number moved by one ulp."""
    copies = {name: array.copy(order="K") for name, array in arrays.items()}
    first = next(array for array in copies.values() if array.size)
    first.flat[0] = np.nextafter(first.flat[0], 9.0)
    return copies


def with_data(base: Class) -> Class:
    class Altered(base):  # type: ignore[misc] # see Class
        def data(self) -> Arrays:
            return nudged(super().data())

    return Altered


def with_init(base: Class) -> Class:
    class Altered(base):  # type: ignore[misc] # see Class
        def init(self, random: RandomState) -> Arrays:
            return nudged(super().init(random))

    return Altered


def with_order(base: Class) -> Class:
    class Altered(base):  # type: ignore[misc] # see Class
        def order(self, random: RandomState, examples: int) -> list[NDArray[np.intp]]:
            rows: list[NDArray[np.intp]] = super().order(random, examples)
            rows[-1], rows[-2] = rows[-2], rows[-1]
            return rows

    return Altered


def with_steps(base: Class) -> Class:
    class Altered(base):  # type: ignore[misc] # see Class
        steps = base.steps + 1

    return Altered


def with_name(base: Class) -> Class:
    class Altered(base):  # type: ignore[misc] # see Class
        name = f"{base.name}_twin"

    return Altered


def with_groups(base: Class) -> Class:
    class Altered(base):  # type: ignore[misc] # see Class
        def groups(self, names: Sequence[str]) -> list[list[str]]:
            groups: list[list[str]] = super().groups(names)
            return [*groups, []]

    return Altered


def with_loss(base: Class) -> Class:
    class Altered(base):  # type: ignore[misc] # see Class
        def loss(self, params: Tensors, batch: Tensors) -> Tensor:
            loss: Tensor = super().loss(params, batch)
            return loss * (1.0 + 1e-4)

    return Altered


def with_model(base: Class) -> Class:
    class Altered(base):  # type: ignore[misc] # see Class
        def loss(self, params: Tensors, batch: Tensors) -> Tensor:
            bent: Tensor = super().loss({name: p + 1e-3 * p.sin() for name, p in params.items()}, batch)
            return bent

    return Altered


def with_gradients(base: Class) -> Class:
    class Altered(base):  # type: ignore[misc] # see Class
        def backward(self, problem: Problem, step: int) -> Tensor:
            loss: Tensor = super().backward(problem, step)
            last = list(problem.parameters.values())[-1]
            last.grad = None if step else last.grad
            return loss

    return Altered


def rewritten(base: Class) -> Class:
    class Rewritten(base):  # type: ignore[misc] # see Class
        """Another class, another name of everything, another rounding: the same model."""

        def init(self, random: RandomState) -> Arrays:
            return dict(super().init(random))

        def loss(self, params: Tensors, batch: Tensors) -> Tensor:
            third: Tensor = super().loss(params, batch) / 3.0
            return third + third + third

    return Rewritten


EVERYWHERE = [with_init, with_steps, with_name, with_groups, with_loss, with_model, with_gradients]


@pytest.mark.parametrize("alter", EVERYWHERE, ids=lambda alter: alter.__name__)
@pytest.mark.parametrize("name", BUILTIN)
def test_the_digest_tells_another_reference_model(name: str, alter: Callable[[Class], Class]) -> None:
    assert alter(kind(name))().digest != builtin(name).digest


@pytest.mark.parametrize("alter", [with_data, with_order], ids=lambda alter: alter.__name__)
@pytest.mark.parametrize("name", WITH_DATA)
def test_the_digest_tells_other_data(name: str, alter: Callable[[Class], Class]) -> None:
    assert alter(kind(name))().digest != builtin(name).digest


@pytest.mark.parametrize("name", BUILTIN)
def test_the_digest_does_not_mind_a_harmless_rewrite(name: str) -> None:
    assert rewritten(kind(name))().digest == builtin(name).digest


@pytest.mark.parametrize("name", BUILTIN)
def test_the_digest_is_that_of_the_declaration_not_of_the_instance(name: str) -> None:
    torch.rand(1)
    again = kind(name)()
    assert again is not builtin(name)
    assert again.digest == builtin(name).digest
    assert len(again.digest) == 16
    assert set(again.digest) <= set("0123456789abcdef")


def test_no_two_built_in_models_have_the_same_digest() -> None:
    assert len({builtin(name).digest for name in BUILTIN}) == len(BUILTIN)


@pytest.mark.parametrize("name", BUILTIN)
def test_a_built_in_model_is_registered_under_its_name(name: str) -> None:
    assert builtin(name).name == name
    assert name.replace("_", "").isalnum()
    assert name == name.lower()


@pytest.mark.parametrize("name", BUILTIN)
def test_every_tensor_gets_a_finite_gradient_at_some_update(name: str) -> None:
    problem = builtin(name).problem(torch.float64)
    seen: set[str] = set()
    for step in range(4):
        for parameter in problem.parameters.values():
            parameter.grad = None
        assert bool(problem.backward(step).isfinite())
        for tensor, parameter in problem.parameters.items():
            if parameter.grad is not None:
                assert parameter.grad.shape == parameter.shape
                assert bool(parameter.grad.isfinite().all())
                seen.add(tensor)
    assert seen == set(problem.parameters) == set(builtin(name).tensor_shapes)


@pytest.mark.parametrize("name", BUILTIN)
def test_float32_starts_from_the_same_numbers(name: str) -> None:
    wide, narrow = (builtin(name).problem(dtype) for dtype in (torch.float64, torch.float32))
    for tensor, parameter in wide.parameters.items():
        other = narrow.parameters[tensor]
        assert other.dtype == torch.float32
        assert torch.equal(parameter.float(), other)
        assert parameter.is_contiguous() == other.is_contiguous()
    assert narrow.final_loss() == pytest.approx(wide.final_loss(), rel=1e-5)


@pytest.mark.parametrize("name", ["linear", "mlp", "quadratic", "quadratic_ill"])
def test_adam_makes_the_loss_smaller(name: str) -> None:
    run = train(parse("torch.optim:Adam(lr=0.003)").factory(), builtin(name), Conditions())
    assert run.losses[-1] < 0.95 * run.losses[0]


def test_listing_the_names_imports_nothing() -> None:
    assert imported("pytest_optcheck.workloads", "torch", "numpy", "pytest") == []


def test_the_same_target_is_the_same_instance() -> None:
    target = f"{Bowl.__module__}:{Bowl.__qualname__}"
    assert isinstance(workloads.load(target), Bowl)
    assert workloads.load(target) is workloads.load(target)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("optcheck_no_such_module:Model", "ModuleNotFoundError: No module named 'optcheck_no_such_module'"),
        ("optcheck_no_such_module", "ModuleNotFoundError: No module named 'optcheck_no_such_module'"),
        ("pytest_optcheck.workloads.zoo:Zo", "AttributeError: module 'pytest_optcheck.workloads.zoo' has no "),
        ("pytest_optcheck.workloads.zoo", "AttributeError: module 'pytest_optcheck.workloads.zoo' has no "),
        ("", "ValueError: Empty module name"),
        (":Model", "ValueError: Empty module name"),
    ],
)
def test_a_target_that_is_not_there_is_refused_in_one_line(target: str, reason: str) -> None:
    with pytest.raises(OptcheckError) as caught:
        workloads.load(target)
    assert str(caught.value).startswith(f"workload {target!r} does not import ({reason}")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("target", ["math:pi", "builtins:dict", "pytest_optcheck.workloads.datasets:load"])
def test_a_target_that_is_no_workload_is_refused_in_one_line(target: str) -> None:
    with pytest.raises(OptcheckError) as caught:
        workloads.load(target)
    assert str(caught.value) == (f"workload {target!r} is not a subclass of pytest_optcheck.workloads.base.Workload")


class NeedsArguments(Bowl):
    def __init__(self, size: int) -> None:
        self.size = size


@pytest.mark.parametrize(
    "target",
    [
        "pytest_optcheck.workloads.base:Workload",
        f"{NeedsArguments.__module__}:{NeedsArguments.__qualname__}",
    ],
)
def test_a_workload_that_cannot_be_built_is_refused_in_one_line(target: str) -> None:
    with pytest.raises(OptcheckError) as caught:
        workloads.load(target)
    assert str(caught.value).startswith(f"workload {target!r} ")
    assert len(str(caught.value).splitlines()) == 1
