from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from toys import Bowl, Descent, TwoGroups, toy

from pytest_optcheck.curves import Needs
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.needs import TRIAL_STEPS, discover

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    from pytest_optcheck.workloads.base import Arrays, Tensors

BOWL = Bowl()


class TakesOnly(Descent):
    """Raises on a tensor it does not like."""

    def likes(self, parameter: Tensor) -> bool:
        return parameter.dim() == 2

    def __init__(self, params: Iterable[Any]) -> None:
        super().__init__(params)
        for parameter in self.parameters:
            if not self.likes(parameter):
                raise ValueError(f"cannot take {tuple(parameter.shape)}")


class OnlyFloat32(TakesOnly):
    def likes(self, parameter: Tensor) -> bool:
        return parameter.dtype == torch.float32


class OnlyFloat32Matrices(TakesOnly):
    def likes(self, parameter: Tensor) -> bool:
        return parameter.dtype == torch.float32 and parameter.dim() == 2


class Nothing(TakesOnly):
    def likes(self, parameter: Tensor) -> bool:
        return parameter.dim() > 9


class OneGroup(Descent):
    def __init__(self, params: Iterable[Any]) -> None:
        given = list(params)
        if len([group for group in given if isinstance(group, dict)]) > 1:
            raise ValueError("no groups")
        super().__init__(given)


class FailsAt(Descent):
    at = TRIAL_STEPS

    def step(self) -> None:
        super().step()
        if self.updates == self.at:
            raise RuntimeError("too late")


class FailsAfterTheTrial(FailsAt):
    at = TRIAL_STEPS + 1


class GoesAstray(Descent):
    def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        parameter.add_(gradient, alpha=lr * float("nan"))


class Longer(Bowl):
    name = "longer"
    steps = 3 * TRIAL_STEPS


class Short(Bowl):
    name = "short"
    steps = 2


def found(build: Callable[[Iterable[Any]], Any], workload: Bowl = BOWL) -> tuple[Needs, str]:
    return discover(toy(build), workload, "cpu")


def test_an_optimizer_in_textbook_form_needs_nothing() -> None:
    assert found(Descent) == (Needs(), "float64")
    assert found(Descent, TwoGroups()) == (Needs(), "float64")


class Toils(Descent):
    """Takes its time, at every update or at its first one in this process only."""

    cold = True
    always_s = 0.0
    first_s = 0.0

    def step(self) -> None:
        ends = time.process_time() + self.always_s + (self.first_s if type(self).cold else 0.0)
        while time.process_time() < ends:
            pass
        type(self).cold = False
        super().step()


def test_a_slow_optimizer_makes_fewer_updates() -> None:
    class Slow(Toils):
        always_s = 0.08

    needs, _ = found(Slow, Longer())
    assert 8 <= needs.steps <= 13


def test_an_optimizer_that_is_slow_once_makes_all_updates() -> None:
    class WarmsUp(Toils):
        first_s = 0.5

    assert found(WarmsUp, Longer()) == (Needs(), "float64")


def test_a_slow_optimizer_never_makes_more_updates_than_the_model_has() -> None:
    class Slow(Toils):
        always_s = 0.18

    assert found(Slow) == (Needs(), "float64")


def test_seconds_in_which_the_machine_did_something_else_do_not_count() -> None:
    class Waits(Descent):
        def step(self) -> None:
            time.sleep(0.08)
            super().step()

    assert found(Waits, Longer()) == (Needs(), "float64")


def test_an_optimizer_that_takes_too_long_is_refused_with_its_seconds() -> None:
    class Slowest(Toils):
        always_s = 0.3

    with pytest.raises(OptcheckError, match=r"toy is too slow on bowl: 0\.3\d* s an update"):
        found(Slowest)


def test_lbfgs_needs_a_closure() -> None:
    assert found(lambda params: torch.optim.LBFGS(params, lr=0.1)) == (Needs(closure=True), "float64")


def test_lbfgs_needs_a_closure_and_one_group_where_there_are_two() -> None:
    needs, dtype = found(lambda params: torch.optim.LBFGS(params, lr=0.1), TwoGroups())
    assert (needs, dtype) == (Needs(closure=True, one_group=True), "float64")


