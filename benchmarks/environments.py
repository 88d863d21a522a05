"""Are the stored goldens green on other machines? Checks them under other instruction sets, threads and torches.

Each environment is a set of variables under which ``pytest --optcheck`` runs on the goldens of this repository.
The code under test is the same everywhere, so everything that has a golden and does not pass is a false alarm.

This file is also a small pytest plugin (``-p benchmarks.environments``), loaded by the runs it starts: it notes
the share of the tolerance that a case used, and which torch and instruction set answered.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.figures import add_json_option, finish  # noqa: E402 - found by the path above
from pytest_optcheck.judge import PASSING  # noqa: E402 - ditto

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from pytest_optcheck.curves import Run
    from pytest_optcheck.format import Golden
    from pytest_optcheck.judge import Policy, Verdict

WORKERS = 2
LAST_WORDS = 4000  # characters of a broken run's output that are shown
TOTALS = re.compile(r"([\d.]+) s, ([\d.]+) s of it inside optimizer\.step\(\)")
ENVIRONMENTS: Mapping[str, Mapping[str, str]] = {
    "plain": {},
    "torch's own kernels without vectors": {"ATEN_CPU_CAPABILITY": "default"},
    "torch's own kernels with AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "oneDNN at SSE4.1, MKL compatible": {"ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
    "one OpenMP thread": {"OMP_NUM_THREADS": "1"},
    "two OpenMP threads": {"OMP_NUM_THREADS": "2"},
}
VARIABLES = frozenset(name for variables in ENVIRONMENTS.values() for name in variables)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the JUnit file says of one case.

    Attributes:
        first_step: updates made when the case was first outside its tolerance; None for a match.
        envelopes: by how many envelopes it was.
        tolerance_used: largest deviation as a share of its tolerance, over all kept steps and tensors.
    """

    spec: str
    workload: str
    dtype: str
    route: str
    verdict: str
    first_step: int | None = None
    envelopes: float | None = None
    tolerance_used: float = 0.0

    def __str__(self) -> str:
        """One line for a reader."""
        outside = "" if self.first_step is None else f", first outside at step {self.first_step}"
        size = "" if self.envelopes is None else f" by {self.envelopes:.1e} × envelope"
        return f"{self.verdict.upper()}: {self.spec} on {self.workload}, {self.how}{outside}{size}"

    @property
    def how(self) -> str:
        """The route, or the dtype of the plain one."""
        return self.dtype if self.route == "plain" else self.route


@dataclass(frozen=True, slots=True)
class Check:
    """One ``pytest --optcheck``.

    Attributes:
        answers: one for each case that was judged.
        problems: names of tests that failed without a verdict.
        skipped: how many cases there was nothing to say about (the optimizer does not accept the dtype).
        torch: version and instruction set, as torch names them.
        wall_s: seconds of the whole command.
        step_share: of the workers' time, what went into ``optimizer.step()``.
    """

    answers: Sequence[Answer]
    problems: Sequence[str]
    skipped: int
    torch: str
    wall_s: float
    step_share: float

    @property
    def judged(self) -> list[Answer]:
        """What a golden was there for."""
        return [answer for answer in self.answers if answer.verdict not in ("missing", "stale")]

    @property
    def false_alarms(self) -> list[Answer]:
        """What a golden was there for and does not pass."""
        return [answer for answer in self.judged if answer.verdict not in PASSING]

    @property
    def tightest(self) -> Answer | None:
        """The matching case that came nearest to its tolerance."""
        matching = [answer for answer in self.answers if answer.verdict == "match"]
        return max(matching, key=lambda answer: answer.tolerance_used, default=None)


@dataclass(slots=True)
class _Reading:
    """A JUnit file while it is read."""

    answers: list[Answer] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    skipped: int = 0
    torch: str = ""


