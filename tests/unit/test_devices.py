from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from pytest_optcheck import devices
from pytest_optcheck.errors import OptcheckError


@pytest.mark.parametrize(
    ("asked", "gpus", "expected"),
    [
        ("cpu", 0, "cpu"),
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda"),
        ("cuda", 1, "cuda"),
        ("cuda:0", 1, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_a_device_that_is_there_is_taken(asked: str, gpus: int, expected: str) -> None:
    assert devices.resolve(asked, lambda: gpus) == expected


@pytest.mark.parametrize(
    ("asked", "gpus", "line"),
    [
        ("cuda", 0, "optcheck device 'cuda': torch sees no GPU; use cpu or auto"),
        ("cuda:1", 1, "optcheck device 'cuda:1': torch sees 1 GPU; use cpu or auto"),
        ("cuda:2", 2, "optcheck device 'cuda:2': torch sees 2 GPUs; use cpu or auto"),
        ("gpu", 2, "optcheck device 'gpu': expected cpu, cuda, cuda:N or auto"),
        ("cuda:x", 2, "optcheck device 'cuda:x': expected cpu, cuda, cuda:N or auto"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(asked: str, gpus: int, line: str) -> None:
    with pytest.raises(OptcheckError) as caught:
        devices.resolve(asked, lambda: gpus)
    assert str(caught.value) == line


def test_the_cpu_is_taken_without_counting_gpus() -> None:
    def count() -> int:
        raise AssertionError

    assert devices.resolve("cpu", count) == "cpu"


def test_workers_share_the_gpus_of_the_caller_in_turn() -> None:
    pinned = [devices.worker_environment(i, "cuda", {"CUDA_VISIBLE_DEVICES": "3, 5"}) for i in range(3)]
    assert [env["CUDA_VISIBLE_DEVICES"] for env in pinned] == ["3", "5", "3"]


def test_without_a_list_the_workers_share_all_gpus() -> None:
    pinned = [devices.worker_environment(i, "cuda", {}, lambda: 2) for i in range(3)]
    assert [env["CUDA_VISIBLE_DEVICES"] for env in pinned] == ["0", "1", "0"]


def test_a_numbered_gpu_is_every_workers_gpu() -> None:
    pinned = [devices.worker_environment(i, "cuda:1", {"CUDA_VISIBLE_DEVICES": "3,5"}) for i in range(2)]
    assert [env["CUDA_VISIBLE_DEVICES"] for env in pinned] == ["5", "5"]


def test_on_the_cpu_a_workers_environment_is_left_alone() -> None:
    assert devices.worker_environment(0, "cpu", {"CUDA_VISIBLE_DEVICES": "3"}) == {}


def test_gpus_are_counted_by_torch_where_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(device_count=lambda: 7)))
    assert devices.visible_gpus() == 7


def test_gpus_are_counted_by_a_child_process_where_torch_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = torch.cuda.device_count()
    monkeypatch.delitem(sys.modules, "torch")
    assert devices.visible_gpus() == expected
    assert "torch" not in sys.modules


def test_a_torch_that_cannot_tell_counts_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(devices, "PROBE", "raise SystemExit(1)")
    assert devices.visible_gpus() == 0
