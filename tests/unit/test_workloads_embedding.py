from __future__ import annotations

import numpy as np
import pytest
import torch
from reached import documented, reached

from pytest_optcheck.conditions import Conditions
from pytest_optcheck.curves import Needs
from pytest_optcheck.specs import parse
from pytest_optcheck.training import train
from pytest_optcheck.workloads.embedding import Embedding

F64 = torch.float64


def test_a_true_context_is_of_the_same_topic() -> None:
    arrays = Embedding().data()
    topics = arrays["word"] // Embedding.topic
    assert np.array_equal(arrays["context"][:, 0] // Embedding.topic, topics)
    assert (arrays["context"][:, 1:] // Embedding.topic == topics[:, None]).mean() < 0.2
    assert set(np.unique(topics).tolist()) == set(range(16))


def test_both_sides_of_the_tables_are_large_enough_to_be_factored() -> None:
    shapes = Embedding().tensor_shapes
    assert shapes == {"words": (160, 128), "contexts": (160, 128), "bias": (160,)}


def test_rows_that_a_batch_does_not_touch_have_no_gradient() -> None:
    problem = Embedding().problem(F64)
    problem.backward(0)
    problem.parameters["contexts"].data.add_(1.0)
    for step in range(1, 6):
        for parameter in problem.parameters.values():
            parameter.grad = None
        problem.backward(step)
        batch = problem.batch(step)
        for name, rows in (("words", batch["word"]), ("contexts", batch["context"]), ("bias", batch["context"])):
            gradient = problem.parameters[name].grad
            assert gradient is not None
            touched = gradient.reshape(160, -1).any(1).nonzero().squeeze(1)
            assert touched.tolist() == sorted(set(rows.flatten().tolist()))


def test_the_first_update_finds_no_gradient_in_the_words() -> None:
    problem = Embedding().problem(F64)
    problem.backward(0)
    words, contexts = (problem.parameters[name].grad for name in ("words", "contexts"))
    assert words is not None
    assert contexts is not None
    assert not words.any()
    assert contexts.any()


def test_the_loss_is_that_of_skip_grams() -> None:
    problem = Embedding().problem(F64)
    with torch.no_grad():
        for parameter in problem.parameters.values():
            parameter.copy_(torch.linspace(-0.1, 0.2, parameter.numel(), dtype=F64).view_as(parameter))
    words, contexts, bias = (p.detach() for p in problem.parameters.values())
    batch = problem.batch(3)
    total = 0.0
    for word, context in zip(batch["word"].tolist(), batch["context"].tolist(), strict=True):
        for position, other in enumerate(context):
            score = words[word] @ contexts[other] + bias[other]
            total -= float((score if position == 0 else -score).sigmoid().log())
    assert float(problem.backward(3)) == pytest.approx(total / 8, rel=1e-12)


def test_sparse_adam_leaves_untouched_rows_where_they_are() -> None:
    spec = parse("torch.optim:SparseAdam(lr=0.1)")
    run = train(spec.factory(), Embedding(), Conditions(needs=Needs(sparse=True)))
    assert run.failure is None
    assert run.losses[-1] < 0.5 * run.losses[0]
    assert run.norms["words"][1] == float(Embedding().problem(F64).parameters["words"].detach().norm())


@pytest.mark.parametrize(("workload", "spec", "loss"), documented(Embedding))
def test_a_standard_optimizer_reaches_the_documented_loss(workload: str, spec: str, loss: float) -> None:
    assert reached(workload, spec) == pytest.approx(loss, rel=0.1)
