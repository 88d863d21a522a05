"""How many planted wastes of time and memory are caught by counts, and how many harmless rewrites are flagged.

Counts the correct optimizers of ``fixtures/bugs`` and the altered ones, holds each against its correct one, and each
correct one against another count of itself. A mutant is caught if the gate says what it was planted for, not
anything; a rewrite is explained if every line is about what it truly adds (``fixtures/bugs/added.py``). A rewrite of
another path is counted on that path too, where a flag chooses it or a sparse gradient does.

    python benchmarks/cost_detection.py [--only V01,Y02] [--json FILE]
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fixtures"))

from bugs.added import ADDED
from bugs.registry import COST_MUTANTS, HARMLESS_PAIRS, CostPair, Pair
from msgspec import structs

from benchmarks.figures import Figures, add_json_option, finish
from pytest_optcheck import needs, workloads
from pytest_optcheck.building import assemble
from pytest_optcheck.cost.counting import count
from pytest_optcheck.cost.gate import compare
from pytest_optcheck.specs import FactorySpec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bugs.pairs import Recipe

    from pytest_optcheck.cost.figures import Cost
    from pytest_optcheck.curves import Needs

MODEL = "zoo"
"""The reference model on which needs are found."""

PATHS = ("foreach", "capturable", "sparse")
"""Routes that are another path of the same step; of the others a count has moments of its own."""

WITHOUT_ROWS = "scalar"
"""The tensor of `MODEL` that cannot have a sparse gradient."""

MARK = {True: "×", False: "·"}


@dataclass(frozen=True, slots=True)
class Result:
    """What the gate said of one pair.

    Attributes:
        pair: the pair.
        heavier: its lines.
    """

    pair: Pair
    heavier: tuple[str, ...]

    @property
    def telling(self) -> list[str]:
        """The lines that the mutant was planted for."""
        return [line for line in self.heavier if isinstance(self.pair, CostPair) and self.pair.tells(line)]

    @property
    def unexplained(self) -> list[str]:
        """The lines that are about nothing which the rewrite truly adds."""
        added = ADDED.get(self.pair.id)
        return [line for line in self.heavier if added is None or not added.explains(line)]


@dataclass(slots=True)
class Counter:
    """Counts recipes, the correct ones once.

    Attributes:
        unequal: texts of correct recipes that another count of the same found heavier or lighter.
    """

    unequal: list[str] = field(default_factory=list)
    _correct: dict[tuple[str, str, bool], tuple[Needs, Cost]] = field(default_factory=dict)

    def judge(self, pair: Pair) -> Result:
        """Hold the altered recipe of `pair` against the correct one, on every path."""
        paths = ["plain", *(route for route in pair.routes if route in PATHS)]
        return Result(pair, tuple(line for path in paths for line in self._judge(pair, path)))

    def _judge(self, pair: Pair, path: str) -> tuple[str, ...]:
        compiled = isinstance(pair, CostPair) and "recompiles" in pair.told
        key = pair.correct.text, path, compiled
        if key not in self._correct:
            spec = FactorySpec(pair.correct.text, pair.correct)
            found, _ = needs.discover(spec, workloads.load(workloads.BUILTIN[MODEL]), "cpu")
            if path == "sparse":
                found = structs.replace(found, sparse=True, frozen=(*found.frozen, WITHOUT_ROWS))
            cost, again = (_count(pair.correct, found, path, compiled=compiled) for _ in range(2))
            if cost != again:
                self.unequal.append(spec.text)
            self._correct[key] = found, cost
        found, correct = self._correct[key]
        return compare(_count(pair.altered, found, path, compiled=compiled), correct).heavier

    @property
    def recipes(self) -> int:
        """Correct recipes counted."""
        return len(self._correct)


def _count(recipe: Recipe, found: Needs, path: str, *, compiled: bool) -> Cost:
    spec = FactorySpec(recipe.text, recipe)
    built = None if path == "sparse" else assemble(spec, path)
    return count(spec if built is None else FactorySpec(recipe.text, built), found, compiled=compiled).cost


def main() -> None:
    """Count, judge, report."""
    options = _options()
    warnings.filterwarnings("ignore", message="This overload of add_ is deprecated")  # OK11 is about it
    started = time.perf_counter()
    counter = Counter()
    mutants = [counter.judge(pair) for pair in _chosen(COST_MUTANTS, options.only)]
    harmless = [counter.judge(pair) for pair in _chosen(HARMLESS_PAIRS, options.only)]
    _report_mutants(mutants)
    _report_harmless(harmless)
    for text in counter.unequal:
        print(f"counted twice, two costs: {text}")
    finish(_figures(mutants, harmless, counter) | {"seconds": round(time.perf_counter() - started)}, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="ID[,ID]", help="only these pairs")
    add_json_option(parser)
    options = parser.parse_args()
    known = [pair.id for pair in (*COST_MUTANTS, *HARMLESS_PAIRS)]
    if unknown := set(options.only or ()) - set(known):
        parser.error(f"no pair {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return options


def _chosen(pairs: Iterable[Pair], only: list[str] | None) -> list[Pair]:
    return [pair for pair in pairs if not only or pair.id in only]


def _report_mutants(mutants: list[Result]) -> None:
    """One row a mutant with the first line that tells, and what was missed."""
    print(f"{'mutant':14}caught  what is wrong")
    for result in mutants:
        print(f"{result.pair.id:14}{MARK[bool(result.telling)]:>6}  {result.pair.wrong}")
        for line in result.telling[:1]:
            others = len(result.heavier) - 1
            print(f"{'':22}{line}" + (f", and {others} lines more" if others else ""))
    for result in mutants:
        if not result.telling:
            said = "; ".join(result.heavier[:2]) or "nothing is heavier"
            print(f"not caught: {result.pair.id}: {said}. {result.pair.note}")


def _report_harmless(harmless: list[Result]) -> None:
    """One row a rewrite, and its lines if they are not all explained."""
    print(f"\n{'harmless':16}lines  unexplained  what changes, and what that truly adds")
    for result in harmless:
        added = ADDED.get(result.pair.id)
        why = f" Adds: {added.why}." if added is not None and result.heavier else ""
        counts = f"{len(result.heavier):>5}{len(result.unexplained):>13}"
        print(f"{result.pair.id:16}{counts}  {result.pair.wrong}{why}")
        for line in result.unexplained:
            print(f"{'':36}{line}")
    print()


def _figures(mutants: list[Result], harmless: list[Result], counter: Counter) -> Figures:
    return {
        "mutants": len(mutants),
        "caught": sum(bool(result.telling) for result in mutants),
        "caught_otherwise": sum(bool(result.heavier and not result.telling) for result in mutants),
        "harmless": len(harmless),
        "flagged": sum(bool(result.heavier) for result in harmless),
        "flagged_unexplained": sum(bool(result.unexplained) for result in harmless),
        "recipes": counter.recipes,
        "unequal_repeats": len(counter.unequal),
    }


if __name__ == "__main__":
    main()
