"""The CPU and the GPU as clocks: what a piece of work took, and whether this machine can be asked at all.

Both stand behind one small protocol, so that the stopwatch knows neither.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

from pytest_optcheck.cost import driver
from pytest_optcheck.environment import cpu

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment] # mypy has it a module

if TYPE_CHECKING:
    from collections.abc import Callable

    Work = Callable[[], object]

LOOKS = 5
LOOK_S = 0.004
"""Whether others compute is looked at so often, so far apart: a process that wakes up for a moment is none."""

OFF_CPU = 0.1
"""A thread that was not running for this share of a sample, and did not wait of its own accord, was kept from it."""

SYNC = "synchronizing CUDA operation"
"""What the warning of torch's synchronisation debug mode says."""


class Reading(NamedTuple):
    """What a piece of work took.

    Attributes:
        seconds: from its start to its end.
        disturbed: something else ran in between.
    """

    seconds: float
    disturbed: bool = False


class Clock(Protocol):
    """One device to time work on."""

    @property
    def name(self) -> str:
        """What tells the device apart from all others of this machine, in a few letters and digits."""

    def time(self, work: Work) -> Reading:
        """Do the work, and say how long it took."""

    def peak_bytes(self, work: Work) -> int | None:
        """Do the work; the most memory given out at once beyond that of before, None where nobody keeps count."""

    def syncs(self, work: Work) -> int | None:
        """Do the work; how often the host waited for the device, None where there is no device to wait for."""

    def fingerprint(self) -> dict[str, str]:
        """What a time depends on besides the code: hardware, its settings, versions."""

    def held_back(self) -> str:
        """What slows the device itself down now, in a few words; empty where nothing does."""

    def trouble(self) -> str:
        """Why a time taken now cannot be held against one of another day; empty where it can.

        Two sides that take turns bear busy neighbours, but not a device that is `held_back`.
        """


class Interruptions(NamedTuple):
    """What a thread has gone through so far.

    Attributes:
        forced: times that it was taken off its core.
        own: times that it waited of its own accord.
    """

    forced: int
    own: int

    @classmethod
    def now(cls) -> Interruptions:
        """Of this thread; of the process where the system does not count by thread; none where it does not count."""
        if resource is None:
            return cls(0, 0)
        usage = resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF))
        return cls(usage.ru_nivcsw, usage.ru_nvcsw)


class CpuClock:
    """The processor, as one thread sees it."""

    name = "cpu"

    def time(self, work: Work) -> Reading:
        """By the wall clock; disturbed where the thread was taken off its core, by the system or by its host."""
        before, cpu_started = Interruptions.now(), time.thread_time()
        started = time.perf_counter()
        work()
        seconds = time.perf_counter() - started
        cpu_s, after = time.thread_time() - cpu_started, Interruptions.now()
        off = after.own == before.own and cpu_s < (1 - OFF_CPU) * seconds
        return Reading(seconds, after.forced != before.forced or off)

    def peak_bytes(self, work: Work) -> None:
        """Torch keeps no count of what it allocates for a processor."""
        work()

    def syncs(self, work: Work) -> None:
        """A processor does not wait for itself."""
        work()

    def fingerprint(self) -> dict[str, str]:
        """Processor, cores, instruction set, threads, versions."""
        return {
            "cpu": cpu(),
            "cores": str(cores()),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "threads": str(torch.get_num_threads()),
            "torch": str(torch.__version__),  # which is a class of torch's own
            "python": platform.python_version(),
        }

    def held_back(self) -> str:
        """Nothing that shows: what slows a processor down slows both sides alike."""
        return ""

    def trouble(self) -> str:
        """Too many others that compute."""
        others, own = busy_others(), cores()
        return f"{others:g} other programs compute on {own} cores" if others >= own else ""


@dataclass(frozen=True, slots=True)
class CudaClock:
    """A GPU, timed by its own events.

    Attributes:
        device: a torch device, as text.
    """

    device: str

    @property
    def name(self) -> str:
        """The GPU's identity, which no choice of visible GPUs changes."""
        return f"gpu-{driver.identity(self.device) or self.device.replace(':', '-')}"

    def time(self, work: Work) -> Reading:
        """From an event before the work to one after it, on a device that had nothing left to do."""
        with torch.cuda.device(self.device):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call] # torch leaves it untyped
            torch.cuda.synchronize()
            before = Interruptions.now()
            start.record()
            work()
            end.record()
            after = Interruptions.now()
            end.synchronize()
            return Reading(start.elapsed_time(end) / 1000, after.forced != before.forced)

    def peak_bytes(self, work: Work) -> int:
        """By torch's allocator."""
        with torch.cuda.device(self.device):
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            work()
            torch.cuda.synchronize()
            return torch.cuda.max_memory_allocated() - before

    def syncs(self, work: Work) -> int:
        """By torch's synchronisation debug mode, which warns of every one."""
        mode = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as caught, torch.cuda.device(self.device):
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                work()
            finally:
                torch.cuda.set_sync_debug_mode(mode)
        return sum(SYNC in str(warning.message) for warning in caught)

    def fingerprint(self) -> dict[str, str]:
        """As of the CPU, which launches the work, and name, clocks and driver of the GPU."""
        found = driver.ask(self.device, "clocks.max.sm", "clocks.max.mem", "power.limit", "driver_version")
        return {**CpuClock().fingerprint(), "gpu": torch.cuda.get_device_name(self.device), **found}

    def held_back(self) -> str:
        """A clock held down, or another program on the GPU."""
        slowed = driver.slowed(self.device)
        if slowed:
            return f"the GPU's clock is held down by {slowed}"
        used = driver.used_by_others(self.device)
        return f"another program uses {used} of the GPU" if used else ""

    def trouble(self) -> str:
        """What holds it back, or too many that compute on the CPU, which launches its work."""
        return self.held_back() or CpuClock().trouble()


def clock(device: str) -> Clock:
    """The clock of a torch device, as text."""
    return CudaClock(device) if device.startswith("cuda") else CpuClock()


def cores() -> int:
    """How many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def busy_others() -> float:
    """How many other threads of this machine compute now; over the last minute where the system only tells that."""
    try:
        looks = []
        for _ in range(LOOKS):
            looks.append(int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[0]) - 1)
            time.sleep(LOOK_S)
        return statistics.median(looks)
    except (OSError, ValueError, IndexError):  # not Linux
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
