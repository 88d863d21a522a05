"""Pairs of runs put before the statistics: where nothing changed, and where something did."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from msgspec import structs

from benchmarks.calibrating.training import PLAIN
from pytest_optcheck.convergence import SEEDS, log_ratios, settle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_optcheck.convergence import Kind, Pairs
    from pytest_optcheck.ensembles.figures import Member

DEALT = 100
"""Times that the pairs of one change are dealt to screen and confirmation."""

SHIFTED, SHIFT = "shifted", 1.02
LOSSES = ("final_loss", "held_out_loss", "area")
"""Metrics that a shift multiplies."""

Runs = dict[str, list["Member"]]
"""Condition -> seed after seed."""


@dataclass(frozen=True, slots=True)
class Null:
    """Checks of one optimizer on one reference model where nothing changed.

    Attributes:
        case: optimizer and reference model.
        spread: standard deviation of the log ratio of the final losses of a condition and the plain one, over all.
        fresh: what the conditions were called against the plain one, how often.
        resampled: what the resampled checks were called.
    """

    case: str
    spread: float | None
    fresh: Mapping[str, int]
    resampled: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Change:
    """One change to one optimizer on one reference model.

    Attributes:
        name: what was done.
        case: optimizer and reference model.
        pairs: old and new run of each seed.
        dealt: how often the pairs are to be dealt anew.
    """

    name: str
    case: str
    pairs: Pairs
    dealt: int = DEALT


@dataclass(frozen=True, slots=True)
class Power:
    """What became of a change.

    Attributes:
        name: what was done.
        case: optimizer and reference model.
        effect: relative change of the final loss.
        spread: standard deviation of its log ratios.
        fresh: what the seeds as they are call it.
        resampled: what the dealt pairs call it, how often.
    """

    name: str
    case: str
    effect: float | None
    spread: float | None
    fresh: Kind
    resampled: Mapping[str, int]


def null(checks: int, case: str, runs: Runs) -> Null:
    """Call every condition against the plain one, then `checks` mixtures of conditions and seeds."""
    against = [paired(runs[PLAIN], members) for name, members in runs.items() if name != PLAIN]
    random, names = np.random.RandomState(0), list(runs)
    resampled: Counter[str] = Counter()
    for _ in range(checks):
        mixed = []
        for seed in random.permutation(SEEDS):
            old, new = random.choice(len(names), 2, replace=False)
            mixed.append((runs[names[old]][seed], runs[names[new]][seed]))
        resampled[called(mixed)] += 1
    ratios = [ratio for pairs in against for ratio in log_ratios("final_loss", pairs)]
    return Null(case, _spread(ratios), {**Counter(map(called, against))}, {**resampled})


def power(change: Change) -> Power:
    """Call a change by its seeds as they are, then dealt anew."""
    random = np.random.RandomState(0)
    dealt = (random.permutation(SEEDS) for _ in range(change.dealt))
    resampled: Counter[str] = Counter(called([change.pairs[seed] for seed in seeds]) for seeds in dealt)
    ratios = log_ratios("final_loss", change.pairs)
    effect = math.expm1(statistics.fmean(ratios)) if ratios else None
    return Power(change.name, change.case, effect, _spread(ratios), called(change.pairs), {**resampled})


def shifted(case: str, runs: Runs) -> Iterator[Change]:
    """Each rerun against the plain one, its losses 2 % higher."""
    for condition, members in runs.items():
        if condition != PLAIN:
            worse = [structs.replace(member, metrics=_worse(member.metrics)) for member in members]
            yield Change(SHIFTED, f"{case}, {condition}", paired(runs[PLAIN], worse), dealt=0)


def paired(old: Sequence[Member], new: Sequence[Member]) -> Pairs:
    """Seed by seed."""
    return list(zip(old, new, strict=True))


def called(pairs: Pairs) -> Kind:
    """What these pairs are called: the first are the screen, the others confirm."""
    return settle([old for old, _ in pairs], lambda seeds: [pairs[seed][1] for seed in seeds]).kind


def _worse(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value * SHIFT if name in LOSSES else value for name, value in metrics.items()}


def _spread(ratios: Sequence[float]) -> float | None:
    return statistics.stdev(ratios) if len(ratios) > 1 else None
