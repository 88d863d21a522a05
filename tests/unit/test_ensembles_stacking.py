from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from seeded import Line, Sides, descent, seeds
from toys import toy

from pytest_optcheck.building import plain
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.convergence import SEEDS
from pytest_optcheck.curves import Needs
from pytest_optcheck.ensembles.stacking import PROBE, Stack, Stacked, alike
from pytest_optcheck.specs import parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_optcheck.ensembles.figures import Member
    from pytest_optcheck.specs import Factory


class Fast(Line):
    """The line, for which many seeds side by side are said to be faster."""

    name = "fast"
    stacks = True


class FastSides(Sides):
    """A classifier for which they are."""

    name = "fast_sides"
    stacks = True


class Clipped(torch.optim.SGD):
    """Clips the norm of all gradients together."""

    def step(self) -> None:  # type: ignore[override] # no closure
        torch.nn.utils.clip_grad_norm_([p for group in self.param_groups for p in group["params"]], 0.5)
        super().step()


class Trusting(torch.optim.SGD):
    """Steps by a share of the norm of each tensor."""

    def step(self) -> None:  # type: ignore[override] # no closure
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad *= parameter.detach().norm() / parameter.grad.norm()
        super().step()


class Counted:
    """A factory that counts the optimizers that it made."""

    def __init__(self, build: Any) -> None:  # noqa: ANN401 - a factory
        self.build = build
        self.made = 0

    def __call__(self, params: Iterable[Any]) -> Any:  # noqa: ANN401 - what it makes
        self.made += 1
        return self.build(params)


def adam(params: Iterable[Any]) -> torch.optim.Optimizer:
    return torch.optim.Adam(params, lr=0.1)


RULES: list[Any] = [descent(), descent(momentum=0.9, nesterov=True), adam]

COUPLED: list[Any] = [lambda params: Clipped(params, lr=0.1), lambda params: Trusting(params, lr=0.1)]


def factory(build: Any) -> Factory:  # noqa: ANN401 - a factory
    return plain(toy(build))


def close(one: Member, other: Member) -> bool:
    """Equal but for the rounding of float32."""
    return (
        one.losses == pytest.approx(other.losses, rel=1e-4)
        and one.metrics == pytest.approx(other.metrics, rel=1e-4)
        and one.target == pytest.approx(other.target, rel=1e-4)
    )


@pytest.mark.parametrize("build", RULES)
@pytest.mark.parametrize("workload", [Fast, FastSides])
def test_seeds_side_by_side_are_those_one_after_another(build: Any, workload: type[Fast]) -> None:  # noqa: ANN401 - a factory
    one_by_one = workload()
    one_by_one.stacks = False  # type: ignore[misc] # this instance is the exception
    counted = Counted(build)
    together = seeds(counted, workload()).reference()
    assert counted.made == 1 + len(PROBE) + 1
    apart = seeds(build, one_by_one).reference()
    assert together.steps == apart.steps
    assert all(close(one, other) for one, other in zip(together.members, apart.members, strict=True))


@pytest.mark.parametrize("build", COUPLED, ids=["clipped", "trusting"])
def test_a_rule_that_looks_at_whole_tensors_is_trained_seed_by_seed(build: Any) -> None:  # noqa: ANN401 - a factory
    counted = Counted(build)
    found = seeds(counted, Fast()).reference()
    assert counted.made >= SEEDS
    assert found.members == seeds(build, Line()).reference().members


@pytest.mark.parametrize("build", RULES)
def test_a_rule_that_treats_every_element_alike_is_found_to_do_so(build: Any) -> None:  # noqa: ANN401 - a factory
    assert alike(factory(build), Line(), Conditions("float32"))


@pytest.mark.parametrize("build", [*COUPLED, lambda params: torch.optim.LBFGS(params, max_iter=2)])
def test_a_rule_that_does_not_is_found_out(build: Any) -> None:  # noqa: ANN401 - a factory
    closure = Needs(closure=True) if "LBFGS" in type(build([torch.zeros(1, requires_grad=True)])).__name__ else Needs()
    assert not alike(factory(build), Line(), Conditions("float32", needs=closure))


def test_a_rule_that_couples_seeds_late_is_found_out() -> None:
    class Late(torch.optim.SGD):
        updates = 0

        def step(self) -> None:  # type: ignore[override] # no closure
            self.updates += 1
            if self.updates == Line.steps:
                torch.nn.utils.clip_grad_norm_([p for group in self.param_groups for p in group["params"]], 1e-3)
            super().step()

    assert not alike(factory(lambda params: Late(params, lr=0.1)), Line(), Conditions("float32"))


def test_a_scheduled_rule_is_trained_seed_by_seed() -> None:
    """A scheduler may look at the loss, and that of a stack is the sum of all."""
    spec = parse("torch.optim:SGD(lr=0.1) >> ExponentialLR(gamma=0.5)")
    assert not alike(plain(spec), Line(), Conditions("float32"))
    scheduled = replace(seeds(descent(), Fast()), build=plain(spec))
    assert scheduled.reference().members == replace(scheduled, workload=Line()).reference().members


def test_where_one_seed_comes_to_no_good_end_every_seed_is_trained_alone() -> None:
    class Fragile(torch.optim.SGD):
        def step(self) -> None:  # type: ignore[override] # no closure
            super().step()
            slope = self.param_groups[0]["params"][0].detach()
            if bool((slope < -0.75).any()):
                raise ValueError("too steep")

    def build(params: Iterable[Any]) -> Fragile:
        return Fragile(params, lr=0.01)

    found = seeds(build, Fast()).reference()
    assert found.members == seeds(build, Line()).reference().members
    ends = [member.ended for member in found.members]
    assert None in ends
    assert any(end is not None for end in ends)


def test_a_model_that_is_not_said_to_gain_is_trained_seed_by_seed() -> None:
    counted = Counted(descent())
    seeds(counted, Line()).reference()
    assert counted.made == SEEDS


def test_a_stack_makes_as_many_updates_as_its_optimizer_has_time_for() -> None:
    counted = Counted(descent())
    found = seeds(counted, Fast(), Needs(steps=5)).reference()
    assert counted.made == 1 + len(PROBE) + 1
    assert found.applies(Line.folds, 5)


def test_layers_get_their_own_gradients() -> None:
    problem = Stack(Line(), (3, 9)).problem(torch.float64)
    assert isinstance(problem, Stacked)
    total = problem.backward(0)
    for layer, seed in enumerate((3, 9)):
        alone = Line().seeded(seed).problem(torch.float64)
        alone.backward(0)
        for name, parameter in alone.parameters.items():
            assert parameter.grad is not None
            stacked = problem.parameters[name].grad
            assert stacked is not None
            assert torch.allclose(stacked[layer], parameter.grad, rtol=1e-12)
    assert float(total) == pytest.approx(sum(problem.losses[0]))


def test_the_model_whose_operations_are_small_is_the_one_that_gains() -> None:
    from pytest_optcheck.workloads.networks import DigitsCnn, Mlp

    assert (Mlp.stacks, DigitsCnn.stacks) == (True, False)
