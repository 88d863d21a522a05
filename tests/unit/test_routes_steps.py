from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from route_mutants import SHAPES, Mixed, Rule
from torch import Tensor

from pytest_optcheck.conditions import Conditions
from pytest_optcheck.routes.steps import INF_UPDATE, SCALE, Scaled
from pytest_optcheck.training import Training

MIXED = Mixed()
Gradients = dict[tuple[int, ...], Tensor]


class Watched(Rule):
    """Keeps the gradients of every step, by shape, and what a scaler told it."""

    def __init__(self, params: Any) -> None:  # noqa: ANN401 - as Rule
        super().__init__(params)
        self.seen: list[Gradients] = []
        self.identities: list[set[int]] = []

    def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - see Rule
        loss = super().step(closure)
        present = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        self.seen.append({tuple(p.shape): p.grad.clone() for p in present})
        self.identities.append({id(p.grad) for p in present})
        return loss


class Skips(Watched):
    """Takes the scaler's work over, as fused kernels do."""

    _step_supports_amp_scaling = True

    def __init__(self, params: Any) -> None:  # noqa: ANN401 - as Rule
        super().__init__(params)
        self.told: list[tuple[float | None, float]] = []

    def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - see Rule
        scale: Tensor | None = getattr(self, "grad_scale", None)
        found: Tensor = getattr(self, "found_inf")  # noqa: B009 - the scaler sets it
        self.told.append((None if scale is None else float(scale), float(found)))
        return None if found else super().step(closure)

    def gradient(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        gradient, scale = super().gradient(p, group), getattr(self, "grad_scale", None)
        return gradient if scale is None else gradient / scale


def training(route: str, optimizer: type[Watched] = Watched) -> Training:
    """A training that has been made."""
    made = Training(optimizer, MIXED, Conditions(route=route))
    assert made.run().failure is None
    return made


def plain() -> list[Gradients]:
    """The gradients of the plain route, update by update."""
    seen: list[Gradients] = training("plain").optimizer.seen
    return seen


@pytest.mark.parametrize("route", ["closure", "set_to_none_false", "accumulated", "scaled"])
def test_every_update_sees_the_gradients_of_the_plain_route(route: str) -> None:
    seen = training(route).optimizer.seen
    assert len(seen) == MIXED.steps
    for found, expected in zip(seen, plain(), strict=True):
        assert found.keys() == expected.keys()
        for shape, gradient in expected.items():
            torch.testing.assert_close(found[shape], gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("route", "same"), [("plain", False), ("set_to_none_false", True)])
def test_gradients_stay_the_same_tensors_only_where_they_are_zeroed(route: str, same: bool) -> None:
    class Keeps(Watched):
        def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - see Rule
            self.held = [*getattr(self, "held", []), *(p.grad for p in self.param_groups[0]["params"])]
            return super().step(closure)

    identities = training(route, Keeps).optimizer.identities
    assert (identities[-1] == identities[-2] == identities[4]) is same


def test_closures_are_counted_and_called_with_gradients_enabled() -> None:
    class Counts(Watched):
        def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - see Rule
            with torch.no_grad():
                closure()
                closure()
            return super().step(closure)

    made = training("closure", Counts)
    assert made.laws.broken == {"closure_once": "update 1 called the closure 3 times"}
    assert made.effective == {**dict.fromkeys(SHAPES, MIXED.steps), "late": MIXED.steps - MIXED.idle["late"]}


def test_a_closure_that_is_never_called_is_told() -> None:
    class Never(Watched):
        def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - see Rule
            del closure

    made = Training(Never, MIXED, Conditions(route="closure"))
    run = made.run()
    assert run.failure is not None
    assert run.failure.step == 1
    assert made.laws.broken == {"closure_once": "update 1 called the closure 0 times"}


def test_a_batch_is_accumulated_in_its_two_halves() -> None:
    asked: list[tuple[int, int | None, int]] = []

    class Halves(Mixed):
        def backward(self, problem: Any, step: int) -> Tensor:  # noqa: ANN401 - a Problem
            asked.append((step, problem.half, len(problem.batch(step)["target"])))
            return super().backward(problem, step)

    made = Training(Watched, Halves(), Conditions(route="accumulated"))
    run = made.run()
    assert asked == [(step, half, 1) for step in range(MIXED.steps) for half in (0, 1)]
    assert made.problem.half is None
    assert run.losses == pytest.approx(Training(Watched, MIXED, Conditions()).run().losses, rel=1e-13)


def test_a_batch_that_cannot_be_halved_is_taken_twice() -> None:
    class Odd(Mixed):
        batch_size = 3

    whole, twice = (Training(Watched, Odd(), Conditions(route=route)).run() for route in ("plain", "accumulated"))
    assert twice.losses == pytest.approx(whole.losses, rel=1e-13)


def test_the_scale_is_a_power_of_two_and_falls_at_each_injection() -> None:
    route = training("scaled").route
    assert isinstance(route, Scaled)
    assert route.scaler is not None
    assert route.scaler.get_scale() == SCALE / 4
    assert math.frexp(SCALE)[0] == math.frexp(route.scaler.get_scale())[0] == 0.5


def test_two_infinite_steps_are_injected_before_one_update() -> None:
    told = training("scaled", Skips).optimizer.told
    assert [at for at, (_, found) in enumerate(told) if found] == [INF_UPDATE, INF_UPDATE + 1]
    assert len(told) == MIXED.steps + 2


def test_gradients_are_unscaled_by_hand_and_by_the_optimizer_in_turns() -> None:
    told = training("scaled", Skips).optimizer.told
    injected = told[INF_UPDATE : INF_UPDATE + 2]
    assert [scale is None for scale, _ in injected] == [False, True]
    rest = told[:INF_UPDATE] + told[INF_UPDATE + 2 :]
    assert [scale is None for scale, _ in rest] == [update % 2 == 1 for update in range(MIXED.steps)]


def test_the_infinity_is_in_the_largest_gradient_alone() -> None:
    class Looks(Skips):
        def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - see Rule
            gradients = [p.grad for p in self.param_groups[0]["params"] if p.grad is not None]
            infinite.extend((tuple(g.shape), int(g.isinf().sum())) for g in gradients if not g.isfinite().all())
            return super().step(closure)

    infinite: list[tuple[tuple[int, ...], int]] = []
    training("scaled", Looks)
    assert [shape for shape, _ in infinite] == [SHAPES["matrix"]] * 2
    assert infinite[0][1] == 1


def test_an_infinite_step_that_moves_a_parameter_is_told() -> None:
    class Decays(Skips):
        def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - see Rule
            found: Tensor = getattr(self, "found_inf")  # noqa: B009 - the scaler sets it
            if found:
                for p in self.param_groups[0]["params"]:
                    p.data.mul_(0.99)
            return super().step(closure)

    assert training("scaled", Decays).laws.broken == {
        "inf_step_skipped": "a step with an infinite gradient moved matrix"
    }
    assert training("scaled", Skips).laws.broken == {}


def test_an_infinity_finds_its_place_in_gradients_of_any_strides() -> None:
    class Transposes(Mixed):
        def backward(self, problem: Any, step: int) -> Tensor:  # noqa: ANN401 - a Problem
            loss = super().backward(problem, step)
            matrix = problem.parameters["matrix"]
            matrix.grad = matrix.grad.T.contiguous().T
            return loss

    assert Training(Watched, Transposes(), Conditions(route="scaled")).run().failure is None


def test_sparse_gradients_hold_the_rows_that_are_not_zero() -> None:
    for found, expected in zip(training("sparse").optimizer.seen, plain(), strict=True):
        for shape, gradient in expected.items():
            assert found[shape].is_sparse is bool(shape)
            torch.testing.assert_close(found[shape].to_dense(), gradient)
        rows = found[SHAPES["matrix"]].coalesce().indices()[0]
        assert 0 < len(rows) < SHAPES["matrix"][0]


def test_the_step_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []

    def compiler(step: Any) -> Any:  # noqa: ANN401 - any callable
        compiled.append(step)
        return step

    monkeypatch.setattr(torch, "compile", compiler)
    made = training("compiled")
    assert [step.__name__ for step in compiled] == ["step"]
    assert compiled[0].__self__ is made.optimizer
    assert len(made.optimizer.seen) == MIXED.steps
