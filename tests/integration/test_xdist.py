"""In parallel: the same verdicts, a controller without torch, goldens that survive a kill."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from pytest_optcheck.format import decode

if TYPE_CHECKING:
    from pathlib import Path

    from sample import Project

ROUNDS = 20
"""How often the recording is killed."""


def verdicts(path: Path) -> list[tuple[str | None, ...]]:
    keys = ("spec", "workload", "dtype", "verdict", "first_step", "envelopes", "final_loss")
    rows = []
    for case in ET.parse(path).iter("testcase"):  # noqa: S314 - our own file
        properties = {p.get("name"): p.get("value") for p in case.iter("property")}
        rows.append(tuple(properties.get(f"optcheck_{key}") for key in keys))
    return sorted(rows, key=repr)


def test_two_workers_give_the_same_verdicts_as_none(recorded: Project) -> None:
    recorded.edit("toy.py", "v.mul_(0.9)", "v.mul_(0.9001)")
    recorded.run("--optcheck", "--junit-xml=alone.xml")
    recorded.run("--optcheck", "-n2", "--junit-xml=parallel.xml").assert_outcomes(passed=4, failed=2)
    assert verdicts(recorded.root / "alone.xml") == verdicts(recorded.root / "parallel.xml")


def test_the_controller_never_imports_torch_or_numpy(recorded: Project) -> None:
    path = recorded.root / "conftest.py"
    hook = """

def pytest_unconfigure(config):
    import sys
    if not hasattr(config, "workerinput"):
        print("heavy:", [name for name in ("torch", "numpy", "scipy") if name in sys.modules])
"""
    path.write_text(path.read_text(encoding="utf-8") + hook, encoding="utf-8")
    result = recorded.run_apart("--optcheck", "-n2", "-p", "no:cov")
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["heavy: []"])


@pytest.mark.slow
def test_a_recording_killed_at_any_moment_leaves_whole_goldens(recorded: Project) -> None:
    """Every file is the old golden or a new one; twenty kills at random moments of ``--optcheck-update -n 2``."""
    settings = [f'"toy:{name}(lr={lr / 100})"' for name in ("Descent", "Momentum") for lr in range(1, 13)]
    recorded.configure(f"[{', '.join(settings)}]")
    command = [sys.executable, "-m", "pytest", "--optcheck-update", "-n2", "-p", "no:cacheprovider", "-q"]
    subprocess.run(command, cwd=recorded.root, check=True, capture_output=True)  # noqa: S603 - our own command
    moments = random.Random(0)  # noqa: S311 - no secrets here
    seen_new = 0
    for number in range(ROUNDS):
        old = recorded.goldens()
        factor = f"v.mul_({0.9 + 0.001 * (number + 1):.3f})"
        before = f"v.mul_({0.9 + 0.001 * number:.3f})" if number else "v.mul_(0.9)"
        recorded.edit("toy.py", before, factor)
        with subprocess.Popen(  # noqa: S603 - our own command
            command, cwd=recorded.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        ) as recording:
            if number % 2:
                wait_for_a_new_golden(recorded, old)
                time.sleep(moments.uniform(0.0, 2.0))
            else:
                time.sleep(moments.uniform(3.0, 12.0))
            with contextlib.suppress(ProcessLookupError):  # it had ended by itself
                os.killpg(recording.pid, signal.SIGKILL)
        for name, text in recorded.goldens().items():
            golden = decode(text, recorded.root / name)
            assert golden is not None
            assert golden.curves["float64"].losses[-1].step == golden.workload.steps
            seen_new += text != old.get(name)
    assert seen_new > 0, "no kill came after a golden was written: the moments are too early"


def wait_for_a_new_golden(project: Project, old: dict[str, str]) -> None:
    """A busy machine may take its time."""
    for _ in range(600):
        if project.goldens() != old:
            return
        time.sleep(0.1)
