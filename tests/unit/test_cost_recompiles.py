from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from pytest_optcheck.cost import counting
from pytest_optcheck.cost.recompiles import RATES
from pytest_optcheck.curves import Needs
from pytest_optcheck.specs import FactorySpec, parse

if TYPE_CHECKING:
    from pytest_optcheck.specs import OptimizerSpec

pytestmark = pytest.mark.slow


class ByRate(torch.optim.Optimizer):
    """A step that the compiler has to specialise on the learning rate."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:  # noqa: ANN401 - as torch has it
        """Take parameters."""
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - as torch has it
        """Descend by a factor that is worked out by branches on the learning rate."""
        del closure
        for group in self.param_groups:
            rate, doublings = group["lr"], 0
            while rate < 1.0:
                rate, doublings = 2.0 * rate, doublings + 1
            for parameter in group["params"]:
                parameter.sub_(parameter.grad, alpha=1.0 / (1 + doublings))


def recompiles(spec: OptimizerSpec, needs: Needs | None = None) -> int | None:
    """Those counted on ten tensors."""
    return counting.count(spec, needs or Needs(), lists=("ten",), compiled=True).lists["ten"].recompiles


def test_a_rate_in_a_tensor_compiles_nothing_again_and_another_step_does() -> None:
    sound = FactorySpec("sound", lambda params: torch.optim.SGD(params, lr=torch.tensor(0.1)))
    assert recompiles(sound) == 0
    assert recompiles(FactorySpec("by rate", ByRate)) == RATES


def test_counting_again_counts_the_same() -> None:
    spec = parse("torch.optim:Adam(lr=0.001)")
    assert recompiles(spec) == recompiles(spec)


def test_nothing_is_printed_or_logged(capfd: pytest.CaptureFixture[str]) -> None:
    recompiles(parse("torch.optim:SGD(lr=0.01)"))
    assert capfd.readouterr() == ("", "")


def test_what_asks_for_the_objective_is_not_compiled() -> None:
    needs = Needs(closure=True, one_group=True)
    assert recompiles(parse("torch.optim:LBFGS(lr=0.5, max_iter=2)"), needs) is None
