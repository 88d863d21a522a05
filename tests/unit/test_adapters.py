from __future__ import annotations

import copy
import io
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Optimizer

from pytest_optcheck.adapters import Adapter, Completed, OnGradients, Switched, TwoStep, centralise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Params = list[nn.Parameter]


class Lookahead:
    """Slow weights that every `k` steps go half the way to the fast ones; has nothing but ``step``."""

    def __init__(self, optimizer: Optimizer, k: int = 2) -> None:
        self.optimizer, self.k, self.steps = optimizer, k, 0
        self.slow = [[p.detach().clone() for p in group["params"]] for group in optimizer.param_groups]

    def step(self) -> None:
        self.optimizer.step()
        self.steps += 1
        if self.steps % self.k == 0:
            for group, slow in zip(self.optimizer.param_groups, self.slow, strict=True):
                for parameter, anchor in zip(group["params"], slow, strict=True):
                    anchor.lerp_(parameter.detach(), 0.5)
                    parameter.data.copy_(anchor)


class Sharpness:
    """Up the gradient by `rho`, then down from where it was by the gradient found there."""

    def __init__(self, params: Iterable[Any], rho: float = 0.1, lr: float = 0.1) -> None:
        self.base = SGD(params, lr=lr)
        self.rho = rho
        self.param_groups = self.base.param_groups
        self.at: list[Tensor] = []

    @property
    def params(self) -> Params:
        return [p for group in self.param_groups for p in group["params"]]

    def zero_grad(self) -> None:
        self.base.zero_grad()

    @torch.no_grad()
    def first_step(self) -> None:
        self.at = [p.clone() for p in self.params]
        for parameter in self.params:
            assert parameter.grad is not None
            parameter.add_(self.rho * parameter.grad / parameter.grad.norm())

    @torch.no_grad()
    def second_step(self) -> None:
        for parameter, at in zip(self.params, self.at, strict=True):
            parameter.copy_(at)
        self.base.step()


class Average(SGD):
    """Keeps the mean of all weights that it has passed, and shows it on demand."""

    def __init__(self, params: Params, lr: float = 0.1) -> None:
        super().__init__(params, lr=lr)
        self.params = params
        self.sums = [p.detach().clone() for p in params]
        self.count = 1
        self.shown: list[Tensor] | None = None

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override] # torch's overloads say less
        assert self.shown is None, "step with the mean in place"
        loss: float | None = super().step(closure)
        for total, parameter in zip(self.sums, self.params, strict=True):
            total.add_(parameter.detach())
        self.count += 1
        return loss

    def show(self) -> None:
        self.shown = [p.detach().clone() for p in self.params]
        for parameter, total in zip(self.params, self.sums, strict=True):
            parameter.data.copy_(total / self.count)

    def hide(self) -> None:
        assert self.shown is not None
        for parameter, hidden in zip(self.params, self.shown, strict=True):
            parameter.data.copy_(hidden)
        self.shown = None


def start(*values: float) -> Params:
    """One parameter with these values."""
    return [nn.Parameter(torch.tensor(values, dtype=torch.float64))]


