from __future__ import annotations

from typing import Any

import pytest
import torch
from route_mutants import SHAPES, Mixed, Rule

from pytest_optcheck import routes
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.curves import restart_update
from pytest_optcheck.routes.base import Mirror
from pytest_optcheck.training import Training

MIXED = Mixed()
MIRRORS = ["complex", "bfloat16", "mixed_dtypes"]


def training(route: str, optimizer: Any = Rule) -> Training:  # noqa: ANN401 - see Training
    """A training that has been made."""
    made = Training(optimizer, MIXED, Conditions(route=route))
    assert made.run().failure is None
    return made


@pytest.mark.parametrize("route", ["noncontiguous", "channels_last"])
def test_the_model_trains_the_very_tensors_of_the_optimizer(route: str) -> None:
    problem = MIXED.problem(torch.float64)
    before = {name: p.detach().clone() for name, p in problem.parameters.items()}
    problem.parameters["vector"].requires_grad_(False)
    tensors = routes.load(route).tensors(problem)
    assert tensors.keys() == before.keys()
    for name, tensor in tensors.items():
        assert tensor is problem.parameters[name]
        assert isinstance(tensor, torch.nn.Parameter)
        assert torch.equal(tensor, before[name])
        assert tensor.requires_grad is (name != "vector")


def test_noncontiguous_parameters_have_gaps_and_cannot_be_viewed_as_a_row() -> None:
    made = training("noncontiguous")
    strides = {name: tensor.stride() for name, tensor in made.tensors.items()}
    assert strides == {"matrix": (2, 8), "scalar": (), "vector": (2,), "conv": (2, 4, 12, 24), "late": (2, 6)}
    assert all(tensor.grad is not None and tensor.grad.is_contiguous() for tensor in made.tensors.values())
    with pytest.raises(RuntimeError, match="view"):
        made.tensors["matrix"].view(-1)


def test_gradients_are_contiguous_however_the_model_leaves_them() -> None:
    class Strided(Mixed):
        def backward(self, problem: Any, step: int) -> torch.Tensor:  # noqa: ANN401 - a Problem
            loss = super().backward(problem, step)
            matrix = problem.parameters["matrix"]
            matrix.grad = torch.empty_like(matrix).copy_(matrix.grad)
            return loss

    plain, other = (Training(Rule, Strided(), Conditions(route=route)) for route in ("plain", "noncontiguous"))
    assert other.run().losses == pytest.approx(plain.run().losses, rel=1e-12)
    gradient = other.tensors["matrix"].grad
    assert gradient is not None
    assert gradient.is_contiguous()


def test_an_empty_parameter_can_be_noncontiguous() -> None:
    problem = MIXED.problem(torch.float64)
    problem.parameters["empty"] = torch.nn.Parameter(torch.zeros(0, dtype=torch.float64))
    assert routes.load("noncontiguous").tensors(problem)["empty"].shape == (0,)


def test_convolutions_alone_are_in_channels_last() -> None:
    made = training("channels_last")
    conv = made.tensors["conv"]
    assert conv.is_contiguous(memory_format=torch.channels_last)
    assert not conv.is_contiguous()
    assert all(tensor.is_contiguous() for name, tensor in made.tensors.items() if name != "conv")


def test_even_last_dimensions_become_complex_pairs() -> None:
    tensors = training("complex").tensors
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items() if tensor.is_complex()}
    assert shapes == {"matrix": (4, 3), "conv": (2, 3, 2, 1), "late": (3, 1)}
    assert {tensor.dtype for tensor in tensors.values()} == {torch.complex128, torch.float64}


