from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest
import torch
from numpy.random import RandomState
from toys import Bowl, TwoGroups

from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.workloads.base import Arrays, Tensors, Workload

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

F64, F32 = torch.float64, torch.float32


class Labelled(Workload):
    """Ten numbers with integer labels, in batches of three; the final loss sees the first four."""

    name = "labelled"
    steps = 7
    batch_size: ClassVar[int | None] = 3
    final_examples = 4

    def data(self) -> Arrays:
        return {"x": np.arange(10.0), "label": np.arange(10) % 3}

    def init(self, random: RandomState) -> Arrays:
        return {"weight": random.uniform(-1.0, 1.0, 3), "frame": np.asfortranarray(random.uniform(size=(2, 3)))}

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        return (params["weight"][batch["label"]] * batch["x"]).sum() + params["frame"].square().sum()


class FullBatch(Labelled):
    name = "full_batch"
    batch_size: ClassVar[int | None] = None


class NoData(Workload):
    name = "no_data"
    steps = 2
    batch_size = 4

    def init(self, random: RandomState) -> Arrays:
        return {"weight": random.uniform(-1.0, 1.0, 2)}

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        assert not batch
        return params["weight"].square().sum()


def test_the_order_is_permutation_after_permutation_without_remainders() -> None:
    order = Labelled().order(RandomState(5), 10)
    expected = RandomState(5)
    first, second, third = (expected.permutation(10)[:9] for _ in range(3))
    assert len(order) == 7
    assert np.array_equal(np.concatenate(order), np.concatenate([first, second, third])[:21])
    assert all(len(set(rows.tolist())) == 3 for rows in order)


def test_without_batches_every_step_sees_all_data() -> None:
    problem = FullBatch().problem(F64)
    assert problem.order == []
    assert all(problem.batch(step)["x"].tolist() == list(range(10)) for step in (0, 6))


def test_without_data_there_are_no_batches() -> None:
    problem = NoData().problem(F64)
    assert problem.order == []
    assert problem.batch(1) == {}
    assert float(problem.backward(0)) == problem.final_loss()


def test_a_batch_larger_than_the_data_is_refused() -> None:
    """It would be waited for for ever."""

    class Patient(RandomState):
        asked = 0

        def permutation(self, x: int) -> NDArray[np.intp]:  # type: ignore[override] # integers only here
            self.asked += 1
            if self.asked > 100:
                raise TimeoutError("no end of it")
            return np.arange(x, dtype=np.intp)

    with pytest.raises(OptcheckError, match="batch"):
        Labelled().order(Patient(0), 2)


def test_a_batch_holds_the_rows_of_its_step() -> None:
    problem = Labelled().problem(F64)
    for step, rows in enumerate(problem.order):
        batch = problem.batch(step)
        assert batch["x"].tolist() == rows.tolist()
        assert batch["label"].tolist() == [row % 3 for row in rows.tolist()]


class Pairs(Labelled):
    name = "pairs"
    batch_size: ClassVar[int | None] = 4


def test_the_halves_of_a_batch_are_its_rows_in_order() -> None:
    problem = Pairs().problem(F64)
    whole = problem.batch(1)
    halves = []
    for half in (0, 1):
        problem.half = half
        halves.append(problem.batch(1))
    assert [len(half["x"]) for half in halves] == [2, 2]
    for name, rows in whole.items():
        assert torch.equal(torch.cat([half[name] for half in halves]), rows)


@pytest.mark.parametrize("workload", [Labelled, FullBatch, NoData])
def test_what_cannot_be_halved_is_whole_in_both_halves(workload: type[Workload]) -> None:
    problem = workload().problem(F64)
    whole = problem.batch(0)
    for half in (0, 1):
        problem.half = half
        assert {name: rows.tolist() for name, rows in problem.batch(0).items()} == {
            name: rows.tolist() for name, rows in whole.items()
        }


@pytest.mark.parametrize(("which", "expected"), [(3, 3.0), (slice(2, 4), [2.0, 3.0]), (slice(0, 1), [0.0])])
def test_rows_of_one_array_are_given_whatever_the_batch(which: int | slice, expected: float | list[float]) -> None:
    assert Labelled().problem(F64).rows("x", which).tolist() == expected


def test_renewed_parameters_have_the_values_of_now_in_memory_of_their_own() -> None:
    problem = Labelled().problem(F64)
    old = dict(problem.parameters)
    old["weight"].requires_grad_(False)
    problem.backward(0)
    with torch.no_grad():
        old["frame"].add_(1.0)
    problem.renew()
    assert list(problem.parameters) == list(old)
    for name, parameter in problem.parameters.items():
        assert parameter is not old[name]
        assert parameter.grad is None
        assert parameter.requires_grad == (name != "weight")
        assert torch.equal(parameter, old[name])
        assert parameter.data_ptr() != old[name].data_ptr()
        assert parameter.stride() == old[name].stride()


@pytest.mark.filterwarnings("ignore:Using backward")  # with create_graph: the cycle is the point
@pytest.mark.parametrize("wanted", [False, True])
def test_gradients_are_differentiable_where_that_is_asked_for(wanted: bool) -> None:
    problem = Labelled().problem(F64)
    problem.create_graph = wanted
    problem.backward(0)
    gradient = problem.parameters["frame"].grad
    assert gradient is not None
    assert gradient.requires_grad == wanted


