from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from pytest_optcheck.workloads.convex import IllConditionedQuadratic, Linear, Quadratic

F64 = torch.float64


def test_the_quadratic_is_the_mean_of_squares() -> None:
    problem = Quadratic().problem(F64)
    theta = problem.parameters["theta"]
    assert theta.shape == (1000,)
    assert float(theta.detach().abs().max()) <= 1.0
    assert problem.final_loss() == pytest.approx(float(theta.detach().square().mean()), rel=1e-15)
    with torch.no_grad():
        theta.zero_()
    assert problem.final_loss() == 0.0


def test_the_ill_conditioned_quadratic_has_condition_number_ten_thousand() -> None:
    problem = IllConditionedQuadratic().problem(F64)
    problem.backward(0)
    theta = problem.parameters["theta"]
    assert theta.grad is not None
    curvature = theta.grad / theta.detach() * len(theta) / 2
    assert float(curvature[0]) == pytest.approx(1e-3)
    assert float(curvature[-1]) == pytest.approx(10.0)
    ratios = curvature[1:] / curvature[:-1]
    assert float(ratios.min()) == pytest.approx(float(ratios.max()))


def test_both_quadratics_start_at_the_same_point() -> None:
    one, other = (kind().problem(F64).parameters["theta"] for kind in (Quadratic, IllConditionedQuadratic))
    assert torch.equal(one, other)


def test_linear_is_ridge_regression_with_the_documented_optimum() -> None:
    problem = Linear().problem(F64)
    arrays = Linear().data()
    x, y = np.asarray(arrays["x"]), np.asarray(arrays["y"])
    rows = len(y)
    assert x.shape == (442, 10)
    centred, mean = x - x.mean(axis=0), y.mean()
    weight = np.linalg.solve(centred.T @ centred / rows + 0.01 * np.eye(10), centred.T @ (y - mean) / rows)
    with torch.no_grad():
        problem.parameters["weight"].copy_(torch.from_numpy(weight))
        problem.parameters["bias"].fill_(float(mean - x.mean(axis=0) @ weight))
    documented = re.search(r"least over all data is (0\.\d{4})", Linear.__doc__ or "")
    assert documented is not None
    assert f"{problem.final_loss():.4f}" == documented[1]
    least = problem.final_loss()
    for name in ("weight", "bias"):
        with torch.no_grad():
            problem.parameters[name].add_(1e-3)
        assert problem.final_loss() > least


def test_linear_starts_without_a_bias() -> None:
    assert Linear().problem(F64).parameters["bias"].tolist() == [0.0]
