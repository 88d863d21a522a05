"""Where trainings run: the device a user asked for, and one GPU for each xdist worker.

The process that decides may be an xdist controller, which never imports torch: it asks a child process.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from pytest_optcheck.errors import OptcheckError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PROBE = "import torch; print(torch.cuda.device_count())"


def visible_gpus() -> int:
    """How many GPUs torch sees; 0 where it sees none or cannot tell."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.cuda.device_count())
    return _probed(PROBE)


@functools.cache  # a child process that imports torch takes seconds, and every worker's GPU is asked for
def _probed(code: str) -> int:
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter and code
    return int(found.stdout) if found.returncode == 0 else 0


def resolve(asked: str, count: Callable[[], int] = visible_gpus) -> str:
    """The torch device that ``cpu``, ``cuda``, ``cuda:N`` or ``auto`` stands for.

    Raises:
        OptcheckError: the text is none of these, or torch sees no such GPU.
    """
    if asked == "cpu":
        return "cpu"
    if asked != "auto" and not re.fullmatch(r"cuda(:\d+)?", asked):
        raise OptcheckError(f"optcheck device {asked!r}: expected cpu, cuda, cuda:N or auto")
    gpus = count()
    if asked == "auto":
        return "cuda" if gpus else "cpu"
    number = int(asked.partition(":")[2] or 0)
    if number >= gpus:
        raise OptcheckError(
            f"optcheck device {asked!r}: torch sees {gpus or 'no'} GPU{'s'[: gpus > 1]}; use cpu or auto"
        )
    return asked


def worker_environment(
    position: int,
    device: str,
    environ: Mapping[str, str] = os.environ,
    count: Callable[[], int] = visible_gpus,
) -> dict[str, str]:
    """Variables that pin xdist worker number `position` to one of the caller's GPUs; empty on the CPU.

    A replacement of a crashed worker inherits the variables of its predecessor, and with them its GPU.
    """
    if not device.startswith("cuda"):
        return {}
    listed = environ.get("CUDA_VISIBLE_DEVICES")
    gpus = listed.split(",") if listed is not None else [str(number) for number in range(count())]
    number = int(device.partition(":")[2]) if ":" in device else position % len(gpus)
    return {"CUDA_VISIBLE_DEVICES": gpus[number].strip()}
