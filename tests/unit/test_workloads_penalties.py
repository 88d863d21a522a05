from __future__ import annotations

import numpy as np
import pytest
import torch
from reached import documented, reached

from pytest_optcheck.workloads.penalties import Logistic, Quartic

F64 = torch.float64


def test_the_quartic_is_the_mean_of_squares_and_fourth_powers() -> None:
    problem = Quartic().problem(F64)
    values = [p.detach().numpy() for p in problem.parameters.values()]
    expected = sum(np.mean(x**2 + Quartic.penalty * x**4) for x in values)
    assert problem.final_loss() == pytest.approx(float(expected), rel=1e-14)


def test_the_penalty_of_the_quartic_pulls_with_four_times_the_cube() -> None:
    problem = Quartic().problem(F64)
    problem.backward(0)
    scalar = problem.parameters["scalar"]
    assert scalar.grad is not None
    x = float(scalar.detach())
    assert float(scalar.grad) == pytest.approx(2 * x + 4 * Quartic.penalty * x**3, rel=1e-14)


def test_the_quartic_has_steep_walls_a_flat_floor_and_a_tensor_at_rest() -> None:
    problem = Quartic().problem(F64)
    problem.backward(0)
    largest = {name: float(p.grad.abs().max()) for name, p in problem.parameters.items() if p.grad is not None}
    assert largest["scalar"] > 5.0
    assert largest["steep"] * 7 > 5.0
    assert 0.0 < largest["flat"] < 1.0
    assert largest["rest"] == 0.0
    assert not problem.parameters["rest"].any()


def test_the_optimum_of_the_quartic_is_zero() -> None:
    problem = Quartic().problem(F64)
    with torch.no_grad():
        for parameter in problem.parameters.values():
            parameter.zero_()
    assert problem.final_loss() == 0.0


def test_a_logistic_model_starts_at_exactly_zero_and_knows_nothing() -> None:
    problem = Logistic().problem(F64)
    assert not any(p.any() for p in problem.parameters.values())
    assert problem.final_loss() == pytest.approx(np.log(2.0), rel=1e-12)


def test_the_penalty_of_the_logistic_model_is_l1_on_the_weights_alone() -> None:
    problem = Logistic().problem(F64)
    with torch.no_grad():
        problem.parameters["weight"][:] = torch.linspace(-1.0, 1.0, 30, dtype=F64)
        problem.parameters["bias"].fill_(3.0)
    batch = problem.batch(0)
    logits = batch["x"] @ problem.parameters["weight"] + 3.0
    fit = torch.nn.functional.binary_cross_entropy_with_logits(logits, batch["y"])
    expected = float(fit.detach()) + 0.01 * float(torch.linspace(-1.0, 1.0, 30, dtype=F64).abs().sum())
    assert float(problem.backward(0)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("workload", "spec", "loss"), documented(Quartic, Logistic))
def test_a_standard_optimizer_reaches_the_documented_loss(workload: str, spec: str, loss: float) -> None:
    assert reached(workload, spec) == pytest.approx(loss, rel=0.1)