def test_neighbours_become_real_and_imaginary_part() -> None:
    route = routes.load("complex")
    assert isinstance(route, Mirror)
    pairs = route.convert("any", torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert pairs.tolist() == [1 + 2j, 3 + 4j]
    assert route.restore(pairs, torch.zeros(4)).tolist() == [1.0, 2.0, 3.0, 4.0]
    turned = torch.arange(8.0).reshape(4, 2).T
    assert torch.equal(route.restore(route.convert("any", turned), turned), turned)


@pytest.mark.parametrize("shape", [(), (3,), (4, 5), (0,), (2, 0)])
def test_what_has_no_pairs_stays_real(shape: tuple[int, ...]) -> None:
    route = routes.load("complex")
    assert isinstance(route, Mirror)
    tensor = torch.zeros(shape)
    assert route.convert("any", tensor) is tensor
    assert route.restore(tensor, tensor) is tensor


@pytest.mark.parametrize(
    ("route", "dtypes"),
    [
        ("bfloat16", dict.fromkeys(SHAPES, torch.bfloat16)),
        (
            "mixed_dtypes",
            {name: (torch.float64, torch.float32)[at % 2] for at, name in enumerate(SHAPES)},
        ),
    ],
)
def test_tensors_and_gradients_have_the_dtypes_of_the_route(route: str, dtypes: dict[str, torch.dtype]) -> None:
    made = training(route)
    assert {name: tensor.dtype for name, tensor in made.tensors.items()} == dtypes
    assert {name: tensor.grad.dtype for name, tensor in made.tensors.items() if tensor.grad is not None} == dtypes
    assert {parameter.dtype for parameter in made.problem.parameters.values()} == {torch.float64}


@pytest.mark.parametrize("name", MIRRORS)
def test_the_model_follows_the_tensors_of_the_optimizer(name: str) -> None:
    made = training(name)
    route = made.route
    assert isinstance(route, Mirror)
    for key, parameter in made.problem.parameters.items():
        assert made.tensors[key] is not parameter
        assert torch.equal(route.restore(made.tensors[key].detach(), parameter), parameter)


@pytest.mark.parametrize("name", MIRRORS)
def test_the_model_starts_from_what_the_tensors_hold(name: str) -> None:
    problem = MIXED.problem(torch.float64)
    route = routes.load(name)
    assert isinstance(route, Mirror)
    for key, tensor in route.tensors(problem).items():
        assert torch.equal(route.restore(tensor.detach(), problem.parameters[key]), problem.parameters[key])
    exact = MIXED.problem(torch.float64).parameters["scalar"]
    assert torch.equal(problem.parameters["scalar"], exact) is (name == "complex")


@pytest.mark.parametrize("name", [*MIRRORS, "differentiable"])
def test_a_frozen_parameter_is_mirrored_by_a_frozen_tensor(name: str) -> None:
    problem = MIXED.problem(torch.float64)
    problem.parameters["vector"].requires_grad_(False)
    held = routes.load(name).tensors(problem)
    assert [key for key, tensor in held.items() if not tensor.requires_grad] == ["vector"]


@pytest.mark.parametrize("name", MIRRORS)
def test_gradients_are_copies_and_both_sides_forget_them(name: str) -> None:
    seen: list[set[int]] = []

    class Spoils(Rule):
        def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - see Rule
            loss = super().step(closure)
            for p in self.param_groups[0]["params"]:
                if p.grad is not None:
                    p.grad.fill_(99.0)
            seen.append({id(p.grad) for p in self.param_groups[0]["params"]})
            return loss

    spoiled, kept = training(name, Spoils), training(name)
    assert spoiled.losses == kept.losses
    for key, parameter in spoiled.problem.parameters.items():
        assert torch.equal(parameter.grad, kept.problem.parameters[key].grad)  # type: ignore[arg-type] # both have one


@pytest.mark.parametrize("name", MIRRORS)
def test_a_closure_called_in_mid_step_sees_where_the_tensors_are(name: str) -> None:
    losses: list[float] = []

    class Looks(Rule):
        def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - see Rule
            loss = super().step(closure)
            losses.append(float(closure()))
            return loss

    from pytest_optcheck.curves import Needs

    made = Training(Looks, MIXED, Conditions(route=name, needs=Needs(closure=True)))
    run = made.run()
    assert run.failure is None
    assert all(after < before for before, after in zip(run.losses[:2], losses[:2], strict=True))


def test_bfloat16_is_resumed() -> None:
    loads: list[int] = []

    class Loads(Rule):
        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            loads.append(int(max(kept["step"] for kept in state_dict["state"].values())))
            super().load_state_dict(state_dict)

    training("bfloat16", Loads)
    assert loads == [restart_update(MIXED.steps)]
