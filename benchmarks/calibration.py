"""Is the answer to "is it worse?" right? False alarms where nothing changed, and power where something did.

Null: every optimizer with a golden on a model that keeps ensembles is trained on all 24 seeds, and again under each of
the other conditions: other instruction sets, initial parameters rounded otherwise. The algorithm is the same, so who is
called better or worse is called so wrongly. ``fresh`` checks compare each condition with the plain one, as a golden
from there would be checked; ``resampled`` ones are made of the same trainings: each seed takes two conditions at
random, and seeds are dealt to screen and confirmation at random. All of this asks the seeds at once; a real check asks
them when the curve has left its envelope, which no rounding was seen to bring about.

Power: `CHANGES`, against the ensemble of the optimizer as it was; ``shifted``, the losses of the reruns above × 1.02;
``tuned``, a learning rate at which the final loss was 2 % more on 16 other seeds. ``fresh`` is what the seeds as they
are call it; ``resampled`` deals the same 24 pairs to screen and confirmation at random.

    python benchmarks/calibration.py [--jobs 2] [--checks 10000] [--json FILE]
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.calibrating.judging import SHIFTED, Change, Null, Power, Runs, null, paired, power, shifted
from benchmarks.calibrating.training import CONDITIONS, MODELS, PLAIN, Job, Subject, pool, recorded, train, tune
from benchmarks.figures import Figures, finish
from pytest_optcheck import environment
from pytest_optcheck.convergence import KINDS, SEEDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_optcheck.ensembles.figures import Member

SGD, ADAM, ADAMW = "torch.optim:SGD(lr=0.01, momentum=0.9)", "torch.optim:Adam(lr=0.001)", "torch.optim:AdamW(lr=0.003)"
NADAM, RADAM, RMSPROP = "torch.optim:NAdam(lr=0.002)", "torch.optim:RAdam(lr=0.01)", "torch.optim:RMSprop(lr=0.001)"
DECAYED = "torch.optim:AdamW(lr=0.001, weight_decay=0.1)"
WARM = "LinearLR(start_factor=0.1, total_iters=20)"

CHANGES: Mapping[str, Mapping[str, str]] = {
    "lr × 0.9": {
        SGD: "torch.optim:SGD(lr=0.009, momentum=0.9)",
        ADAM: "torch.optim:Adam(lr=0.0009)",
        DECAYED: "torch.optim:AdamW(lr=0.0009, weight_decay=0.1)",
        RMSPROP: "torch.optim:RMSprop(lr=0.0009)",
        NADAM: "torch.optim:NAdam(lr=0.0018)",
    },
    "weight decay off": {
        DECAYED: "torch.optim:AdamW(lr=0.001, weight_decay=0.0)",
        "torch.optim:SGD(lr=0.01, momentum=0.9, weight_decay=0.1)": SGD,
    },
    "beta2 .999 to .99": {
        ADAM: "torch.optim:Adam(betas=(0.9, 0.99), lr=0.001)",
        NADAM: "torch.optim:NAdam(betas=(0.9, 0.99), lr=0.002)",
        RADAM: "torch.optim:RAdam(betas=(0.9, 0.99), lr=0.01)",
    },
    "warm-up lost": {
        f"{ADAMW} >> {WARM}": ADAMW,
        f"torch.optim:SGD(lr=0.05, momentum=0.9) >> {WARM}": "torch.optim:SGD(lr=0.05, momentum=0.9)",
    },
}
"""What is changed -> the optimizer as it was -> as it is."""

TUNED = "tuned"
RATES = (SGD, ADAM, DECAYED, RMSPROP, NADAM)
"""Optimizers whose learning rate is tuned to 2 % more final loss."""


class Altered(NamedTuple):
    """One of `CHANGES` on one reference model."""

    name: str
    before: Subject
    after: Subject


@dataclass(slots=True)
class Trained:
    """All that was trained.

    Attributes:
        plain: the optimizers as they are, in plain conditions.
        runs: those of them that have goldens, in every condition.
        changes: changed optimizers beside what they were.
        count: trainings.
    """

    plain: dict[Subject, list[Member]] = field(default_factory=dict)
    runs: dict[Subject, Runs] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    count: int = 0

    def job(self, subject: Subject, of: Subject, condition: str = PLAIN) -> Job:
        """Train `subject` with the targets of `of`."""
        return Job(subject, condition, tuple(member.target for member in self.plain[of]))


def main() -> None:
    """Train, judge, print, write."""
    options = _options()
    started = time.perf_counter()
    subjects = [subject for subject in recorded() if subject.workload in options.models]
    trained = _trained(subjects, options.models, options.jobs)
    _rerun(trained, subjects, options.jobs)
    seconds = {"training_seconds": round(time.perf_counter() - started)}
    changes = [
        *trained.changes,
        *(one for subject, runs in trained.runs.items() for one in shifted(str(subject), runs)),
    ]
    each = math.ceil(options.checks / len(subjects))
    with pool(options.jobs, PLAIN) as workers:
        nulls = list(workers.map(partial(null, each), map(str, trained.runs), trained.runs.values()))
        powers = list(workers.map(power, changes))
    _report(nulls, powers)
    seconds["seconds"] = round(time.perf_counter() - started)
    figures = _figures(nulls, powers) | {"trainings": trained.count} | seconds
    finish(figures, None)
    if options.json is not None:
        _write(options.json, figures, nulls, powers)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes (default 2)")
    parser.add_argument("--checks", type=int, default=10000, metavar="N", help="resampled null checks (default 10000)")
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(MODELS), help="of digits_cnn,mlp")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to FILE, with versions")
    return parser.parse_args()


def _trained(subjects: Sequence[Subject], models: Sequence[str], processes: int) -> Trained:
    """The optimizers as they are, and as they are changed, in plain conditions."""
    trained = Trained()
    known = {(subject.spec, subject.workload): subject for subject in subjects}
    altered = [
        Altered(name, known.get((before, model), Subject(before, model)), Subject(after, model))
        for name, specs in CHANGES.items()
        for model in models
        for before, after in specs.items()
    ]
    tuned = [known[spec, model] for model in models for spec in RATES]
    with pool(processes, PLAIN) as workers:
        wanted = list(dict.fromkeys([*subjects, *(one.before for one in altered)]))
        trained.plain = dict(zip(wanted, workers.map(train, map(Job, wanted)), strict=True))
        _say(f"{len(wanted)} optimizers")
        jobs = [trained.job(one.after, one.before) for one in altered]
        for one, new in zip(altered, workers.map(train, jobs), strict=True):
            trained.changes.append(Change(one.name, str(one.before), paired(trained.plain[one.before], new)))
        _say(f"{len(altered)} changes")
        jobs = [trained.job(subject, subject) for subject in tuned]
        for subject, (factor, new) in zip(tuned, workers.map(tune, jobs), strict=True):
            if new:
                case = f"{subject}, lr × {factor:.4g}"
                trained.changes.append(Change(TUNED, case, paired(trained.plain[subject], new)))
        _say(f"{len(tuned)} tuned rates")
    trained.count = SEEDS * (len(wanted) + len(trained.changes))
    return trained


def _rerun(trained: Trained, subjects: Sequence[Subject], processes: int) -> None:
    """The optimizers as they are, in every condition."""
    trained.runs = {subject: {PLAIN: trained.plain[subject]} for subject in subjects}
    for condition in CONDITIONS:
        if condition != PLAIN:
            with pool(processes, condition) as workers:
                found = workers.map(train, [trained.job(subject, subject, condition) for subject in subjects])
                for subject, members in zip(subjects, found, strict=True):
                    trained.runs[subject][condition] = members
            trained.count += SEEDS * len(subjects)
            _say(f"again: {condition}")


def _say(what: str) -> None:
    print(f"  {time.strftime('%H:%M:%S')}  trained {what}", file=sys.stderr, flush=True)


def _figures(nulls: Sequence[Null], powers: Sequence[Power]) -> Figures:
    figures: Figures = {}
    for name, counts in (("fresh", [one.fresh for one in nulls]), ("resampled", [one.resampled for one in nulls])):
        total = _total(counts)
        figures |= {f"null_{name}": total.total(), f"null_{name}_alarms": total.total() - total["changed"]}
    for name in (SHIFTED, TUNED):
        own = [one.fresh == "regression" for one in powers if one.name == name]
        figures |= {name: len(own), f"{name}_called_worse": sum(own)}
    return figures


def _total(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    return sum(map(Counter, counts), Counter())


def _report(nulls: Sequence[Null], powers: Sequence[Power]) -> None:
    """Null and power, a row each; then how the changes fared together."""
    print(f"\n{'nothing changed':100} {'spread':>8}  {'fresh':14} resampled")
    for one in nulls:
        print(f"{one.case[:99]:100} {_number(one.spread, '.1e'):>8}  {_counts(one.fresh):14} {_counts(one.resampled)}")
    print(f"\n{'change':18} {'of':90} {'final loss':>10} {'spread':>8}  {'fresh':11} resampled")
    for two in powers:
        if two.name != SHIFTED or two.fresh != "regression":
            size = f"{_number(two.effect, '+.2%'):>10} {_number(two.spread, '.1e'):>8}"
            print(f"{two.name:18} {two.case[-89:]:90} {size}  {two.fresh:11} {_counts(two.resampled)}")
    print(f"\n{'change':18}{'cases':>6}{'improved':>10}{'changed':>10}{'regression':>12}   the same, resampled")
    for name in dict.fromkeys(two.name for two in powers):
        fresh = Counter(two.fresh for two in powers if two.name == name)
        cells = f"{fresh.total():6}{fresh['improved']:10}{fresh['changed']:10}{fresh['regression']:12}"
        print(f"{name:18}{cells}   {_counts(_total(two.resampled for two in powers if two.name == name))}")
    print()


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts.get(kind))


def _write(file: Path, figures: Mapping[str, Any], nulls: Sequence[Null], powers: Sequence[Power]) -> None:
    document = {
        "figures": dict(figures),
        "when": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": environment.machine(),
        "conditions": {name: dict(variables) for name, variables in CONDITIONS.items()},
        "null": [asdict(one) for one in nulls],
        "power": [asdict(one) for one in powers],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
