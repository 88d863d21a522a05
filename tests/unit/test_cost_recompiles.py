from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from guarded import asked, case, only, written

from pytest_optcheck import costing
from pytest_optcheck.cases import Scope
from pytest_optcheck.cost import counting
from pytest_optcheck.cost.figures import version_key
from pytest_optcheck.cost.recompiles import RATES
from pytest_optcheck.curves import Needs
from pytest_optcheck.goldens import Goldens
from pytest_optcheck.specs import FactorySpec, parse
from pytest_optcheck.updating import update

if TYPE_CHECKING:
    from pathlib import Path

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


def sound(params: Any) -> torch.optim.Optimizer:  # noqa: ANN401 - as torch has it
    """One whose learning rate is in a tensor."""
    return torch.optim.SGD(params, lr=torch.tensor(0.1))


def recompiles(spec: OptimizerSpec, needs: Needs | None = None) -> int | None:
    """Those counted on ten tensors."""
    return counting.count(spec, needs or Needs(), lists=("ten",), compiled=True).cost.lists["ten"].recompiles


def test_a_rate_in_a_tensor_compiles_nothing_again_and_another_step_does() -> None:
    assert recompiles(FactorySpec("sound", sound)) == 0
    assert recompiles(FactorySpec("by rate", ByRate)) == RATES


def test_counting_again_counts_the_same() -> None:
    spec = parse("torch.optim:Adam(lr=0.001)")
    assert recompiles(spec) == recompiles(spec)


def test_nothing_is_printed_or_logged(capfd: pytest.CaptureFixture[str]) -> None:
    recompiles(parse("torch.optim:SGD(lr=0.01)"))
    assert capfd.readouterr() == ("", "")


def test_a_golden_of_the_full_profile_notices_a_step_that_compiles_for_every_rate(tmp_path: Path) -> None:
    scope = Scope(counted=("ten",), compiled=True)
    recorded = written(only(update(case(sound, None, scope=scope), asked(tmp_path, "missing"))), tmp_path)
    assert recorded.costs[version_key()].lists["ten"].recompiles == 0
    Goldens(tmp_path).save(recorded)
    assert only(costing.check(case(sound, None, scope=scope), asked(tmp_path))).verdict.kind == "match"
    found = only(costing.check(case(ByRate, None, scope=scope), asked(tmp_path)))
    assert found.verdict.kind == "heavier"
    assert f"ten: 0 → {RATES} recompiles under changing learning rates" in found.verdict.details


def test_what_asks_for_the_objective_is_not_compiled() -> None:
    needs = Needs(closure=True, one_group=True)
    assert recompiles(parse("torch.optim:LBFGS(lr=0.5, max_iter=2)"), needs) is None
