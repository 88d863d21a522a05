"""What machine and versions a golden comes from, and whether this is CI."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path


def in_ci() -> bool:
    """Whether the variable CI is set to anything but a spelling of no."""
    return os.environ.get("CI", "").strip().lower() not in ("", "0", "false", "no")


def versions() -> dict[str, str]:
    """Versions of what a curve depends on: optcheck, torch, numpy, python."""
    return {
        "optcheck": version("pytest-optcheck"),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "python": platform.python_version(),
    }


def machine() -> dict[str, str]:
    """Versions, and the machine that they run on."""
    return {**versions(), "platform": platform.platform(), "cpu": cpu()}


def cpu() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
