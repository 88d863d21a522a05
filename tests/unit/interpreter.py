"""A Python process of its own, for what can only be seen from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def run(program: str, *arguments: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `program` with these arguments, under the environment with these variables changed."""
    return subprocess.run(  # noqa: S603 - our own interpreter, our own program
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def imported(module: str, *unwanted: str) -> list[str]:
    """Those of the unwanted modules that importing `module` brings along."""
    done = run(f"import sys, {module}; print(*sorted(set({unwanted!r}) & set(sys.modules)))")
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
