from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from numpy.random import RandomState

from pytest_optcheck import workloads
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.specs import parse
from pytest_optcheck.training import train
from pytest_optcheck.workloads.networks import DigitsCnn, Mlp, he_uniform

F64 = torch.float64
ADAM = parse("torch.optim:Adam(lr=0.001)")


def test_he_weights_have_the_variance_of_relu_layers_and_no_bias() -> None:
    params = he_uniform(RandomState(0), [("dense", (200, 50)), ("conv", (64, 32, 3, 3))])
    assert list(params) == ["dense.weight", "dense.bias", "conv.weight", "conv.bias"]
    for name, shape, fan_in in (("dense", (200, 50), 50), ("conv", (64, 32, 3, 3), 288)):
        weight = params[f"{name}.weight"]
        assert weight.shape == shape
        assert weight.dtype == np.float64
        assert weight.var() == pytest.approx(2.0 / fan_in, rel=0.05)
        assert np.abs(weight).max() <= np.sqrt(6.0 / fan_in)
        assert params[f"{name}.bias"].tolist() == [0.0] * shape[0]


def test_the_mlp_has_the_documented_layers() -> None:
    shapes = {name: tuple(p.shape) for name, p in Mlp().problem(F64).parameters.items()}
    assert shapes == {
        "dense1.weight": (128, 30),
        "dense1.bias": (128,),
        "dense2.weight": (64, 128),
        "dense2.bias": (64,),
        "dense3.weight": (32, 64),
        "dense3.bias": (32,),
        "out.weight": (1, 32),
        "out.bias": (1,),
    }


def test_the_cnn_has_four_dimensional_weights() -> None:
    parameters = DigitsCnn().problem(F64).parameters
    assert [name for name, p in parameters.items() if p.dim() == 4] == [f"conv{i}.weight" for i in (1, 2, 3)]
    assert tuple(parameters["out.weight"].shape) == (10, 64)


def test_the_data_of_the_networks_is_scaled() -> None:
    digits = DigitsCnn().problem(F64).batch(0)
    assert tuple(digits["x"].shape) == (16, 1, 8, 8)
    assert (float(digits["x"].min()), float(digits["x"].max())) == (0.0, 1.0)
    assert digits["y"].dtype == torch.int64
    tumours = Mlp().problem(F64).batch(0)
    assert tuple(tumours["x"].shape) == (64, 30)
    assert set(tumours["y"].tolist()) == {0.0, 1.0}


def test_a_fresh_network_knows_nothing() -> None:
    problem = DigitsCnn().problem(F64)
    with torch.no_grad():
        for parameter in problem.parameters.values():
            parameter.zero_()
    assert problem.final_loss() == pytest.approx(np.log(10.0))
    mlp = Mlp().problem(F64)
    with torch.no_grad():
        for parameter in mlp.parameters.values():
            parameter.zero_()
    assert mlp.final_loss() == pytest.approx(np.log(2.0))


@pytest.mark.parametrize("name", ["mlp", "digits_cnn"])
def test_adam_reaches_the_documented_loss(name: str) -> None:
    workload = workloads.load(workloads.BUILTIN[name])
    documented = re.search(r" from (\d+\.\d+) to (\d+\.\d+)", type(workload).__doc__ or "")
    assert documented is not None
    run = train(ADAM.factory(), workload, Conditions())
    assert workload.problem(F64).final_loss() == pytest.approx(float(documented[1]), rel=0.05)
    assert run.losses[-1] == pytest.approx(float(documented[2]), rel=0.1)
