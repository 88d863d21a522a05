"""How much of ``torch.optim`` is guarded: its source altered one node at a time, and what ``pytest --optcheck`` says.

Every mutant is a process of its own that executes ``torch.optim`` anew, one module altered in memory (the installed
files are only read), and tries the cases of the profile ``default`` that run the altered line, one after the other,
until one fails. Beside it two naive tests judge the same mutants: "the last loss is below the first", and "every loss
of a float32 training is within 1e-3 of that of the correct code". What is altered and how to read it: docs/mutation.md.

    python benchmarks/mutation.py [--jobs 2] [--mutants 1500] [--seed 0] [--files adam,sgd] [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402 - after the path, as all below

from benchmarks.figures import finish  # noqa: E402
from benchmarks.mutating import judging, naive, reach, scoring, trying  # noqa: E402
from benchmarks.mutating.files import FILES, OPTIMIZERS, SCHEDULERS, File  # noqa: E402
from benchmarks.mutating.forks import each  # noqa: E402
from benchmarks.mutating.hosting import Host  # noqa: E402
from benchmarks.mutating.judging import KILLED, OUTCOMES, SURVIVED, Mutant, Outcome  # noqa: E402
from benchmarks.mutating.reviews import review  # noqa: E402
from benchmarks.mutating.scoring import Judged  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.mutating.forks import Send
    from benchmarks.mutating.naive import NaiveTest
    from benchmarks.mutating.places import Alteration
    from benchmarks.mutating.reach import Reach
    from benchmarks.mutating.trying import Cases

MUTANTS = 1500
"""Sampled of the optimizers' files; of the schedulers' there are `SCHEDULED` times as many."""

SCHEDULED = 0.2

NEVER = "never executed"
"""Why a mutant survives of which no case runs a line."""

PATIENCE_S, REVIEWED_S = 25.0, 6.0
"""Seconds of cases for a mutant, and for one that a review says cannot be killed: what survives them is a survivor,
although a later case, of the same routes with another optimizer, might have killed it."""

PROGRESS = 50
"""Mutants between two lines of progress."""


def main() -> None:
    """Collect, sample, trace, judge, report."""
    options = _options()
    clock = Clock(time.perf_counter())
    torch.set_num_threads(1)  # before anything is computed: a forked process has no other thread
    warnings.simplefilter("ignore")
    importlib.import_module("torch._dynamo")  # the first step of an optimizer would import it, in every process
    cases = trying.collect()
    sampled = [
        drawn
        for group, count in ((OPTIMIZERS, options.mutants), (SCHEDULERS, round(options.mutants * SCHEDULED)))
        for drawn in sample([file for file in options.files if file.group == group], count, options.seed)
    ]
    clock.say(f"{len(cases.all)} cases, {len(sampled)} mutants")
    _warm_up(cases)
    tests = naive.tests(cases)
    host = Host()  # now that all is imported that may hold something of the package
    found = reach.trace(host, cases, options.jobs)
    if found.failing:
        said = "\n".join(f"{cases.name(number)}: {why}" for number, why in sorted(found.failing.items()))
        raise SystemExit(f"cases that fail on the package as it is, executed anew:\n{said}")
    clock.say(f"every case passes on the package as it is; {sum(found.cost_s.values()):.0f} s")
    own = {file: _about(file, cases, found, tests) for file in options.files}
    mutants = [_mutant(file, alteration, cases, found, own[file]) for file, alteration in sampled]
    judged = Bench(host, cases, found, options.jobs, clock).judge(mutants)
    print("\n".join(scoring.report(judged, cases)))
    elapsed_s = clock.elapsed_s
    if options.json is not None:
        text = json.dumps(scoring.summary(judged, cases, options.seed, elapsed_s), indent=1, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    finish({**scoring.figures(judged), "seconds": round(elapsed_s)}, None)


def _options() -> argparse.Namespace:
    known = {file.name: file for file in FILES}
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes (default 2)")
    parser.add_argument("--mutants", type=int, default=MUTANTS, metavar="N", help=f"to sample (default {MUTANTS})")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the sample (default 0)")
    parser.add_argument("--files", default=",".join(known), metavar="NAME[,NAME]", help="alter only these files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to FILE")
    options = parser.parse_args()
    names = options.files.split(",")
    if unknown := set(names) - set(known):
        parser.error(f"no file {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    options.files = [known[name] for name in names]
    return options


def sample(files: Sequence[File], count: int, seed: int) -> list[tuple[File, Alteration]]:
    """`count` alterations of `files`, every one as likely as any other; a larger sample holds every smaller one."""
    every = [(file, alteration) for file in files for alteration in file.alterations()]
    order = list(range(len(every)))
    random.Random(seed).shuffle(order)  # noqa: S311 - a sample, no secret
    return [every[index] for index in sorted(order[:count])]


def _warm_up(cases: Cases) -> None:
    """What is loaded, computed or cached once in a process: before the processes are forked."""
    for number in cases.samples():
        said = cases.failing(number)
        if said is not None:
            raise SystemExit(f"{cases.name(number)} does not pass: {said.kind}, {said.note}")


def _about(file: File, cases: Cases, found: Reach, tests: dict[str, NaiveTest]) -> list[NaiveTest]:
    """The naive tests of the optimizers, or the schedules, that run anything of `file`."""
    specs = {cases.all[number].spec.text for number in found.of_file(file)}
    scheduled = file.group == SCHEDULERS
    return [test for text, test in tests.items() if text in specs and bool(test.spec.schedulers) is scheduled]


def _mutant(file: File, alteration: Alteration, cases: Cases, found: Reach, tests: Sequence[NaiveTest]) -> Mutant:
    before, after = alteration.texts()
    return Mutant(file, alteration, before, after, reach.ordered(cases, found, found.cases(file, alteration)), tests)


@dataclass(frozen=True, slots=True)
class Clock:
    """Says on standard error what was done, and when."""

    started_s: float

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started_s

    def say(self, what: str) -> None:
        """One line of progress."""
        print(f"  {self.elapsed_s:6.0f} s  {what}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Bench:
    """What mutants are judged with."""

    host: Host
    cases: Cases
    reach: Reach
    jobs: int
    clock: Clock

    def judge(self, mutants: Sequence[Mutant]) -> list[Judged]:
        """Every mutant judged, in the order they are given; those that take longest are begun first."""
        entries = [review(mutant) for mutant in mutants]
        judged = {
            index: Judged(mutant, Outcome(SURVIVED, NEVER), entries[index])
            for index, mutant in enumerate(mutants)
            if not mutant.cases
        }
        patience_s = [PATIENCE_S if entry is None else REVIEWED_S for entry in entries]
        tried = [self._briefly(mutant, seconds) for mutant, seconds in zip(mutants, patience_s, strict=True)]

        def work(index: int, send: Send) -> None:
            judging.judge(tried[index], self.host, self.cases, self.reach.cost_s, send)

        def ask(index: int, send: Send) -> None:
            judging.ask(tried[index], self.host, self.cases, send)

        left = [index for index in range(len(mutants)) if index not in judged]
        for ended in each(work, sorted(left, key=lambda index: -self._cost_s(tried[index])), self.jobs):
            found = judging.outcome(ended.messages, ended.code)
            judged[ended.key] = Judged(mutants[ended.key], found, entries[ended.key], ended.wall_s)
            if len(judged) % PROGRESS == 0:
                counts = Counter(one.kind for one in judged.values())
                told = ", ".join(f"{counts[kind]} {kind}" for kind in OUTCOMES)
                self.clock.say(f"{len(judged)} of {len(mutants)}: {told}")
        silent = [index for index, one in judged.items() if one.outcome.kind == KILLED and one.outcome.rules is None]
        for ended in each(ask, silent, self.jobs):
            one = judged[ended.key]
            judged[ended.key] = replace(one, outcome=judging.with_rules(one.outcome, ended.messages))
        return [judged[index] for index in range(len(mutants))]

    def _cost_s(self, mutant: Mutant) -> float:
        return sum(self.reach.cost_s[case] for case in mutant.cases)

    def _briefly(self, mutant: Mutant, seconds: float) -> Mutant:
        """`mutant` with no more cases than `seconds` allow, and with one at least if there is any."""
        spent = accumulate(self.reach.cost_s[case] for case in mutant.cases)
        kept = [case for case, sum_s in zip(mutant.cases, spent, strict=True) if sum_s <= seconds]
        return replace(mutant, cases=kept or mutant.cases[:1])


if __name__ == "__main__":
    main()