def test_parameters_are_drawn_before_the_order() -> None:
    problem = Labelled().problem(F64, seed=3)
    random = RandomState(3)
    initial = Labelled().init(random)
    assert torch.equal(problem.parameters["weight"], torch.from_numpy(initial["weight"]))
    assert np.array_equal(np.stack(problem.order), np.stack(Labelled().order(random, 10)))


def test_another_seed_is_another_start_and_another_order() -> None:
    first, second = (Labelled().problem(F64, seed=seed) for seed in (0, 1))
    assert not torch.equal(first.parameters["weight"], second.parameters["weight"])
    assert not np.array_equal(np.stack(first.order), np.stack(second.order))
    assert torch.equal(first.batch(0)["x"].sort().values[:0], second.batch(0)["x"][:0])


def test_two_problems_share_no_memory() -> None:
    workload = Labelled()
    first, second = workload.problem(F64), workload.problem(F64)
    with torch.no_grad():
        for parameter in first.parameters.values():
            parameter.fill_(7.0)
        first.batch(0)["x"].fill_(7.0)
    fresh = workload.problem(F64)
    for name, parameter in second.parameters.items():
        assert torch.equal(parameter, fresh.parameters[name])
        assert not (parameter == 7.0).any()
    assert torch.equal(second.batch(0)["x"], fresh.batch(0)["x"])
    first.held["kept"] = torch.zeros(1)
    assert second.held == fresh.held == {}


def test_parameters_are_leaves_that_keep_their_order_and_their_strides() -> None:
    for dtype in (F64, F32):
        parameters = Labelled().problem(dtype).parameters
        assert list(parameters) == ["weight", "frame"] == list(Labelled().tensor_shapes)
        assert all(p.is_leaf and p.requires_grad and p.dtype == dtype for p in parameters.values())
        assert parameters["frame"].stride() == (1, 2)


def test_data_is_cast_where_it_is_floating() -> None:
    batch = Labelled().problem(F32).batch(0)
    assert (batch["x"].dtype, batch["label"].dtype) == (F32, torch.int64)


def test_the_loss_before_an_update_is_detached_and_leaves_gradients() -> None:
    problem = Labelled().problem(F64)
    loss = problem.backward(2)
    assert not loss.requires_grad
    assert torch.equal(loss, problem.workload.loss(problem.parameters, problem.batch(2)))
    assert torch.equal(problem.parameters["frame"].grad, 2.0 * problem.parameters["frame"])  # type: ignore[arg-type] # it is there


def test_the_final_loss_is_over_the_first_examples_only() -> None:
    problem = Labelled().problem(F64)
    four = {"x": torch.arange(4, dtype=F64), "label": torch.arange(4) % 3}
    assert problem.final_loss() == float(problem.workload.loss(problem.parameters, four).detach())


def test_the_final_loss_is_over_all_data_by_default() -> None:
    problem = Bowl().problem(F64)
    everything = {"target": torch.tensor(Bowl().data()["target"])}
    assert problem.final_loss() == float(problem.workload.loss(problem.parameters, everything).detach())


def test_there_is_one_group_by_default() -> None:
    assert Bowl().groups(["a", "b"]) == [["a", "b"]]


@pytest.mark.parametrize(
    ("attribute", "value"), [("steps", 8), ("batch_size", 2), ("final_examples", 5), ("name", "other")]
)
def test_the_digest_tells_another_attribute(attribute: str, value: object) -> None:
    altered = type("Altered", (Labelled,), {attribute: value})
    assert altered().digest != Labelled().digest


def test_the_digest_tells_other_groups() -> None:
    renamed = type("Renamed", (TwoGroups,), {"name": Bowl.name})
    assert renamed().digest != Bowl().digest


def test_the_digest_tells_other_strides_and_another_dtype() -> None:
    class Contiguous(Labelled):
        def init(self, random: RandomState) -> Arrays:
            return {name: np.ascontiguousarray(array) for name, array in super().init(random).items()}

    class Short(Labelled):
        def data(self) -> Arrays:
            arrays = super().data()
            return {**arrays, "label": arrays["label"].astype(np.int32)}

    assert len({Labelled().digest, Contiguous().digest, Short().digest}) == 3


def test_the_digest_tells_a_change_that_shows_only_away_from_the_start() -> None:
    class Kinked(Bowl):
        def loss(self, params: Tensors, batch: Tensors) -> Tensor:
            start = torch.from_numpy(super().init(RandomState(0))["vector"])
            return super().loss(params, batch) + (params["vector"] - start).square().sum()

    assert Kinked().digest != Bowl().digest


def test_the_digest_is_computed_once() -> None:
    class Counts(Bowl):
        asked = 0

        def data(self) -> Arrays:
            type(self).asked += 1
            return super().data()

    workload = Counts()
    first, asked = workload.digest, Counts.asked
    assert (workload.digest, Counts.asked) == (first, asked)


def test_a_workload_without_a_loss_cannot_be_made() -> None:
    class Incomplete(Workload):
        name = "incomplete"
        steps = 1

        def init(self, random: RandomState) -> Arrays:
            return {"x": random.uniform(size=1)}

    with pytest.raises(TypeError, match="loss"):
        Incomplete()  # type: ignore[abstract] # the point of the test
