"""What each reference model is there for: the mistakes that it alone shows, shows first, or shows most clearly.

Trains the correct optimizer of every pair on every reference model, in float64, with a few jittered runs for the
envelope, and looks for the update at which the altered one leaves it. Of two models that show a mistake at the
same update, the one where it lies more envelopes away shows it more clearly. Losses that are wrong on purpose
stand beside the altered optimizers; only their own model can show them.

Without ``--all`` it took 321 s on one core of a busy machine.

    python benchmarks/workload_worth.py [--all] [--only S3,M49] [--workload gcn,lstm] [--json FILE]
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fixtures"))

from bugs import worth, wrong_losses
from bugs.registry import MUTANTS, Pair

from benchmarks.figures import Figures, add_json_option, finish
from pytest_optcheck import workloads
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.curves import Needs, deviation, share
from pytest_optcheck.judge import Policy
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bugs.pairs import Recipe
    from bugs.wrong_losses import WrongLoss

    from pytest_optcheck.curves import Run
    from pytest_optcheck.workloads.base import Workload

DRAWS = 2
"""Jittered runs that an envelope is taken from: enough to compare models, too few to judge by."""

ALSO = ("M07", "M31", "X10", "X16", "X17", "X20", "F08", "G04")
"""Mutants of other families that are looked at unless ``--all`` takes them all: each needs its model as well."""

POLICY = Policy()

Series = dict[tuple[str, int], float]
"""(tensor, or "" for the loss; update) -> value."""


class Sight(NamedTuple):
    """Where a mistake shows on one reference model.

    Attributes:
        workload: which.
        step: the update at which the altered run departs.
        envelopes: by how many envelopes; inf if it raised or left the finite numbers.
    """

    workload: str
    step: int
    envelopes: float


@dataclass(frozen=True, slots=True)
class Reference:
    """The correct run with the envelope of every value in it."""

    values: Series
    envelopes: Series
    largest: Mapping[str, float]
    conditions: Conditions


@dataclass(frozen=True, slots=True)
class Worth:
    """What one reference model is there for: ids of mistakes, each in one list at most."""

    alone: list[str]
    first: list[str]
    clearest: list[str]


def main() -> None:
    """Measure, rank, report."""
    options = _options()
    started = time.perf_counter()
    others = [pair for pair in MUTANTS if options.all or pair.id in (options.only or ALSO)]
    pairs = [pair for pair in (*worth.PAIRS, *others) if _chosen(pair.id, options.only)]
    losses = [wrong for wrong in wrong_losses.LOSSES if _chosen(wrong.id, options.only)]
    shared: dict[Recipe, list[Pair]] = defaultdict(list)
    for pair in pairs:
        shared[replace(pair.correct, workloads=())].append(pair)
    wrongs = {pair.id: pair.wrong for pair in pairs} | {wrong.id: wrong.wrong for wrong in losses}
    sights: dict[str, list[Sight]] = {key: [] for key in wrongs}
    trained = 0
    for name in options.workload:
        model = workloads.load(workloads.BUILTIN[name])
        for correct, own in shared.items():
            trained += _look(model, correct, own, sights)
        for wrong in losses:
            if wrong.workload == name:
                _look_at_loss(model, wrong, sights)
        print(f"  {time.perf_counter() - started:6.1f} s  {name}", file=sys.stderr, flush=True)
    _report_mistakes(wrongs, sights)
    worths = _rank(sights, options.workload)
    _report_worths(worths)
    counts = {"mistakes": len(sights), "trained": trained, "seconds": round(time.perf_counter() - started)}
    finish(_figures(worths, sights) | counts, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--all", action="store_true", help="the mutants of every family, not only those of worth.py")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="ID[,ID]", help="only these mistakes")
    parser.add_argument(
        "--workload", type=lambda text: text.split(","), default=list(workloads.BUILTIN), metavar="NAME[,NAME]"
    )
    add_json_option(parser)
    return parser.parse_args()


def _chosen(key: str, only: Sequence[str] | None) -> bool:
    return not only or key in only


def _look(model: Workload, correct: Recipe, pairs: Sequence[Pair], sights: dict[str, list[Sight]]) -> bool:
    """Add what `model` shows of `pairs`; False if the correct optimizer does not train it."""
    reference = _reference(model, correct)
    if reference is None:
        return False
    for pair in pairs:
        if sight := _sight(model.name, reference, train(pair.altered, model, reference.conditions)):
            sights[pair.id].append(sight)
    return True


def _look_at_loss(model: Workload, wrong: WrongLoss, sights: dict[str, list[Sight]]) -> None:
    reference = _reference(model, wrong.optimizer)
    if reference is None:
        raise SystemExit(f"{wrong.optimizer.text} does not train {model.name}")
    if sight := _sight(model.name, reference, train(wrong.optimizer, wrong.altered(), reference.conditions)):
        sights[wrong.id].append(sight)


def _reference(model: Workload, correct: Recipe) -> Reference | None:
    """The correct run and its envelope; None where it raises, diverges or is more noise than curve."""
    for needs in (Needs(), Needs(closure=True)):
        conditions = Conditions(needs=needs)
        run = train(correct, model, conditions)
        if run.failure is None:
            break
    else:
        return None
    values = _series(run)
    largest: dict[str, float] = defaultdict(float)
    for (name, _), value in values.items():
        largest[name] = max(largest[name], abs(value))
    jittered = [_series(train(correct, model, replace(conditions, jitter=seed))) for seed in range(DRAWS)]
    envelopes: Series = {}
    widest: dict[str, float] = defaultdict(float)
    for (name, step), value in values.items():
        found = max(deviation(draw.get((name, step), math.nan), value, largest[name]) for draw in jittered)
        widest[name] = envelopes[name, step] = max(widest[name], found)
    return Reference(values, envelopes, largest, conditions)


def _series(run: Run) -> Series:
    losses = {("", step): loss for step, loss in enumerate(run.losses)}
    return losses | {(name, step): norm for name, norms in run.norms.items() for step, norm in norms.items()}


def _sight(workload: str, reference: Reference, run: Run) -> Sight | None:
    """The first update at which `run` is outside, and the largest number of envelopes there; None if never."""
    found: list[tuple[int, float]] = []
    if run.failure is not None:
        found.append((run.failure.step, math.inf))
    observed = _series(run)
    for (name, step), value in reference.values.items():
        if (name, step) not in observed:
            continue
        envelope = reference.envelopes[name, step]
        moved = deviation(observed[name, step], value, reference.largest[name])
        part = 1.0 if name else share(value, reference.largest[name])
        if not moved <= POLICY.tolerance(envelope, "float64", part):
            found.append((step, moved / POLICY.envelope(envelope, "float64", part)))
    if not found:
        return None
    first = min(step for step, _ in found)
    return Sight(workload, first, max(envelopes for step, envelopes in found if step == first))


def _rank(sights: Mapping[str, Sequence[Sight]], names: Sequence[str]) -> dict[str, Worth]:
    worths = {name: Worth([], [], []) for name in names}
    for key, seen in sights.items():
        ranked = sorted(seen, key=lambda sight: (sight.step, -sight.envelopes))
        if not ranked:
            continue
        own = worths[ranked[0].workload]
        if len(ranked) == 1:
            own.alone.append(key)
        elif ranked[0].step < ranked[1].step:
            own.first.append(key)
        elif ranked[0].envelopes > ranked[1].envelopes:
            own.clearest.append(key)
    return worths


def _report_mistakes(wrongs: Mapping[str, str], sights: Mapping[str, Sequence[Sight]]) -> None:
    """One row a mistake: the three models that show it first."""
    print(f"\n{'mistake':16}{'models':>7}   shown first on (update, envelopes)")
    for key, seen in sights.items():
        print(f"{key:16}{len(seen):>7}   {', '.join(_texts(seen)) or 'none'}   {wrongs[key]}")


def _texts(seen: Sequence[Sight]) -> Iterator[str]:
    for sight in sorted(seen, key=lambda sight: (sight.step, -sight.envelopes))[:3]:
        yield f"{sight.workload} ({sight.step}, {sight.envelopes:.0e})"


def _report_worths(worths: Mapping[str, Worth]) -> None:
    """One block a reference model."""
    print(f"\n{'reference model':16}mistakes that it shows")
    for name, worth_ in worths.items():
        for label, keys in (("alone", worth_.alone), ("first", worth_.first), ("clearest", worth_.clearest)):
            if keys:
                print(f"{name:16}{label + ':':10}{' '.join(keys)}")
    print()


def _figures(worths: Mapping[str, Worth], sights: Mapping[str, Sequence[Sight]]) -> Figures:
    own = {name: len(w.alone) + len(w.first) + len(w.clearest) for name, w in worths.items()}
    return {
        "least": min(own.values()),
        **own,
        "alone": sum(len(w.alone) for w in worths.values()),
        "first": sum(len(w.first) for w in worths.values()),
        "clearest": sum(len(w.clearest) for w in worths.values()),
        "unseen": sum(not seen for seen in sights.values()),
    }


if __name__ == "__main__":
    main()
