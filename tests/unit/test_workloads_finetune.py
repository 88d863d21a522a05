from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.random import RandomState
from reached import documented, reached

from pytest_optcheck.conditions import Conditions
from pytest_optcheck.specs import parse
from pytest_optcheck.training import train
from pytest_optcheck.workloads import datasets
from pytest_optcheck.workloads.finetune import Finetune

F64 = torch.float64
BODY = ["early.weight", "early.bias", "late.weight", "late.bias"]


def test_the_data_is_the_other_five_digits() -> None:
    arrays = Finetune().data()
    assert arrays["x"].shape == (896, 64)
    assert (arrays["x"].min(), arrays["x"].max()) == (-0.5, 0.5)
    digits = datasets.load("digits")["target"]
    assert np.array_equal(arrays["y"] + 5, digits[digits >= 5])


def test_the_pretrained_weights_lie_on_a_grid() -> None:
    weights = datasets.load("pretrained")
    assert {name: array.shape for name, array in weights.items()} == {
        "early.weight": (24, 64),
        "early.bias": (24,),
        "late.weight": (16, 24),
        "late.bias": (16,),
    }
    assert all(np.array_equal(array * 2.0**12, np.round(array * 2.0**12)) for array in weights.values())


def test_the_body_starts_as_pretrained_and_the_head_anew() -> None:
    weights = datasets.load("pretrained")
    one, other = (Finetune().init(RandomState(seed)) for seed in (0, 1))
    assert all(np.array_equal(one[name], weights[name]) for name in BODY)
    assert all(np.array_equal(other[name], weights[name]) for name in BODY)
    assert not np.array_equal(one["head.weight"], other["head.weight"])


def test_the_pretrained_body_tells_the_first_five_digits_apart_and_a_shuffled_one_less() -> None:
    raw = datasets.load("digits")
    earlier = raw["target"] < 5
    x = torch.from_numpy(raw["features"][earlier].reshape(-1, 64) / 16.0 - 0.5)
    y = torch.from_numpy(raw["target"][earlier].astype(np.int64))
    random = RandomState(0)
    right = []
    for shuffled in (False, True):
        body = {name: array.copy() for name, array in datasets.load("pretrained").items()}
        for array in body.values() if shuffled else ():
            array.flat[:] = random.permutation(array.ravel())
        tensors = {name: torch.from_numpy(array) for name, array in body.items()}
        features = (x @ tensors["early.weight"].T + tensors["early.bias"]).tanh()
        features = (features @ tensors["late.weight"].T + tensors["late.bias"]).tanh()
        centres = torch.stack([features[y == digit].mean(0) for digit in range(5)])
        right.append(float((torch.cdist(features, centres).argmin(1) == y).double().mean()))
    assert right[0] > 0.99
    assert right[0] > right[1] + 0.02


def test_there_are_fast_slow_and_late_groups() -> None:
    names = list(Finetune().tensor_shapes)
    head, late, early = Finetune().groups(names)
    assert head == ["head.weight", "head.bias"]
    assert late == ["late.weight", "late.bias"]
    assert early == ["early.weight", "early.bias"]
    assert Finetune().groups([*head, *late]) == [head, late]
    assert Finetune().groups(early) == [early]


def test_the_early_layer_joins_in_the_middle() -> None:
    assert set(Finetune.joins) == {"early.weight", "early.bias"}
    assert set(Finetune.joins.values()) == {24}
    run = train(parse("torch.optim:SGD(lr=0.1)").factory(), Finetune(), Conditions())
    norms = run.norms["early.weight"]
    assert norms[1] == norms[24]
    assert norms[Finetune.steps] != norms[24]


def test_the_body_is_pulled_to_where_it_came_from() -> None:
    problem = Finetune().problem(F64)
    start = problem.final_loss()
    with torch.no_grad():
        problem.parameters["head.weight"].zero_()
    assert problem.final_loss() == pytest.approx(np.log(5.0), rel=1e-12)
    assert start != problem.final_loss()
    with torch.no_grad():
        problem.parameters["late.bias"].add_(0.5)
    assert problem.final_loss() == pytest.approx(np.log(5.0) + Finetune.penalty * 16 * 0.25, rel=1e-12)


def test_the_digest_tells_another_time_to_join() -> None:
    later = type("Later", (Finetune,), {"joins": {"early.weight": 25, "early.bias": 24}})
    never = type("Never", (Finetune,), {"joins": {}})
    assert len({kind().digest for kind in (Finetune, later, never)}) == 3


@pytest.mark.parametrize(("workload", "spec", "loss"), documented(Finetune))
def test_a_standard_optimizer_reaches_the_documented_loss(workload: str, spec: str, loss: float) -> None:
    assert reached(workload, spec) == pytest.approx(loss, rel=0.1)
