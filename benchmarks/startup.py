"""What an installed but idle plugin costs: ``pytest --help`` and a run of an empty test file, with it and without.

Without means blocked (``-p no:optcheck``); that this prevents its import is verified first. The four commands
take turns in random order, so that a busy moment of the machine falls on all of them alike.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.figures import add_json_option, finish

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HEAVY = ("torch", "numpy", "scipy", "msgspec")
BLOCKED = ("-p", "no:optcheck")
EMPTY = "test_nothing.py"
Arguments = tuple[str, ...]
HELP: Arguments = ("--help",)
PLAIN: Arguments = (EMPTY,)
EXIT_CODES: dict[Arguments, int] = {HELP: 0, PLAIN: 5}  # 5: no tests were collected
SEED = 0
PROBE = "import pytest, sys; pytest.main(sys.argv[1:]); print(); print(*sys.modules)"


def main() -> None:
    """Verify, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="runs of each of the four commands (default: 15)")
    add_json_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / EMPTY).touch()
        for command in (HELP, PLAIN):
            print(f"pytest {' '.join(command)}: of {', '.join(HEAVY)} the plugin imports: {heavy(command, folder)}")
        seconds = measure(options.rounds, folder)
    figures = {
        "help_without_s": statistics.median(seconds[HELP, True]),
        "help_with_s": statistics.median(seconds[HELP, False]),
        "help_extra_s": extra(seconds, HELP),
        "plain_extra_s": extra(seconds, PLAIN),
    }
    finish({name: round(value, 4) for name, value in figures.items()}, options.json)


def heavy(command: Sequence[str], folder: str) -> str:
    """The heavy modules that `command` imports because of the plugin, as text; exits if blocking does not block."""
    without, with_plugin = imported([*command, *BLOCKED], folder), imported(command, folder)
    if any(name.partition(".")[0] == "pytest_optcheck" for name in without):
        sys.exit(f"{' '.join(BLOCKED)} does not keep the plugin from being imported: nothing to compare with")
    if "pytest_optcheck.plugin" not in with_plugin:
        sys.exit("the plugin is not installed: nothing to measure (pip install -e .)")
    return ", ".join(name for name in HEAVY if name in with_plugin - without) or "none"


def imported(command: Sequence[str], folder: str) -> set[str]:
    """Names of all modules that are there after ``pytest`` with these arguments."""
    done = subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", PROBE, *command], cwd=folder, capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def measure(rounds: int, folder: str) -> dict[tuple[Arguments, bool], list[float]]:
    """Seconds of each command in each round, as (arguments, blocked) -> seconds; a round before them warms up."""
    shuffle = random.Random(SEED).shuffle  # noqa: S311 - an order of measurement
    variants = [(command, blocked) for command in (HELP, PLAIN) for blocked in (True, False)]
    seconds: dict[tuple[Arguments, bool], list[float]] = {variant: [] for variant in variants}
    for turn in range(rounds + 1):
        shuffle(variants)
        for command, blocked in variants:
            taken_s = timed(command, [*command, *(BLOCKED if blocked else ())], folder)
            if turn:
                seconds[command, blocked].append(taken_s)
    for (command, blocked), values in sorted(seconds.items()):
        what = f"pytest {' '.join(command)} {'without' if blocked else 'with'} the plugin"
        print(f"{what:<45} median {statistics.median(values):.3f} s, {min(values):.3f} to {max(values):.3f} s")
    return seconds


def extra(seconds: Mapping[tuple[Arguments, bool], Sequence[float]], command: Arguments) -> float:
    """Median over the rounds of what the plugin adds to `command` within a round."""
    pairs = zip(seconds[command, False], seconds[command, True], strict=True)
    return statistics.median(with_s - without_s for with_s, without_s in pairs)


def timed(command: Arguments, arguments: Sequence[str], folder: str) -> float:
    """Seconds that ``pytest`` with these arguments takes."""
    started = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "pytest", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    taken_s = time.perf_counter() - started
    if done.returncode != EXIT_CODES[command]:
        sys.exit(f"pytest {' '.join(arguments)} ended with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    return taken_s


if __name__ == "__main__":
    main()
