from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch

from pytest_optcheck.cost.dispatched import Dispatched

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_optcheck.cost.figures import Counts


def counts(*actions: Callable[[], object], device: str = "cpu") -> Counts:
    """What was counted while they ran."""
    meter = Dispatched(device)
    meter.run(actions)
    return meter.counts()


def test_operations_are_counted_by_name_and_overload() -> None:
    tensor = torch.ones(3)
    found = counts(lambda: tensor.mul_(tensor), lambda: tensor.mul_(tensor), lambda: torch.sqrt(tensor))
    assert found.ops == {"mul_.Tensor": 2, "sqrt": 1}


def test_names_come_sorted_so_that_files_do_not_change() -> None:
    tensor = torch.ones(3)
    found = counts(lambda: tensor.sub_(tensor), lambda: tensor.add_(tensor), lambda: tensor.mul_(tensor))
    assert list(found.ops) == sorted(found.ops)
    assert len(found.ops) == 3


def test_a_foreach_operation_is_one() -> None:
    tensors = [torch.ones(3) for _ in range(10)]
    assert counts(lambda: torch._foreach_add_(tensors, 1.0)).ops == {"_foreach_add_.Scalar": 1}


def test_the_marks_of_the_profiler_are_no_operations() -> None:
    tensor = torch.ones(3)
    optimizer = torch.optim.SGD([tensor], lr=0.1)
    tensor.grad = torch.ones(3)
    assert counts(optimizer.step).ops == {"add_.Tensor": 1}


def test_an_operation_of_another_library_keeps_its_namespace() -> None:
    @torch.library.custom_op("optcheck_test::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x.detach().clone()

    tensor = torch.ones(3)
    assert "optcheck_test::twice" in counts(lambda: twice(tensor)).ops


NUMBERS = torch.arange(4.0)
MASK = NUMBERS > 1
ROWS = torch.tensor([1, 2])
WAITS: dict[str, tuple[Callable[[], object], int]] = {
    "item": (NUMBERS[0].item, 1),
    "a condition": (lambda: bool(NUMBERS[0] > 0), 1),
    "nonzero": (NUMBERS.nonzero, 1),
    "a mask as index": (lambda: NUMBERS[MASK], 1),
    "masked_select": (lambda: NUMBERS.masked_select(MASK), 1),
    "unique": (lambda: torch.unique(NUMBERS), 1),
    "equal": (lambda: torch.equal(NUMBERS, NUMBERS), 1),
    "rows as index": (lambda: NUMBERS[ROWS], 0),
    "where": (lambda: torch.where(MASK, NUMBERS, 0.0), 0),
    "a copy on the same device": (lambda: NUMBERS.to(torch.float64), 0),
    "writing into": (lambda: torch.empty(4).copy_(NUMBERS), 0),
}


@pytest.mark.parametrize("name", WAITS)
def test_the_host_waits_for(name: str) -> None:
    action, expected = WAITS[name]
    assert counts(action).syncs == expected


@pytest.mark.parametrize("name", WAITS)
def test_a_step_on_another_device_waits_for_no_tensor_of_the_cpu(name: str) -> None:
    assert counts(WAITS[name][0], device="cuda").syncs == 0


def test_a_meter_that_was_read_watches_no_memory() -> None:
    kept = [torch.zeros(8)]
    meter = Dispatched()
    meter.run([lambda: kept.append(kept[0] + 1.0)])
    assert meter.counts().new_bytes == 32
    assert meter.counts().new_bytes == 32
    kept.clear()
    assert meter.alive_bytes == 32  # as it was when the meter was read


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch sees")
def test_the_host_waits_for_copies_from_a_gpu() -> None:
    there = torch.ones(3, device="cuda")
    assert counts(there.cpu, there.tolist, there.sum().item, device="cuda").syncs == 3
    assert counts(lambda: torch.ones(3).to("cuda"), device="cuda").syncs == 0


def test_memory_counts_once_and_views_and_writes_are_none() -> None:
    tensor = torch.ones(8)
    found = counts(lambda: tensor.view(2, 4).t().mul_(2.0), lambda: tensor.add_(1.0), tensor.detach)
    assert found.ops["t"] == 1
    assert (found.new_bytes, found.peak_bytes) == (0, 0)


def test_memory_that_is_freed_before_the_next_is_no_higher_peak() -> None:
    tensor = torch.ones(8)
    one_by_one = counts(*[lambda: tensor + 1.0] * 3)
    assert (one_by_one.new_bytes, one_by_one.peak_bytes) == (96, 32)
    together = counts(lambda: [tensor + 1.0 for _ in range(3)])
    assert (together.new_bytes, together.peak_bytes) == (96, 96)


def test_the_results_of_a_foreach_operation_are_all_counted() -> None:
    tensors = [torch.ones(8) for _ in range(3)]
    found = counts(lambda: torch._foreach_mul(tensors, 2.0))  # noqa: SLF001 - torch's name for it
    assert (found.new_bytes, found.peak_bytes) == (96, 96)


def test_a_view_keeps_memory_alive_and_so_does_a_history() -> None:
    meter = Dispatched()
    kept: list[torch.Tensor] = []
    parameter = torch.ones(8, requires_grad=True)
    meter.run([lambda: kept.append((torch.zeros(8) + 1.0)[:2])])
    assert meter.alive_bytes == 32
    kept.clear()
    assert meter.alive_bytes == 0
    meter.run([lambda: kept.append(parameter.exp().sum())])
    assert meter.alive_bytes == 32 + 4
    kept.clear()
    assert meter.alive_bytes == 0


def test_memory_of_sparse_results_is_that_of_indices_and_values() -> None:
    sparse = torch.zeros(5, 4).index_fill_(0, torch.tensor([0, 2]), 1.0).to_sparse(1)
    assert counts(lambda: sparse * 2.0).new_bytes == 16 + 32


def test_a_deep_copy_shows_in_operations() -> None:
    tensor = torch.ones(8)
    assert counts(lambda: copy.deepcopy(tensor)).ops["copy_"] == 1


def test_what_is_put_aside_is_one_evaluation() -> None:
    tensor = torch.ones(8)
    meter = Dispatched()

    def action() -> None:
        tensor.mul_(2.0)
        for _ in range(2):
            with meter.aside():
                tensor.add_(tensor.sum().item())
        tensor.mul_(2.0)

    meter.run([action])
    found = meter.counts()
    assert found.ops == {"closure": 2, "mul_.Tensor": 2}
    assert (found.syncs, found.new_bytes) == (0, 0)


def test_a_meter_looks_again_after_an_evaluation_that_raised() -> None:
    tensor = torch.ones(8)
    meter = Dispatched()

    def action() -> None:
        with pytest.raises(ZeroDivisionError), meter.aside():
            raise ZeroDivisionError
        tensor.mul_(2.0)

    meter.run([action])
    assert meter.counts().ops["mul_.Tensor"] == 1


def test_two_runs_add_up() -> None:
    tensor = torch.ones(8)
    meter = Dispatched()
    meter.run([lambda: tensor.mul_(2.0)])
    tensor.mul_(2.0)
    meter.run([lambda: tensor.mul_(2.0)])
    assert meter.counts().ops == {"mul_.Tensor": 2}
