"""Where the time of ``pytest --optcheck`` goes: start-up, the model, ``optimizer.step()``, and the harness around them.

Runs the check in this process (its workers, with ``--jobs``, are processes as always) and adds up what every case
reports: seconds inside forward and backward, inside ``step()``, inside the training, and in the test as a whole.

    python benchmarks/cost_of_checking.py [--jobs 2] [--json FILE] [-- PYTEST OPTIONS]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.figures import add_json_option, finish

if TYPE_CHECKING:
    from collections.abc import Iterable

COSTLIEST = 12
"""Cases that are listed one by one."""


@dataclass(slots=True)
class Cost:
    """Seconds of one or more cases.

    Attributes:
        cases: how many.
        model_s: inside the reference model's forward and backward.
        step_s: inside ``optimizer.step()``.
        train_s: inside the trainings that reported these.
        test_s: of the tests.
    """

    cases: int = 0
    model_s: float = 0.0
    step_s: float = 0.0
    train_s: float = 0.0
    test_s: float = 0.0

    def add(self, other: Cost) -> None:
        """Add up."""
        for name in ("cases", "model_s", "step_s", "train_s", "test_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def useful(self) -> float:
        """Share of the tests' time that is inside the model or ``step()``."""
        return (self.model_s + self.step_s) / self.test_s if self.test_s else 0.0

    def row(self, name: str) -> str:
        """One line of the tables."""
        return (
            f"{name:72.72}{self.cases:6}{self.test_s:9.2f}{self.model_s:9.2f}{self.step_s:9.2f}"
            f"{self.test_s - self.model_s - self.step_s:9.2f}{self.useful:8.0%}"
        )


@dataclass(slots=True, eq=False)  # a plugin must be hashable
class Ledger:
    """A pytest plugin that keeps what the reports say."""

    cases: dict[str, Cost] = field(default_factory=dict)
    by_workload: dict[str, Cost] = field(default_factory=lambda: defaultdict(Cost))
    by_route: dict[str, Cost] = field(default_factory=lambda: defaultdict(Cost))
    first_s: float | None = None
    started: float = field(default_factory=time.perf_counter)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep one case."""
        results = getattr(report, "optcheck", ())
        if report.when != "call" or not results:
            return
        if self.first_s is None:
            self.first_s = time.perf_counter() - self.started - report.duration
        sums = {key: sum(result[key] for result in results) for key in ("model_s", "step_s", "train_s")}
        cost = Cost(1, test_s=report.duration, **sums)
        self.cases[report.nodeid] = cost
        self.by_workload[results[0]["workload"]].add(cost)
        plain = results[0]["route"] == "plain"
        self.by_route[results[0]["dtype"] if plain else results[0]["route"]].add(cost)

    def total(self) -> Cost:
        """All cases."""
        whole = Cost()
        for cost in self.cases.values():
            whole.add(cost)
        return whole


def main() -> None:
    """Run, add up, print."""
    options = _options()
    ledger = Ledger()
    arguments = ["--optcheck", "-q", "-p", "no:cacheprovider", *options.pytest]
    if options.jobs:
        arguments += ["-n", str(options.jobs)]
    status = pytest.main(arguments, plugins=[ledger])
    elapsed_s = time.perf_counter() - ledger.started
    print(f"\n{'':72}{'cases':>6}{'tests s':>9}{'model s':>9}{'step s':>9}{'harness':>9}{'useful':>8}")
    _table("reference model", ledger.by_workload.items())
    _table("route", ledger.by_route.items())
    costliest = sorted(ledger.cases.items(), key=lambda item: -item[1].test_s)[:COSTLIEST]
    _table("costliest cases", costliest)
    total = ledger.total()
    print(total.row("all"))
    figures = {
        "cases": total.cases,
        "green": int(status == pytest.ExitCode.OK),
        "elapsed_s": round(elapsed_s, 1),
        "first_result_after_s": round(ledger.first_s or 0.0, 1),
        "tests_s": round(total.test_s, 1),
        "model_s": round(total.model_s, 1),
        "step_s": round(total.step_s, 1),
        "useful_percent": round(100 * total.useful),
    }
    finish(figures, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="workers (default: none, one process)")
    parser.add_argument("pytest", nargs="*", help="more options for pytest, after --")
    add_json_option(parser)
    return parser.parse_args()


def _table(title: str, rows: Iterable[tuple[str, Cost]]) -> None:
    print(title)
    for name, cost in sorted(rows, key=lambda item: -item[1].test_s):
        print(cost.row(f"  {name}"))


if __name__ == "__main__":
    main()
