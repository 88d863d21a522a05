from __future__ import annotations

import numpy as np
import pytest
import torch
from reached import documented, reached

from pytest_optcheck.workloads import datasets
from pytest_optcheck.workloads.graphs import LABELLED, Gcn

F64 = torch.float64


def test_the_club_has_34_members_78_friendships_and_two_factions() -> None:
    raw = datasets.load("karate")
    assert raw["edges"].shape == (78, 2)
    assert len({tuple(sorted(edge)) for edge in raw["edges"].tolist()}) == 78
    assert set(raw["edges"].ravel().tolist()) == set(range(34))
    assert np.bincount(raw["edges"].ravel())[[0, 33]].tolist() == [16, 17]
    assert np.bincount(raw["faction"]).tolist() == [17, 17]
    assert raw["faction"][list(LABELLED)].tolist() == [0, 1]


def test_the_adjacency_is_normalised_with_self_loops() -> None:
    adjacency = np.asarray(Gcn().data()["adjacency"])
    assert np.array_equal(adjacency, adjacency.T)
    assert np.count_nonzero(adjacency) == 34 + 2 * 78
    assert adjacency[0, 0] == pytest.approx(1 / 17)
    assert np.linalg.eigvalsh(adjacency).max() == pytest.approx(1.0)


def test_only_the_two_leaders_are_labelled() -> None:
    problem = Gcn().problem(F64)
    before = problem.final_loss()
    labels = problem.batch(0)["y"]
    labels[1:33] = 1 - labels[1:33]
    assert problem.final_loss() == before
    labels[0] = 1 - labels[0]
    assert problem.final_loss() != before


def test_the_graph_net_has_matrices_only_and_sees_all_nodes_at_every_update() -> None:
    problem = Gcn().problem(F64)
    assert {name: tuple(p.shape) for name, p in problem.parameters.items()} == {
        "conv1.weight": (34, 16),
        "conv2.weight": (16, 2),
    }
    assert problem.order == []


def test_the_first_convolution_is_penalised() -> None:
    problem = Gcn().problem(F64)
    with torch.no_grad():
        problem.parameters["conv2.weight"].zero_()
        expected = np.log(2.0) + 5e-4 * float(problem.parameters["conv1.weight"].square().sum())
    assert problem.final_loss() == pytest.approx(expected, rel=1e-12)


def test_what_two_labels_teach_tells_most_members_apart() -> None:
    problem = Gcn().problem(F64)
    optimizer = torch.optim.Adam(problem.parameters.values(), lr=0.01)
    for step in range(Gcn.steps):
        optimizer.zero_grad()
        problem.backward(step)
        optimizer.step()
    batch = problem.batch(0)
    hidden = (batch["adjacency"] @ problem.parameters["conv1.weight"]).relu()
    found = (batch["adjacency"] @ hidden @ problem.parameters["conv2.weight"]).argmax(dim=1)
    assert int((found == batch["y"]).sum()) >= 30


@pytest.mark.parametrize(("workload", "spec", "loss"), documented(Gcn))
def test_a_standard_optimizer_reaches_the_documented_loss(workload: str, spec: str, loss: float) -> None:
    assert reached(workload, spec) == pytest.approx(loss, rel=0.1)
