"""Is the suite green in company? Two suites at once on this machine, and one while other programs compute.

The code under test is the stored goldens' own, so whatever fails is a false alarm. That a step cannot be timed now
(``incomparable``) is none: it is counted apart.

    python benchmarks/company.py [--repetitions 10] [--json FILE] [-- arguments for pytest, as --optcheck-route timing]
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environments import optcheck
from benchmarks.figures import add_json_option, finish
from benchmarks.speed_power import loaded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.environments import Check

AT_ONCE = 2
"""Suites that run at once, each with as many workers as it would have alone."""


def main() -> None:
    """Repeat both, print each run, sum up."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=10, metavar="N", help="of both kinds (default: 10)")
    parser.add_argument("arguments", nargs="*", help="for pytest")
    add_json_option(parser)
    options = parser.parse_args()
    beside: list[Check] = []
    under_load: list[Check] = []
    for _ in range(options.repetitions):
        found = together(options.arguments)
        beside += found
        with loaded():
            under_load.append(optcheck({}, arguments=options.arguments))
        for what, checks in (("at once", found), ("under load", under_load[-1:])):
            for check in checks:
                _print(what, check)
    figures = {
        "repetitions": options.repetitions,
        "cases": sum(len(check.judged) for check in beside + under_load),
        "false_alarms": _alarms(beside),
        "false_alarms_under_load": _alarms(under_load),
        "incomparable": _incomparable(beside),
        "incomparable_under_load": _incomparable(under_load),
    }
    finish(figures, options.json)


def together(arguments: Sequence[str]) -> list[Check]:
    """Suites that begin at the same moment."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda _: optcheck({}, arguments=arguments), range(AT_ONCE)))


def _alarms(checks: Sequence[Check]) -> int:
    return sum(len(check.false_alarms) + len(check.problems) for check in checks)


def _incomparable(checks: Sequence[Check]) -> int:
    return sum(answer.verdict == "incomparable" for check in checks for answer in check.answers)


def _print(what: str, check: Check) -> None:
    counts = f"{len(check.judged)} cases, {_alarms([check])} false alarms, {_incomparable([check])} incomparable"
    print(f"{what:12}{counts}, {check.wall_s:.1f} s", flush=True)
    for alarm in (*check.false_alarms, *check.problems):
        print(f"  {alarm}", flush=True)


if __name__ == "__main__":
    main()
