from __future__ import annotations

import os
import subprocess
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch

from pytest_optcheck.cost import clock, driver
from pytest_optcheck.cost.clock import Clock, CpuClock, CudaClock, Interruptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

UUID = "0a1b"


def spin(seconds: float) -> None:
    """Compute for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def interrupted(monkeypatch: pytest.MonkeyPatch, *states: Interruptions) -> None:
    """Let the thread have gone through these, one a look."""
    looks = iter(states)
    monkeypatch.setattr(Interruptions, "now", lambda: next(looks))


def test_work_is_done_once_and_timed_from_start_to_end() -> None:
    done: list[int] = []

    def work() -> None:
        done.append(1)
        spin(0.01)

    reading = CpuClock().time(work)
    assert done == [1]
    assert 0.01 <= reading.seconds < 0.1


@pytest.mark.parametrize(
    ("before", "after", "disturbed"),
    [((3, 5), (3, 5), False), ((3, 5), (4, 5), True), ((3, 5), (3, 6), False)],
)
def test_a_sample_is_disturbed_where_its_thread_was_taken_off_its_core(
    monkeypatch: pytest.MonkeyPatch, before: tuple[int, int], after: tuple[int, int], disturbed: bool
) -> None:
    interrupted(monkeypatch, Interruptions(*before), Interruptions(*after))
    monkeypatch.setattr(time, "thread_time", time.perf_counter)  # never off its core
    assert CpuClock().time(lambda: spin(0.001)).disturbed is disturbed


@pytest.mark.parametrize(("own", "disturbed"), [(0, True), (1, False)])
def test_a_thread_that_stood_still_without_waiting_was_disturbed(
    monkeypatch: pytest.MonkeyPatch, own: int, disturbed: bool
) -> None:
    interrupted(monkeypatch, Interruptions(0, 0), Interruptions(0, own))
    assert CpuClock().time(lambda: time.sleep(0.005)).disturbed is disturbed


def test_the_system_counts_how_often_this_thread_waited() -> None:
    before = Interruptions.now()
    for _ in range(3):
        time.sleep(0.001)
    assert Interruptions.now().own >= before.own + 3


def test_where_the_system_does_not_count_nothing_is_called_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "resource", None)
    assert Interruptions.now() == Interruptions(0, 0)


def test_a_processor_has_neither_an_allocator_that_counts_nor_syncs_and_does_the_work() -> None:
    done: list[int] = []
    processor: Clock = CpuClock()
    assert processor.peak_bytes(lambda: done.append(1)) is None
    assert processor.syncs(lambda: done.append(2)) is None
    assert done == [1, 2]


def test_the_fingerprint_tells_what_a_time_depends_on() -> None:
    found = CpuClock().fingerprint()
    assert list(found) == ["cpu", "cores", "instructions", "threads", "torch", "python"]
    assert all(found.values())
    assert {type(value) for value in found.values()} == {str}  # a golden keeps them
    assert found["torch"] == torch.__version__


def test_the_fingerprint_changes_with_the_threads() -> None:
    before, threads = CpuClock().fingerprint(), torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert CpuClock().fingerprint()["threads"] == str(threads + 1) != before["threads"]
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(("others", "trouble"), [(0, ""), (1, ""), (2, "2 other programs compute on 2 cores")])
def test_a_processor_is_in_trouble_with_as_many_busy_others_as_cores(
    monkeypatch: pytest.MonkeyPatch, others: int, trouble: str
) -> None:
    monkeypatch.setattr(clock, "busy_others", lambda: others)
    monkeypatch.setattr(clock, "cores", lambda: 2)
    assert CpuClock().trouble() == trouble
    assert CpuClock().held_back() == ""


@pytest.mark.skipif(not os.path.exists("/proc/loadavg"), reason="needs Linux")  # noqa: PTH110 - read once
def test_programs_that_compute_are_counted() -> None:
    code = "print(flush=True)\nwhile True: pass"
    loads = [subprocess.Popen(["python3", "-c", code], stdout=subprocess.PIPE) for _ in range(2)]  # noqa: S603, S607 - ours
    try:
        for load in loads:
            assert load.stdout is not None
            load.stdout.readline()
        assert clock.busy_others() >= 2
    finally:
        for load in loads:
            load.kill()
            load.communicate()


def test_where_nobody_counts_them_the_load_of_the_last_minute_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: object, **_: object) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", missing)
    assert clock.busy_others() == pytest.approx(os.getloadavg()[0], abs=0.5)


def test_the_cores_are_those_this_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert clock.cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(("device", "kind"), [("cpu", CpuClock), ("cuda", CudaClock), ("cuda:1", CudaClock)])
def test_every_device_has_its_clock(device: str, kind: type) -> None:
    assert isinstance(clock.clock(device), kind)


@dataclass
class FakeCuda:
    """What the clock uses of torch.cuda, on a device whose work takes as long as its stream of events says.

    Attributes:
        now_ms: the device's own time.
        allocated: bytes given out now.
        peak: the most so far.
        mode: of the synchronisation warnings.
        calls: what was asked, in order.
    """

    now_ms: float = 0.0
    allocated: int = 0
    peak: int = 0
    mode: int = 0
    calls: list[str] = field(default_factory=list)

    def Event(self, *, enable_timing: bool) -> SimpleNamespace:  # noqa: N802 - torch's name
        assert enable_timing
        event = SimpleNamespace(at=None)

        def record() -> None:
            event.at = self.now_ms
            self.calls.append("record")

        def elapsed_time(end: SimpleNamespace) -> float:
            assert self.calls[-1] == "event.synchronize", "read before the device was done"
            elapsed: float = end.at - event.at
            return elapsed

        event.record, event.elapsed_time = record, elapsed_time
        event.synchronize = lambda: self.calls.append("event.synchronize")
        return event

    @contextmanager
    def device(self, name: str) -> Iterator[None]:
        self.calls.append(name)
        yield

    def synchronize(self, _device: object = None) -> None:
        self.calls.append("synchronize")

    def memory_allocated(self) -> int:
        return self.allocated

    def max_memory_allocated(self) -> int:
        return self.peak

    def reset_peak_memory_stats(self) -> None:
        self.peak = self.allocated

    def allocate(self, size: int) -> None:
        self.allocated += size
        self.peak = max(self.peak, self.allocated)

    def get_sync_debug_mode(self) -> int:
        return self.mode

    def set_sync_debug_mode(self, mode: int | str) -> None:
        self.mode = 1 if mode == "warn" else int(mode)

    def item(self) -> None:
        """What ``.item()`` does in the debug mode."""
        if self.mode:
            warnings.warn("called a synchronizing CUDA operation", UserWarning, stacklevel=1)

    def get_device_name(self, _device: str) -> str:
        return "Fake GPU"

    def get_device_properties(self, _device: str) -> SimpleNamespace:
        return SimpleNamespace(uuid=UUID)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """A GPU."""
    fake = FakeCuda()
    monkeypatch.setattr(torch, "cuda", fake)
    return fake


def told(monkeypatch: pytest.MonkeyPatch, answers: dict[str, str]) -> list[Sequence[str]]:
    """Let the driver give these answers, by a word of the question; the commands that asked."""
    asked: list[Sequence[str]] = []

    def run(command: Sequence[str], **_: object) -> SimpleNamespace:
        asked.append(command)
        return SimpleNamespace(stdout=next((text for word, text in answers.items() if word in command[2]), ""))

    monkeypatch.setattr(subprocess, "run", run)
    return asked


def test_a_gpu_is_timed_by_its_own_events_from_an_idle_start_to_a_synchronised_end(cuda: FakeCuda) -> None:
    def work() -> None:
        cuda.now_ms += 2.5
        cuda.calls.append("work")

    assert CudaClock("cuda:1").time(work).seconds == 0.0025
    assert cuda.calls == ["cuda:1", "synchronize", "record", "work", "record", "event.synchronize"]


def test_a_gpu_sample_is_disturbed_where_the_launching_thread_was(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(monkeypatch, Interruptions(0, 0), Interruptions(1, 0), Interruptions(1, 0), Interruptions(1, 9))
    assert CudaClock("cuda").time(lambda: None).disturbed
    assert not CudaClock("cuda").time(lambda: None).disturbed
    assert cuda.calls


def test_the_peak_of_a_gpu_is_what_the_work_had_beyond_what_was_there(cuda: FakeCuda) -> None:
    cuda.allocate(1000)
    cuda.allocate(-500)

    def work() -> None:
        cuda.allocate(300)
        cuda.allocate(-300)
        cuda.allocate(200)

    assert CudaClock("cuda").peak_bytes(work) == 300


@pytest.mark.parametrize("mode", [0, 1])
def test_syncs_are_counted_one_by_one_and_the_callers_debug_mode_comes_back(cuda: FakeCuda, mode: int) -> None:
    cuda.mode = mode

    def work() -> None:
        for _ in range(3):
            cuda.item()
        warnings.warn("something else", stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert CudaClock("cuda").syncs(work) == 3
    assert cuda.mode == mode


def test_the_debug_mode_comes_back_where_the_work_raises(cuda: FakeCuda) -> None:
    with pytest.raises(ZeroDivisionError):
        CudaClock("cuda").syncs(lambda: 1 / 0)
    assert cuda.mode == 0


def test_the_fingerprint_of_a_gpu_names_it_with_its_clocks(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = told(monkeypatch, {"clocks.max.sm": "1980 MHz, 2619 MHz, 700.00 W, 550.1\n"})
    found = CudaClock("cuda").fingerprint()
    assert found["gpu"] == "Fake GPU"
    assert found["clocks.max.sm"] == "1980 MHz"
    assert found["driver_version"] == "550.1"
    assert found["cpu"]
    assert asked[0][:2] == ["nvidia-smi", f"--id=GPU-{UUID}"]
    assert not cuda.calls


def test_without_the_driver_the_fingerprint_is_shorter_and_there_is_no_trouble(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", missing)
    monkeypatch.setattr(clock, "busy_others", lambda: 0)
    assert list(CudaClock("cuda").fingerprint())[-1] == "gpu"
    assert CudaClock("cuda").trouble() == ""
    assert not cuda.calls


@pytest.mark.parametrize(
    ("answers", "trouble"),
    [
        ({"throttle": "0x0000000000000001"}, ""),  # idle
        ({"throttle": "0x0000000000000002"}, ""),  # a clock set by hand
        ({"throttle": "[N/A]"}, ""),
        ({"throttle": "0x0000000000000004"}, "the GPU's clock is held down by its power limit"),
        ({"throttle": "0x0000000000000020"}, "the GPU's clock is held down by its temperature"),
        ({"throttle": "0x0000000000000048"}, "the GPU's clock is held down by the hardware"),
        ({"apps": "12", "utilization": "90 %"}, ""),  # ours alone
        ({"apps": "12\n13", "utilization": "0 %"}, ""),  # the other one only sits there
        ({"apps": "12\n13", "utilization": "[N/A]"}, ""),
        ({"apps": "12\n13", "utilization": "35 %"}, "another program uses 35 % of the GPU"),
    ],
)
def test_a_gpu_is_in_trouble_where_it_is_slowed_or_shared(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, answers: dict[str, str], trouble: str
) -> None:
    told(monkeypatch, answers)
    monkeypatch.setattr(driver, "IDLE_S", 0.0)
    monkeypatch.setattr(clock, "busy_others", lambda: 0)
    assert CudaClock("cuda").held_back() == CudaClock("cuda").trouble() == trouble
    assert ("synchronize" in cuda.calls) is ("13" in answers.get("apps", ""))


def test_a_gpu_whose_host_is_busy_is_in_trouble_too(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, {})
    monkeypatch.setattr(clock, "busy_others", lambda: 64)
    monkeypatch.setattr(clock, "cores", lambda: 8)
    assert CudaClock("cuda").held_back() == ""
    assert CudaClock("cuda").trouble() == "64 other programs compute on 8 cores"
    assert not cuda.calls


def test_a_gpu_goes_by_its_identity_whatever_its_number_here(cuda: FakeCuda) -> None:
    assert CudaClock("cuda:1").name == CudaClock("cuda").name == f"gpu-{UUID}"
    assert not cuda.calls


def test_a_gpu_without_an_identity_goes_by_its_number(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "get_device_properties", lambda _: SimpleNamespace())
    assert CudaClock("cuda:1").name == "gpu-cuda-1"
    assert driver.ask("cuda:1", "name") == {}


@pytest.fixture
def gpu() -> CudaClock:
    """A real one."""
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    return CudaClock("cuda")


@pytest.mark.cuda
def test_on_a_gpu_twice_the_work_takes_about_twice_the_time(gpu: CudaClock) -> None:
    matrix = torch.randn(2048, 2048, device="cuda")

    def products(count: int) -> Callable[[], None]:
        def work() -> None:
            for _ in range(count):
                matrix @ matrix

        return work

    gpu.time(products(20))
    once, twice = gpu.time(products(20)).seconds, gpu.time(products(40)).seconds
    assert 1.6 < twice / once < 2.4


@pytest.mark.cuda
def test_on_a_gpu_an_item_is_a_sync_and_arithmetic_is_none(gpu: CudaClock) -> None:
    tensor = torch.ones(8, device="cuda")
    assert gpu.syncs(lambda: (tensor + 1).sum().item()) == 1
    assert gpu.syncs(lambda: tensor.mul_(2).add_(1)) == 0


@pytest.mark.cuda
def test_on_a_gpu_the_peak_is_the_memory_of_the_temporaries(gpu: CudaClock) -> None:
    tensor = torch.ones(1 << 20, device="cuda")
    assert gpu.peak_bytes(lambda: tensor + 1) == 4 << 20
    assert gpu.peak_bytes(lambda: tensor.add_(1)) == 0


@pytest.mark.cuda
def test_on_a_gpu_the_fingerprint_names_it_and_an_idle_one_is_no_trouble(gpu: CudaClock) -> None:
    assert gpu.fingerprint()["gpu"] == torch.cuda.get_device_name("cuda")
    assert "throttl" not in gpu.trouble()
