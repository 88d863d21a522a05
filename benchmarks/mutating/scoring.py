"""What became of many mutants: counts per file and in all, for the terminal and for the file of results."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.mutating.files import OPTIMIZERS, SCHEDULERS
from benchmarks.mutating.judging import CRASHES, EQUIVALENT, HANGING, KILLED, OUTCOMES, RAISES, SURVIVED
from pytest_optcheck.environment import machine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from benchmarks.figures import Figures
    from benchmarks.mutating.judging import Mutant, Outcome
    from benchmarks.mutating.naive import Rules
    from benchmarks.mutating.reviews.base import Review
    from benchmarks.mutating.trying import Cases

LINES = 30
"""Killing cases that are listed."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A mutant and what became of it.

    Attributes:
        mutant: the mutant.
        outcome: what the cases said.
        entry: of the reviews, if one is about it.
        wall_s: seconds that it took.
    """

    mutant: Mutant
    outcome: Outcome
    entry: Review | None = None
    wall_s: float = 0.0

    @property
    def kind(self) -> str:
        """One of `OUTCOMES`: a survivor that was reviewed is what the review says."""
        return self.entry.outcome if self.entry and self.outcome.kind == SURVIVED else self.outcome.kind

    @property
    def why(self) -> str:
        """What killed it, or why it was not to be killed, or with how much it was tried."""
        if self.entry is not None and self.outcome.kind == SURVIVED:
            return self.entry.reason
        return self.outcome.by or f"{self.outcome.tried} cases"

    @property
    def refusal(self) -> bool:
        """Whether it is about which inputs are refused."""
        return self.mutant.alteration.site.refusal

    @property
    def contradicts(self) -> bool:
        """Whether a review says that it cannot be killed, and it was."""
        return self.entry is not None and self.outcome.kind == KILLED

    def told(self) -> dict[str, str]:
        """As the file of results keeps it."""
        mutant = self.mutant
        place = {"where": mutant.where, "alteration": mutant.alteration.kind}
        return {**place, "before": mutant.before, "after": mutant.after, "outcome": self.kind, "why": self.why}


def score(judged: Iterable[Judged]) -> Figures:
    """How many of each outcome, how many there are, and the share that is killed of those that can be."""
    counts = Counter(one.kind for one in judged)
    found: Figures = {"mutants": counts.total(), **{kind: counts[kind] for kind in OUTCOMES}}
    can_be = counts[KILLED] + counts[SURVIVED]
    if can_be:
        found["killed_percent"] = round(100 * counts[KILLED] / can_be, 2)
    return found


def figures(judged: Sequence[Judged]) -> Figures:
    """The last line: all files together."""
    rules = _rules(judged)
    without_verdict = (one.outcome.by in (RAISES, HANGING, CRASHES) for one in judged if one.kind == KILLED)
    return {
        **score(judged),
        "refusals_survived": sum(one.refusal for one in judged if one.kind == SURVIVED),
        "killed_without_verdict": sum(without_verdict),
        "equivalent_by_code": sum(one.outcome.kind == EQUIVALENT for one in judged),
        "reviews_contradicted": sum(one.contradicts for one in judged),
        "naive_asked": len(rules),
        "naive_decrease_killed": sum(said.decrease for said in rules),
        "naive_rtol_killed": sum(said.rtol for said in rules),
    }


def summary(judged: Sequence[Judged], cases: Cases, seed: int, elapsed_s: float) -> dict[str, Any]:
    """All that is kept: counts per file and in all, every survivor, why others were not to be killed."""
    return {
        "when": dt.datetime.now(dt.UTC).date().isoformat(),
        "versions": machine(),
        "seed": seed,
        "seconds": round(elapsed_s),
        "cases": len(cases.all),
        "all": figures(judged),
        "groups": {name: score(own) for name, own in _groups(judged)},
        "files": {name: score(own) for name, own in _by_file(judged).items()},
        "killed_by": dict(Counter(one.outcome.by for one in judged if one.kind == KILLED).most_common()),
        "survivors": [one.told() for one in judged if one.kind == SURVIVED],
        "not_counted": [one.told() for one in judged if one.kind not in (KILLED, SURVIVED)],
    }


def report(judged: Sequence[Judged], cases: Cases) -> Iterator[str]:
    """Survivors, a table of the files, what killed, and entries that no longer hold."""
    yield "survivors"
    for one in judged:
        if one.kind == SURVIVED:
            yield f"  {one.mutant.where}: {one.mutant.alteration.kind} ({one.why}, {one.wall_s:.0f} s)"
            yield f"    - {one.mutant.before}"
            yield f"    + {one.mutant.after}"
    yield f"\n{'file':16}{'mutants':>8}" + "".join(f"{kind:>12}" for kind in OUTCOMES) + f"{'killed':>9}"
    for name, own in [*_by_file(judged).items(), *_groups(judged), ("all", judged)]:
        counts = score(own)
        percent = f"{counts['killed_percent']:8.1f}%" if "killed_percent" in counts else ""
        yield f"{name:16}{counts['mutants']:>8}" + "".join(f"{counts[kind]:>12}" for kind in OUTCOMES) + percent
    killed = [one for one in judged if one.kind == KILLED]
    survived = [one for one in judged if one.kind == SURVIVED]
    yield "\nkilled by: " + _counted(one.outcome.by for one in killed)
    yield "in a case: " + _counted(_sort_of(one, cases) for one in killed)
    yield "alterations that are killed: " + _counted(one.mutant.alteration.kind for one in killed)
    yield "alterations that survive: " + _counted(one.mutant.alteration.kind for one in survived)
    for one in judged:
        if one.contradicts:
            yield f"killed, though a review says it cannot be: {one.mutant.where}: {one.mutant.after}"


def _groups(judged: Sequence[Judged]) -> Iterator[tuple[str, list[Judged]]]:
    """Optimizers, schedulers; those about refused inputs, and the others."""
    for group in (OPTIMIZERS, SCHEDULERS):
        yield group, [one for one in judged if one.mutant.file.group == group]
    yield "refusals", [one for one in judged if one.refusal]
    yield "not refusals", [one for one in judged if not one.refusal]


def _by_file(judged: Iterable[Judged]) -> dict[str, list[Judged]]:
    found: dict[str, list[Judged]] = {}
    for one in judged:
        found.setdefault(one.mutant.file.name, []).append(one)
    return found


def _rules(judged: Iterable[Judged]) -> list[Rules]:
    """What the naive tests said, of mutants that can be killed; those that no case runs are not asked about."""
    return [one.outcome.rules for one in judged if one.kind in (KILLED, SURVIVED) and one.outcome.rules is not None]


def _sort_of(one: Judged, cases: Cases) -> str:
    """The dtype or route of the case that killed."""
    if one.outcome.case is None:
        return "none"
    case = cases.all[one.outcome.case]
    return case.dtype or case.route


def _counted(words: Iterable[str]) -> str:
    return ", ".join(f"{word} {count}" for word, count in Counter(words).most_common(LINES))
