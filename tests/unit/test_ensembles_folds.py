from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from seeded import Line
from toys import Bowl

from pytest_optcheck import workloads
from pytest_optcheck.convergence import CONFIRM, SCREEN
from pytest_optcheck.workloads.base import FOLDS, Workload

F64 = torch.float64
CURVES = Path(__file__).parents[2] / "reference_curves"
FOLDED = ("linear", "logistic", "finetune", "mlp", "digits_cnn")
CLASSIFIERS = ("logistic", "finetune", "mlp", "digits_cnn")


def loaded(name: str) -> Workload:
    return workloads.load(workloads.BUILTIN[name])


@pytest.mark.parametrize("name", ["logistic", "mlp"])
def test_folds_and_scores_leave_the_stored_goldens_valid(name: str) -> None:
    path = next(CURVES.glob(f"torch.optim-SGD-lr-0.01-momentum-0.9-*/{name}.json"))
    assert loaded(name).digest == json.loads(path.read_text(encoding="utf-8"))["workload"]["digest"]


def test_the_reference_trains_on_all_examples_and_holds_none_out() -> None:
    problem = Line().problem(F64)
    assert problem.held_out() == {}
    assert sorted({int(row) for rows in problem.order for row in rows}) == list(range(16))


def test_a_seeded_copy_is_the_same_model_and_leaves_the_original_as_it_is() -> None:
    line = Line()
    copy = line.seeded(5)
    assert (copy.name, copy.tensor_shapes, copy.seed) == (line.name, line.tensor_shapes, 5)
    assert line.seed is None
    assert line.problem(F64).held_out() == {}


def test_a_seed_draws_its_own_start_order_and_fold() -> None:
    one, other = (Line().seeded(seed).problem(F64) for seed in (0, 1))
    assert not torch.equal(one.parameters["slope"], other.parameters["slope"])
    assert not np.array_equal(one.order, other.order)
    assert not torch.equal(one.held_out()["x"], other.held_out()["x"])
    again = Line().seeded(0).problem(F64)
    assert torch.equal(one.parameters["slope"], again.parameters["slope"])
    assert torch.equal(one.held_out()["x"], again.held_out()["x"])


def test_what_is_held_out_is_never_trained_on() -> None:
    problem = Line().seeded(2).problem(F64)
    held_out = set(problem.held_out()["x"].tolist())
    trained = {x for step in range(Line.steps) for x in problem.batch(step)["x"].tolist()}
    everything = set(Line().data()["x"].tolist())
    assert len(held_out) == 4
    assert trained == everything - held_out


def test_the_final_loss_is_taken_over_the_data_trained_on() -> None:
    problem = Line().seeded(2).problem(F64)
    held_out = set(problem.held_out()["x"].tolist())
    kept = problem.rows("x", slice(0, Line.final_examples))
    assert len(kept) == Line.final_examples
    assert not held_out & set(kept.tolist())
    batch = {name: problem.rows(name, slice(0, Line.final_examples)) for name in ("x", "y")}
    with torch.no_grad():
        assert problem.final_loss() == float(Line().loss(problem.parameters, batch))


@pytest.mark.parametrize("seeds", [range(SCREEN), range(SCREEN, SCREEN + CONFIRM), range(FOLDS)])
def test_screen_and_confirmation_hold_every_example_out_equally_often(seeds: range) -> None:
    splits = [Line().seeded(seed).split(17) for seed in seeds]
    counts = Counter(int(row) for split in splits if split is not None for row in split[1])
    assert set(counts.values()) == {len(seeds) // FOLDS}
    assert len(counts) == 17
    for split in splits:
        assert split is not None
        assert sorted(np.concatenate(split).tolist()) == list(range(17))


def test_the_next_folds_are_cut_from_another_permutation() -> None:
    first, second = (Line().seeded(seed).split(100) for seed in (0, FOLDS))
    assert first is not None
    assert second is not None
    assert set(first[1].tolist()) != set(second[1].tolist())


def test_without_folds_a_seed_draws_start_and_order_alone() -> None:
    one, other = (Bowl().seeded(seed).problem(F64) for seed in (0, 1))
    assert one.held_out() == other.held_out() == {}
    assert not torch.equal(one.parameters["vector"], other.parameters["vector"])
    assert torch.equal(one.parameters["vector"], Bowl().problem(F64, seed=0).parameters["vector"])


@pytest.mark.parametrize("name", FOLDED)
def test_a_fold_of_a_shipped_model_is_a_quarter_of_its_examples(name: str) -> None:
    workload = loaded(name)
    examples = len(next(iter(workload.data().values())))
    split = workload.seeded(1).split(examples)
    assert split is not None
    assert len(split[1]) in (examples // 4, examples // 4 + 1)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_scores_of_a_shipped_classifier_are_those_of_its_loss(name: str) -> None:
    workload = loaded(name)
    problem = workload.problem(F64)
    batch = problem.batch(0)
    with torch.no_grad():
        found = workload.scores(problem.parameters, batch)
    assert found is not None
    logits, classes = found
    assert len(logits) == len(classes)
    assert torch.equal(classes, batch["y"])
    if logits.dim() == 1:
        fit = torch.nn.functional.binary_cross_entropy_with_logits(logits, classes)
    else:
        fit = torch.nn.functional.cross_entropy(logits, classes)
    loss = float(workload.loss(problem.parameters, batch).detach())  # penalties are zero at the start
    assert float(fit) == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize("name", ["zoo", "quadratic", "linear", "transformer"])
def test_what_classifies_nothing_has_no_scores(name: str) -> None:
    problem = loaded(name).problem(F64)
    assert loaded(name).scores(problem.parameters, {}) is None