def main() -> None:
    """Check under every environment, print each, and the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="PATH",
        help="also check plainly with this interpreter, which has another torch; may be repeated",
    )
    add_json_option(parser)
    options = parser.parse_args()
    plans = [(name, variables, sys.executable) for name, variables in ENVIRONMENTS.items()]
    plans += [(f"interpreter {number}", {}, python) for number, python in enumerate(options.python, start=1)]
    checks = []
    for name, variables, python in plans:
        checks.append(optcheck(variables, python=python))
        setting = " ".join(f"{key}={value}" for key, value in variables.items())
        print("\n".join(described(f"{name} ({setting})" if setting else name, checks[-1])), flush=True)
    figures = {
        "environments": len(checks),
        "cases": sum(len(check.judged) for check in checks),
        "false_alarms": sum(len(check.false_alarms) + len(check.problems) for check in checks),
        "seconds": round(statistics.median(check.wall_s for check in checks), 1),
    }
    finish(figures, options.json)


def described(name: str, check: Check) -> Iterator[str]:
    """An environment in a few lines: counts, then every false alarm."""
    counts = Counter(answer.verdict for answer in check.answers)
    others = "".join(f", {count} {verdict}" for verdict, count in sorted(counts.items()) if verdict != "match")
    yield f"{name}: {check.torch}"
    yield (
        f"  {len(check.answers)} checked, {counts['match']} match{others}, {check.skipped} skipped, "
        f"{len(check.problems)} without a verdict; {check.wall_s:.1f} s, "
        f"{check.step_share:.0%} of the workers' time inside optimizer.step()"
    )
    if check.tightest is not None:
        near = check.tightest
        case = f"{near.spec} on {near.workload}, {near.how}"
        yield f"  nearest to its tolerance among the matches: {near.tolerance_used:.1%} of it, {case}"
    yield from (f"  {answer}" for answer in check.false_alarms)
    yield from (f"  NO VERDICT: {problem}" for problem in check.problems)


def optcheck(
    variables: Mapping[str, str],
    *,
    python: str = sys.executable,
    path: Sequence[Path] = (),
    arguments: Sequence[str] = (),
) -> Check:
    """Run ``pytest --optcheck`` on the stored goldens and read what came of it.

    Args:
        variables: of the environment; those of `ENVIRONMENTS` that are not among them are unset.
        python: the interpreter.
        path: put before everything else on the interpreter's module path.
        arguments: more arguments for pytest.
    """
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= {**variables, "PYTHONPATH": os.pathsep.join(map(str, path))}
    with tempfile.TemporaryDirectory() as folder:
        junit = Path(folder) / "junit.xml"
        command = [python, "-m", "pytest", "--optcheck", "-n", str(WORKERS), f"--junit-xml={junit}"]
        command += ["-p", "benchmarks.environments", *plugin(python), "-p", "no:cacheprovider", *arguments]
        started = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - an interpreter the caller names
        wall_s = time.perf_counter() - started
        totals = TOTALS.search(done.stdout)
        if totals is None or done.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            sys.exit(f"pytest ended with exit code {done.returncode}:\n{(done.stdout + done.stderr)[-LAST_WORDS:]}")
        reading = read(junit)
    elapsed_s, step_s = map(float, totals.groups())
    return Check(
        reading.answers,
        reading.problems,
        reading.skipped,
        reading.torch,
        wall_s=wall_s,
        step_share=step_s / (WORKERS * elapsed_s),
    )


def plugin(python: str) -> list[str]:
    """Arguments that load the plugin where it is not installed but only lies in the working directory."""
    found = "from importlib.metadata import entry_points; print(len(entry_points(group='pytest11', name='optcheck')))"
    done = subprocess.run([python, "-c", found], capture_output=True, text=True, check=True)  # noqa: S603 - see optcheck
    return [] if int(done.stdout) else ["-p", "pytest_optcheck.plugin"]


def read(junit: Path) -> _Reading:
    """The verdicts in a JUnit file, by the properties that the plugin gives each case."""
    reading = _Reading()
    for case in ET.parse(junit).getroot().iter("testcase"):  # noqa: S314 - our own file
        found = {each.get("name", ""): each.get("value", "") for each in case.iter("property")}
        reading.torch = found.get("torch", reading.torch)
        if "optcheck_verdict" in found:
            first, envelopes = found.get("optcheck_first_step"), found.get("optcheck_envelopes")
            reading.answers.append(
                Answer(
                    found["optcheck_spec"],
                    found["optcheck_workload"],
                    found["optcheck_dtype"],
                    found["optcheck_route"],
                    found["optcheck_verdict"],
                    first_step=None if first is None else int(first),
                    envelopes=None if envelopes is None else float(envelopes),
                    tolerance_used=float(found["tolerance_used"]),
                )
            )
        elif case.find("failure") is not None or case.find("error") is not None:
            reading.problems.append(f"{case.get('classname')} {case.get('name')}")
        else:
            reading.skipped += case.find("skipped") is not None
    return reading


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Note the share of its tolerance that the case uses, and the torch that computed it."""
    import torch

    from pytest_optcheck import judge

    judged, largest = judge.judge, 0.0

    def noted(run: Run, golden: Golden, policy: Policy) -> Verdict:
        nonlocal largest
        largest = tolerance_used(run, golden, policy)
        return judged(run, golden, policy)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "judge", noted)
        try:
            yield
        finally:
            capability = torch.backends.cpu.get_cpu_capability()
            item.user_properties += [("tolerance_used", largest), ("torch", f"{torch.__version__}, {capability}")]


def tolerance_used(run: Run, golden: Golden, policy: Policy) -> float:
    """The largest deviation of `run` from `golden` as a share of its tolerance, over all kept losses and norms."""
    from pytest_optcheck.judge import deviations

    curve = golden.reference(run.dtype, run.route)
    found = deviations(run, curve) if curve is not None else ()
    shares = (d / policy.tolerance(point.envelope, run.dtype, share) for _, point, d, share in found if d is not None)
    return max(shares, default=0.0)


if __name__ == "__main__":
    main()
