"""Do many seeds train faster side by side than one after another? Processor time a seed, on models that keep ensembles.

python benchmarks/side_by_side.py [--json FILE]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.figures import Figures, add_json_option, finish
from pytest_optcheck import workloads
from pytest_optcheck.building import plain
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.ensembles.stacking import Stack
from pytest_optcheck.specs import parse
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from collections.abc import Callable

MODELS = ("mlp", "digits_cnn")
SPECS = ("torch.optim:SGD(lr=0.01, momentum=0.9)", "torch.optim:Adam(lr=0.001)")
COUNTS = (2, 8, 16, 24)
REPEATS = 3
"""The least of so many is taken: what else the machine does can only add."""


def main() -> None:
    """Train alone and stacked, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_json_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures: Figures = {}
    for name in MODELS:
        workload = workloads.load(workloads.BUILTIN[name])
        steps = workload.steps
        for text in SPECS:
            build = plain(parse(text))
            alone = _seconds(lambda: train(build, workload.seeded(0), Conditions("float32")))  # noqa: B023 - called at once
            row = [f"alone {1e3 * alone:.1f} ms"]
            for count in COUNTS:
                stack = Stack(workload, range(count))
                conditions = Conditions("float32", steps=steps)
                each = _seconds(lambda: train(build, stack, conditions)) / count  # noqa: B023 - ditto
                row.append(f"{count} beside each other {1e3 * each:.1f} ms a seed ({alone / each:.2f} ×)")
                if count == max(COUNTS):
                    optimizer = text.partition(":")[2].partition("(")[0]
                    figures[f"{name}_{optimizer}_gain"] = round(alone / each, 2)
            print(f"{name}, {text}: {'; '.join(row)}", flush=True)
    finish(figures, options.json)


def _seconds(work: Callable[[], object]) -> float:
    """Processor time."""
    spent = []
    for _ in range(REPEATS):
        started = time.process_time()
        work()
        spent.append(time.process_time() - started)
    return min(spent)


if __name__ == "__main__":
    main()
