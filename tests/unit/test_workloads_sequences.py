from __future__ import annotations

import numpy as np
import pytest
import torch
from reached import documented, reached

from pytest_optcheck.workloads.sequences import Lstm, Transformer

F64 = torch.float64


def test_the_parities_are_those_of_the_bits_so_far() -> None:
    arrays = Lstm().data()
    assert arrays["x"].shape == arrays["y"].shape == (256, 8)
    assert len({tuple(row) for row in arrays["x"].tolist()}) == 256
    bits = (arrays["x"] > 0).astype(int)
    assert all(arrays["y"][:, k].tolist() == (bits[:, : k + 1].sum(axis=1) % 2).tolist() for k in range(8))


def test_the_lstm_is_torchs() -> None:
    problem = Lstm().problem(F64)
    params = {name: p.detach() for name, p in problem.parameters.items()}
    lstm = torch.nn.LSTM(1, Lstm.hidden, batch_first=True, dtype=F64)
    lstm.load_state_dict(
        {
            "weight_ih_l0": params["input.weight"],
            "weight_hh_l0": params["recurrent.weight"],
            "bias_ih_l0": params["input.bias"],
            "bias_hh_l0": torch.zeros(4 * Lstm.hidden, dtype=F64),
        }
    )
    batch = problem.batch(0)
    with torch.no_grad():
        logits = lstm(batch["x"].unsqueeze(2))[0] @ params["out.weight"].T + params["out.bias"]
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["y"].flatten())
    assert float(problem.backward(0)) == pytest.approx(float(expected), rel=1e-12)


def test_gradients_of_the_lstm_burst_in_the_middle_of_a_training() -> None:
    problem = Lstm().problem(F64)
    optimizer = torch.optim.SGD(problem.parameters.values(), lr=1.0, momentum=0.9)
    norms = []
    for step in range(Lstm.steps):
        optimizer.zero_grad()
        problem.backward(step)
        norms.append(
            sum(float(p.grad.square().sum()) for p in problem.parameters.values() if p.grad is not None) ** 0.5
        )
        optimizer.step()
    assert np.argmax(norms) > 20
    assert max(norms) > 4 * np.median(norms)


def test_the_transformer_learns_sums_of_all_pairs() -> None:
    arrays = Transformer().data()
    assert arrays["x"].shape == (49, 3)
    assert len({tuple(row) for row in arrays["x"].tolist()}) == 49
    assert set(arrays["x"][:, 2].tolist()) == {7}
    assert arrays["y"].tolist() == [(a + b) % 7 for a, b, _ in arrays["x"].tolist()]


def test_the_attention_of_the_transformer_is_torchs() -> None:
    problem = Transformer().problem(F64)
    params = {name: p.detach() for name, p in problem.parameters.items()}
    batch = problem.batch(0)
    f = torch.nn.functional
    x = params["tokens.weight"][batch["x"]] + params["positions.weight"]
    y = f.layer_norm(x, (32,), params["norm1.weight"], params["norm1.bias"])
    query, key, value = (y @ part.T for part in params["attention.weight"].chunk(3))
    x = x + f.scaled_dot_product_attention(query, key, value) @ params["mixed.weight"].T
    y = f.layer_norm(x, (32,), params["norm2.weight"], params["norm2.bias"])
    wide = (y @ params["wide.weight"].T + params["wide.bias"]).relu()
    x = x + wide @ params["narrow.weight"].T + params["narrow.bias"]
    expected = f.cross_entropy(x[:, -1] @ params["tokens.weight"][:7].T, batch["y"])
    assert float(problem.backward(0)) == pytest.approx(float(expected), rel=1e-12)


def test_the_transformer_has_a_square_matrix_and_norms_at_one() -> None:
    problem = Transformer().problem(F64)
    assert tuple(problem.parameters["mixed.weight"].shape) == (32, 32)
    for name in ("norm1", "norm2"):
        assert problem.parameters[f"{name}.weight"].tolist() == [1.0] * 32
        assert problem.parameters[f"{name}.bias"].tolist() == [0.0] * 32
    assert {"attention.bias", "mixed.bias"}.isdisjoint(problem.parameters)


@pytest.mark.parametrize(("workload", "spec", "loss"), documented(Lstm, Transformer))
def test_a_standard_optimizer_reaches_the_documented_loss(workload: str, spec: str, loss: float) -> None:
    assert reached(workload, spec) == pytest.approx(loss, rel=0.1)
