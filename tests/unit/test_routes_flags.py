from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch
from route_mutants import Mixed, Rule, spec
from toys import toy

from pytest_optcheck import routes
from pytest_optcheck.building import assemble
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.routes.flags import IMPLEMENTATIONS
from pytest_optcheck.specs import TextSpec, parse
from pytest_optcheck.training import Training, train

if TYPE_CHECKING:
    from pytest_optcheck.specs import OptimizerSpec

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
MIXED = Mixed()
OFF: dict[str, Any] = dict.fromkeys(IMPLEMENTATIONS, False)


def training(route: str, factory: Any = None) -> Training:  # noqa: ANN401 - see specs.Factory
    """A training that has been made."""
    factory = factory or assemble(spec(Rule), route)
    assert factory is not None
    made = Training(factory, MIXED, Conditions(route=route))
    assert made.run().failure is None
    return made


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_an_implementation_is_turned_on_where_it_is_off(name: str) -> None:
    assert routes.load(name).settings(OFF) == {name: True}
    assert routes.load(name).settings({name: None}) == {name: True}


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_an_implementation_that_is_asked_for_is_compared_with_the_for_loop(name: str) -> None:
    assert routes.load(name).settings({**OFF, name: True}) == {name: False}


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("rival", IMPLEMENTATIONS)
def test_the_rivals_of_an_implementation_are_turned_off(name: str, rival: str) -> None:
    if rival != name:
        assert routes.load(name).settings({**OFF, rival: True}) == {name: True, rival: False}


@pytest.mark.parametrize("name", [*IMPLEMENTATIONS, "maximize", "tensor_lr"])
def test_a_constructor_without_the_setting_has_not_that_route(name: str) -> None:
    assert routes.load(name).settings({"momentum": 0.9}) is None
    assert assemble(toy(torch.optim.LBFGS), "fused") is None


@pytest.mark.parametrize("name", [*IMPLEMENTATIONS, "maximize"])
def test_the_optimizer_is_built_with_the_setting(name: str) -> None:
    (group,) = training(name).optimizer.param_groups
    assert {flag: group[flag] for flag in (*OFF, "maximize")} == {**OFF, "maximize": False, name: True}


def test_a_python_factory_gets_the_setting_in_its_groups() -> None:
    factory = assemble(toy(lambda params: Rule(params, lr=0.01)), "foreach")
    made = training("foreach", factory)
    assert made.optimizer.param_groups[0]["foreach"] is True
    assert made.optimizer.defaults["foreach"] is True
    assert made.optimizer.param_groups[0]["lr"] == 0.01


@pytest.mark.parametrize("lr", [0.1, 1])
def test_the_learning_rate_becomes_a_tensor_of_the_same_value(lr: float) -> None:
    settings = routes.load("tensor_lr").settings({"lr": lr})
    assert settings is not None
    assert settings["lr"].dtype == torch.float64
    assert settings["lr"].shape == ()
    assert float(settings["lr"]) == lr


@pytest.mark.parametrize("lr", [None, True, torch.tensor(0.1), "auto"])
def test_what_is_no_number_does_not_become_a_tensor(lr: object) -> None:
    assert routes.load("tensor_lr").settings({"lr": lr}) is None


def halved(params: Any) -> Any:  # noqa: ANN401 - see specs.Factory
    """An optimizer and its scheduler."""
    optimizer = torch.optim.SGD(params, lr=0.1)
    return optimizer, [torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)]


@pytest.mark.parametrize("optimizer", [toy(halved), parse("torch.optim:SGD(lr=0.1) >> StepLR(step_size=2, gamma=0.5)")])
def test_one_training_leaves_the_learning_rate_of_the_next_alone(optimizer: OptimizerSpec) -> None:
    """Schedulers write into a learning rate that is a tensor."""
    factory = assemble(optimizer, "tensor_lr")
    assert factory is not None
    first, second = (train(factory, MIXED, Conditions(route="tensor_lr")) for _ in range(2))
    assert first.rates == second.rates
    assert first.rates[0][0] == 0.1


def test_maximize_is_turned_and_the_gradients_with_it() -> None:
    route = routes.load("maximize")
    assert route.settings({"maximize": False}) == {"maximize": True}
    assert route.settings({"maximize": True}) == {"maximize": False}
    made = training("maximize")
    plain = training("plain")
    for name, tensor in made.tensors.items():
        torch.testing.assert_close(-tensor.grad, plain.tensors[name].grad)  # type: ignore[operator] # it has one


def test_a_differentiable_step_gets_tensors_with_a_history() -> None:
    made = training("differentiable")
    for name, tensor in made.tensors.items():
        assert not tensor.is_leaf
        assert tensor.requires_grad
        assert tensor is not made.problem.parameters[name]
        assert torch.equal(tensor, made.problem.parameters[name])


def test_a_frozen_tensor_stays_a_leaf_without_a_gradient() -> None:
    problem = MIXED.problem(torch.float64)
    problem.parameters["vector"].requires_grad_(False)
    held = routes.load("differentiable").tensors(problem)
    assert [name for name, tensor in held.items() if not tensor.requires_grad] == ["vector"]


class Blind(Rule):
    """Detaches the tensor of one shape."""

    shape: ClassVar[tuple[int, ...]]

    def write(self, p: torch.Tensor, value: torch.Tensor) -> None:
        super().write(p.detach() if p.shape == self.shape else p, value)


@pytest.mark.parametrize("blind", ["matrix", "late", "scalar"])
def test_one_tensor_without_a_derivative_is_enough(blind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Blind, "shape", MIXED.tensor_shapes[blind], raising=False)
    factory = assemble(TextSpec(__name__, "Blind"), "differentiable")
    assert factory is not None
    run = train(factory, MIXED, Conditions(route="differentiable"))
    assert run.broken == {"history_kept": f"{blind} has no derivative by its gradient"}


def test_a_python_factory_is_not_differentiated() -> None:
    """Its constructor would refuse tensors with a history before the setting reaches its groups."""
    assert assemble(toy(Rule), "differentiable") is None
