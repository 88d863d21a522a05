"""What the driver of a GPU knows and torch does not tell: its clock's limits, who else is on it. Asks ``nvidia-smi``.

Where that is missing or silent, nothing is known, and nothing is held against the machine.
"""

from __future__ import annotations

import subprocess
import time

import torch

SLOWED = {0x4: "its power limit", 0x8: "the hardware", 0x20: "its temperature", 0x40: "its temperature", 0x80: "power"}
"""Bits of the driver's reasons for a lower clock that are trouble; an idle GPU and a clock set by hand are none."""

THROTTLED = "clocks_throttle_reasons.active"
USED = "utilization.gpu"
IDLE_S = 1.0
"""The driver tells the use of a GPU over the last second at most."""


def ask(device: str, *names: str) -> dict[str, str]:
    """What the driver says of the GPU under these names; empty where it cannot be asked."""
    told = _nvidia_smi(device, "--query-gpu=" + ",".join(names))
    values = [value.strip() for value in told[0].split(",")] if told else []
    return dict(zip(names, values, strict=True)) if len(values) == len(names) else {}


def slowed(device: str) -> str:
    """What holds the GPU's clock down; empty where nothing does."""
    try:
        bits = int(ask(device, THROTTLED).get(THROTTLED, "0"), 16)
    except ValueError:  # "[N/A]"
        return ""
    return next((why for bit, why in SLOWED.items() if bits & bit), "")


def used_by_others(device: str) -> str:
    """How much of the GPU another program uses, as ``35 %``; empty where none does.

    Programs that only sit there do not matter, so where there is more than one, the GPU is watched while this one
    does nothing.
    """
    if len(_nvidia_smi(device, "--query-compute-apps=pid")) <= 1:
        return ""
    torch.cuda.synchronize(device)
    time.sleep(IDLE_S)
    used = ask(device, USED).get(USED, "")
    return used if used.rstrip(" %").isdigit() and int(used.rstrip(" %")) else ""


def identity(device: str) -> str:
    """The GPU's UUID; empty where torch does not tell."""
    return str(getattr(torch.cuda.get_device_properties(device), "uuid", ""))


def _nvidia_smi(device: str, query: str) -> list[str]:
    """The lines of its answer; none where it has none."""
    uuid = identity(device)
    command = ["nvidia-smi", f"--id=GPU-{uuid}", query, "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10) if uuid else None  # noqa: S603 - our own words
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in told.stdout.splitlines() if line.strip()] if told else []