def test_an_optimizer_of_one_group_gets_one_group() -> None:
    assert found(OneGroup, TwoGroups()) == (Needs(one_group=True), "float64")


def test_muon_refuses_what_is_no_matrix() -> None:
    needs, dtype = found(lambda params: torch.optim.Muon(params, lr=0.1))
    assert (needs, dtype) == (Needs(frozen=("vector",)), "float64")


def test_only_the_tensors_that_are_refused_alone_are_frozen() -> None:
    assert found(TakesOnly, TwoGroups()) == (Needs(frozen=("vector",)), "float64")


def test_sparse_adam_needs_sparse_gradients() -> None:
    assert found(lambda params: torch.optim.SparseAdam(params, lr=0.1)) == (Needs(sparse=True), "float64")


def test_an_optimizer_of_float32_is_tried_in_float32() -> None:
    assert found(OnlyFloat32) == (Needs(), "float32")


def test_an_optimizer_may_refuse_dtype_and_tensors() -> None:
    assert found(OnlyFloat32Matrices) == (Needs(frozen=("vector",)), "float32")


def test_an_optimizer_that_refuses_everything_is_refused_in_one_line_with_its_own_words() -> None:
    with pytest.raises(OptcheckError) as caught:
        found(Nothing)
    assert str(caught.value) == (
        "toy does not train bowl: ValueError: cannot take (3,); leave it out by listing its workloads"
    )


def test_the_words_are_those_of_the_first_trial() -> None:
    """Later trials fail for reasons of their own, such as a closure that nobody asked for."""
    with pytest.raises(OptcheckError, match="toy does not train bowl: RuntimeError: too late; "):
        found(FailsAt)


def test_what_is_no_optimizer_is_refused_in_one_line() -> None:
    with pytest.raises(OptcheckError, match="toy does not train bowl: "):
        found(lambda _: None)


def test_a_trial_is_short() -> None:
    assert found(FailsAfterTheTrial, Longer()) == (Needs(), "float64")


def test_a_trial_is_never_longer_than_the_training() -> None:
    assert found(FailsAt, Short()) == (Needs(), "float64")


def test_leaving_the_finite_numbers_is_no_need() -> None:
    assert found(GoesAstray) == (Needs(), "float64")


class DislikesCompany(Descent):
    """Takes any number of vectors or any number of matrices, but not both."""

    def step(self) -> None:
        if len({parameter.dim() for parameter in self.parameters}) > 1:
            raise RuntimeError("mixed company")
        super().step()


class DislikesSparseAndNumbers(Descent):
    """Steps on dense numbers without dimensions; nothing with dimensions suits it, sparse or dense."""

    def step(self) -> None:
        if any(parameter.dim() for parameter in self.parameters):
            raise RuntimeError("no dimensions")
        super().step()


class WithNumber(Bowl):
    """A bowl with a tensor that has no dimensions."""

    def init(self, random: np.random.RandomState) -> Arrays:
        return {"number": np.asarray(random.uniform(-1.0, 1.0)), **super().init(random)}

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        others = {name: parameter for name, parameter in params.items() if name != "number"}
        return super().loss(others, batch) + params["number"].square()


def test_a_tensor_that_is_refused_in_company_only_is_frozen() -> None:
    first = next(iter(BOWL.tensor_shapes))
    needs, _ = discover(toy(DislikesCompany), BOWL, "cpu")
    kept = set(BOWL.tensor_shapes) - set(needs.frozen)
    assert first in kept
    assert {len(BOWL.tensor_shapes[name]) for name in kept} == {len(BOWL.tensor_shapes[first])}


def test_sparse_gradients_are_never_claimed_where_no_gradient_is_sparse() -> None:
    needs, _ = discover(toy(DislikesSparseAndNumbers), WithNumber(), "cpu")
    assert needs.sparse is False
    assert "number" not in needs.frozen


def test_the_setting_that_freezes_least_is_taken() -> None:
    """One group loses nothing where a second group would have to be frozen whole."""
    groups = TwoGroups()
    needs, _ = discover(toy(OneGroup), groups, "cpu")
    assert needs == Needs(one_group=True)