def closure_of(optimizer: Adapter, params: Params, losses: list[float]) -> Callable[[], Tensor]:
    """The closure of Σθ⁴/4, whose gradient is θ³; notes every loss."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = sum((p.pow(4).sum() / 4 for p in params), torch.zeros(()))
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        losses.append(loss.item())
        return loss.detach()

    return closure


def test_an_adapter_passes_everything_on() -> None:
    optimizer = SGD(start(1.0), lr=0.1)
    adapted = Adapter(optimizer)
    assert adapted.param_groups is optimizer.param_groups
    with pytest.raises(AttributeError):
        _ = adapted.nothing


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda whole: pickle.loads(pickle.dumps(whole))])  # noqa: S301 - made here
@pytest.mark.parametrize(
    "adapt",
    [
        Adapter,
        TwoStep,
        lambda optimizer: Completed(optimizer, optimizer),
        lambda optimizer: Switched(optimizer, train="zero_grad", evaluate="zero_grad"),
        lambda optimizer: OnGradients(optimizer, centralise),
    ],
)
def test_adapters_are_copied_with_what_they_are_around(
    adapt: Callable[[Any], Any], copied: Callable[[Any], Any]
) -> None:
    adapted = adapt(SGD(start(1.0), lr=0.1))
    twin = copied(adapted)
    assert type(twin) is type(adapted)
    assert twin.wrapped is not adapted.wrapped
    assert twin.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("kind", [Adapter, Completed])
def test_an_adapter_in_the_making_has_nothing(kind: type[Adapter]) -> None:
    unmade = kind.__new__(kind)
    for name in ("step", "wrapped", "base", "__deepcopy__"):
        assert not hasattr(unmade, name)


def test_a_completed_lookahead_has_what_its_base_has() -> None:
    params = start(1.0)
    base = SGD(params, lr=0.25)
    adapted = Completed(Lookahead(base), base)
    adapted.zero_grad()
    params[0].grad = torch.ones(1, dtype=torch.float64)
    adapted.step()
    assert params[0].item() == 0.75
    adapted.step()
    assert params[0].item() == 0.75  # half the way from 1.0 to 0.5
    assert adapted.param_groups is base.param_groups
    assert adapted.k == 2
    saved = io.BytesIO()
    torch.save(adapted.state_dict(), saved)
    with pytest.raises(AttributeError):
        _ = adapted.nothing


def test_a_completed_wrapper_keeps_its_own() -> None:
    class Wrapper(Lookahead):
        def state_dict(self) -> str:
            return "mine"

    base = SGD(start(1.0), lr=0.1)
    assert Completed(Wrapper(base), base).state_dict() == "mine"


def test_two_step_descends_by_the_gradient_of_the_worst_point() -> None:
    params = start(2.0)
    adapted = TwoStep(Sharpness(params, rho=0.5, lr=0.125))
    losses: list[float] = []
    loss = adapted.step(closure_of(adapted, params, losses))
    assert losses == [4.0, 2.5**4 / 4]
    assert loss.item() == 4.0
    assert params[0].item() == 2.0 - 0.125 * 2.5**3


def test_two_step_gives_the_closure_gradients_to_work_with() -> None:
    params = start(2.0)
    adapted = TwoStep(Sharpness(params))
    losses: list[float] = []
    with torch.no_grad():
        adapted.step(closure_of(adapted, params, losses))
    assert len(losses) == 2


def test_two_step_cannot_do_without_a_closure() -> None:
    with pytest.raises(TypeError):
        TwoStep(Sharpness(start(2.0))).step()  # type: ignore[call-arg] # that is what is tested


def test_switched_trains_and_evaluates_under_other_names() -> None:
    params = start(1.0)
    adapted = Switched(Average(params, lr=0.5), train="hide", evaluate="show")
    adapted.train()  # at the outset: they are in place already
    params[0].grad = torch.ones(1, dtype=torch.float64)
    adapted.step()
    adapted.eval()
    assert params[0].item() == 0.75
    adapted.eval()  # twice is once
    adapted.train()
    assert params[0].item() == 0.5
    adapted.step()
    assert params[0].item() == 0.0


def test_gradients_are_changed_for_the_step_alone() -> None:
    params = start(1.0, 3.0)
    gradient = torch.tensor([1.0, 2.0], dtype=torch.float64)
    params[0].grad = gradient
    OnGradients(SGD(params, lr=1.0), lambda g: g * 2).step()
    assert params[0].tolist() == [-1.0, -1.0]
    assert params[0].grad is gradient
    assert gradient.tolist() == [1.0, 2.0]


def test_gradients_may_be_changed_in_place() -> None:
    params = start(1.0)
    params[0].grad = torch.ones(1, dtype=torch.float64)

    def double(gradient: Tensor) -> None:
        gradient.mul_(2.0)

    OnGradients(SGD(params, lr=1.0), double).step()
    assert params[0].item() == -1.0
    assert params[0].grad.item() == 1.0


def test_what_has_no_gradient_is_left_alone() -> None:
    params = start(1.0)
    OnGradients(SGD(params, lr=1.0), centralise).step()
    assert params[0].grad is None
    assert params[0].item() == 1.0


def test_gradients_are_put_back_when_the_step_raises() -> None:
    params = start(1.0)
    optimizer = SGD(params, lr=1.0)
    gradient = params[0].grad = torch.ones(1, dtype=torch.float64)
    optimizer.register_step_pre_hook(lambda *_: 1 / 0)  # type: ignore[arg-type] # it never returns
    with pytest.raises(ZeroDivisionError):
        OnGradients(optimizer, lambda g: g * 2).step()
    assert params[0].grad is gradient


def test_under_a_closure_gradients_are_changed_after_each_call() -> None:
    params = start(2.0)
    adapted = OnGradients(LBFGS(params, lr=0.01, max_iter=3), lambda g: g * 2)
    losses: list[float] = []
    loss = adapted.step(closure_of(adapted, params, losses))
    plain = start(2.0)
    doubled = LBFGS(plain, lr=0.01, max_iter=3)

    def by_hand() -> Tensor:
        doubled.zero_grad()
        loss = plain[0].pow(4).sum() / 2
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        return loss.detach()

    doubled.step(by_hand)  # type: ignore[no-untyped-call] # torch leaves it untyped
    assert len(losses) == 3
    assert loss.item() == losses[0]
    assert params[0].item() == plain[0].item()
    assert params[0].grad is not None
    assert plain[0].grad is not None
    assert params[0].grad.item() * 2 == plain[0].grad.item()


def test_centralised_gradients_have_no_mean_per_row() -> None:
    matrix = torch.tensor([[1.0, 3.0], [2.0, 6.0]])
    assert centralise(matrix).tolist() == [[-1.0, 1.0], [-2.0, 2.0]]
    kernel = torch.arange(16.0).reshape(2, 2, 2, 2)
    assert centralise(kernel).sum(dim=(1, 2, 3)).tolist() == [0.0, 0.0]
    assert centralise(kernel)[1, 0, 0, 0].item() == 8.0 - 11.5


def test_vectors_are_not_centralised() -> None:
    vector = torch.tensor([1.0, 3.0])
    assert centralise(vector) is vector
    assert centralise(torch.tensor(1.0)).item() == 1.0
