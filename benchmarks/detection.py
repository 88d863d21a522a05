"""How many planted mistakes are caught, how many harmless rewrites are flagged, and by naive tests beside.

Records every correct optimizer of ``fixtures/bugs`` on its reference models and routes, trains the altered ones
there, judges them with the default policy. The naive tests see a float32 training of the net ``mlp``, as a test
author would write them: "the last loss is below the first", and "every loss is within 1e-3 of that of the correct
code".

    python benchmarks/detection.py [--jobs 2] [--only S1,S2] [--json FILE]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import warnings
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fixtures"))

from bugs.registry import HARMLESS, PAIRS, Pair

from benchmarks.figures import Figures, add_json_option, finish
from pytest_optcheck import workloads
from pytest_optcheck.building import assemble
from pytest_optcheck.checking import guarded_routes
from pytest_optcheck.conditions import NOTHING, Conditions
from pytest_optcheck.curves import DTYPES, PLAIN, Failure, Run, same
from pytest_optcheck.judge import Policy, judge
from pytest_optcheck.recorder import Recording, record
from pytest_optcheck.specs import FactorySpec
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bugs.pairs import Recipe

    from pytest_optcheck.curves import Needs
    from pytest_optcheck.format import Golden
    from pytest_optcheck.workloads.base import Workload

NAIVE_MODEL = "mlp"
NAIVE_RTOL = 1e-3
OTHER_KERNELS = {"ATEN_CPU_CAPABILITY": "default"}
"""Makes torch take its kernels without vector instructions; read once, when it is imported."""

MARK = {True: "×", False: "·"}
COLUMNS = (("zoo", "float64"), ("zoo", "float32"), ("mlp", "float64"), ("mlp", "float32"))

Runs = dict[str, list[Run]]
"""Pair id, or text of a correct recipe, -> one run a dtype."""


@dataclass(frozen=True, slots=True)
class Job:
    """A recording that some pairs share.

    Attributes:
        ids: of the pairs, which have their correct recipe in common.
        workload: the reference model.
        needs: what the recording found the optimizer to need.
        optional: what it found a state dict may lack.
        held: the routes for which it holds a curve.
    """

    ids: tuple[str, ...]
    workload: str
    needs: Needs = NOTHING
    optional: tuple[str, ...] = ()
    held: tuple[str, ...] = ()

    @property
    def routes(self) -> tuple[str, ...]:
        """Every route that one of the pairs asks for."""
        return tuple(dict.fromkeys(name for pair in self.pairs for name in pair.routes if name != PLAIN))

    @property
    def pairs(self) -> list[Pair]:
        """The pairs themselves."""
        return [pair for pair in PAIRS if pair.id in self.ids]

    @property
    def correct(self) -> Recipe:
        """The optimizer that is recorded."""
        return self.pairs[0].correct


@dataclass(frozen=True, slots=True)
class Finding:
    """What the judge said of one training.

    Attributes:
        workload: on which reference model.
        dtype: in which dtype.
        route: on which route.
        step: the update at which it departed; None if it matches.
        largest: the largest relative deviation of the loss.
        why: what caught it besides the curve: a law, the learning rate, an exception; empty for the curve alone.
    """

    workload: str
    dtype: str
    route: str
    step: int | None
    largest: float
    why: str


@dataclass(frozen=True, slots=True)
class Naive:
    """Whether the naive tests fail on the altered optimizer of one pair."""

    decrease: bool
    rtol: bool


@dataclass(frozen=True, slots=True)
class Result:
    """All that is known of one pair."""

    pair: Pair
    findings: list[Finding]
    naive: Naive

    @property
    def first(self) -> int | None:
        """The earliest update at which any training departed; None if all match."""
        return min((found.step for found in self.findings if found.step is not None), default=None)

    def caught_in(self, *dtypes: str, route: str | None = None) -> bool:
        """Whether a training in one of `dtypes` departed, on `route` or on any."""
        departed = [found for found in self.findings if found.step is not None and found.dtype in dtypes]
        return any(route in (None, found.route) for found in departed)

    @property
    def caught_by(self) -> str:
        """The routes on which it departed, each with the law or the exception that told."""
        departed = [found for found in self.findings if found.step is not None]
        if any(found.route == PLAIN and not found.why for found in departed):
            return PLAIN
        told = {f"{found.route} ({found.why})" if found.why else found.route for found in departed}
        return ", ".join(sorted(told))


def main() -> None:
    """Record, judge, report."""
    options = _options()
    started = time.perf_counter()
    pairs = [pair for pair in PAIRS if not options.only or pair.id in options.only]
    jobs = _jobs(pairs)
    with _pool(options.jobs) as pool:
        recorded = list(pool.map(_record, jobs))
        naive = {key: said for found in pool.map(_naive, _jobs(pairs, NAIVE_MODEL)) for key, said in found.items()}
    os.environ.update(OTHER_KERNELS)  # for the processes of the next pool, which import torch anew
    again = [_known(job, golden) for job, (golden, _) in zip(jobs, recorded, strict=True)]
    with _pool(options.jobs) as pool:
        elsewhere = list(pool.map(_retrain_harmless, again))
    findings: dict[str, list[Finding]] = defaultdict(list)
    for job, (golden, runs), others in zip(jobs, recorded, elsewhere, strict=True):
        for key, found in [*runs.items(), *others.items()]:
            findings[key] += [_judged(job.workload, golden, run) for run in found]
    results = [Result(pair, findings[pair.id], naive[pair.id]) for pair in pairs]
    mutants = [result for result in results if result.pair.family != HARMLESS]
    harmless = [result for result in results if result.pair.family == HARMLESS]
    correct = {text: findings[text] for text in sorted({job.correct.text for job in jobs})}
    _report_mutants(mutants)
    _report_families(mutants)
    _report_harmless(harmless, correct)
    counts = {"recordings": len(jobs), "seconds": round(time.perf_counter() - started)}
    finish(
        _figures(mutants, harmless, [found for judged in correct.values() for found in judged]) | counts, options.json
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default 1)")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="ID[,ID]", help="only these pairs")
    add_json_option(parser)
    options = parser.parse_args()
    if unknown := set(options.only or ()) - {pair.id for pair in PAIRS}:
        parser.error(f"no pair {', '.join(sorted(unknown))}; there are {', '.join(p.id for p in PAIRS)}")
    return options


def _pool(processes: int) -> ProcessPoolExecutor:
    """Processes that import torch themselves, so that they read the environment as it is now."""
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _quiet)


def _quiet() -> None:
    warnings.filterwarnings("ignore", message="This overload of add_ is deprecated")  # OK11 is about it


def _jobs(pairs: Iterable[Pair], workload: str | None = None) -> list[Job]:
    """One for each recipe and reference model, or for each recipe on `workload`."""
    shared: dict[tuple[str, str], list[str]] = defaultdict(list)
    for pair in pairs:
        for name in [workload] if workload else pair.workloads:
            shared[pair.correct.text, name].append(pair.id)
    return [Job(tuple(ids), name) for (_, name), ids in shared.items()]


def _record(job: Job) -> tuple[Golden, Runs]:
    """Record the correct recipe; train every altered one under its needs."""
    started = time.perf_counter()
    golden = record(Recording(FactorySpec(job.correct.text, job.correct), _model(job.workload), routes=job.routes))
    known = _known(job, golden)
    runs = {pair.id: _trained(pair.altered, known, pair.routes) for pair in job.pairs}
    for name in set(job.routes) - set(known.held):
        print(f"  {job.correct.text} on {job.workload}: route {name} is not there", file=sys.stderr, flush=True)
    spent = time.perf_counter() - started
    print(f"  {spent:5.1f} s  {job.workload:4} {job.correct.text}", file=sys.stderr, flush=True)
    return golden, runs


def _known(job: Job, golden: Golden) -> Job:
    """`job` with what its recording found."""
    held = tuple(guarded_routes(golden, job.routes))
    return replace(job, needs=golden.needs, optional=golden.optional, held=held)


def _retrain_harmless(job: Job) -> Runs:
    """Train the correct recipe and the harmless rewrites of it, in a process with other kernels."""
    harmless = {pair.id: _trained(pair.altered, job, pair.routes) for pair in job.pairs if pair.family == HARMLESS}
    return {job.correct.text: _trained(job.correct, job, job.routes), **harmless}


def _naive(job: Job) -> dict[str, Naive]:
    """What naive tests say of the altered recipes, by pair id."""
    conditions = Conditions("float32")
    expected = train(job.correct, _model(NAIVE_MODEL), conditions)
    found: dict[str, Naive] = {}
    for pair in job.pairs:
        run = train(pair.altered, _model(NAIVE_MODEL), conditions)
        decreases = run.failure is None and run.losses[-1] < run.losses[0]
        found[pair.id] = Naive(decrease=not decreases, rtol=not _close(run.losses, expected.losses))
    return found


def _close(losses: Sequence[float], expected: Sequence[float]) -> bool:
    return len(losses) == len(expected) and all(
        abs(found - value) <= NAIVE_RTOL * abs(value) for found, value in zip(losses, expected, strict=True)
    )


def _trained(recipe: Recipe, job: Job, routes: Iterable[str]) -> list[Run]:
    """One run a dtype, and one a route in float64; laws are watched in float64."""
    spec = FactorySpec(recipe.text, recipe)
    runs = [_run(spec, job, Conditions(dtype, "cpu", job.needs, watch=dtype == DTYPES[0])) for dtype in DTYPES]
    if not same(runs[0], _run(spec, job, Conditions(DTYPES[0], "cpu", job.needs))):
        runs[0] = replace(runs[0], broken={**runs[0].broken, "repeats": "two runs differ"})
    conditions = Conditions(DTYPES[0], "cpu", job.needs, watch=True, optional=job.optional)
    return runs + [_run(spec, job, replace(conditions, route=name)) for name in routes if name in job.held]


def _run(spec: FactorySpec, job: Job, conditions: Conditions) -> Run:
    build = assemble(spec, conditions.route)
    if build is None:
        failure = Failure(0, "raised", "the setting is gone")
        return Run(conditions.dtype, "cpu", (), failure=failure, route=conditions.route)
    return train(build, _model(job.workload), conditions)


def _model(name: str) -> Workload:
    return workloads.load(workloads.BUILTIN[name])


def _judged(workload: str, golden: Golden, run: Run) -> Finding:
    verdict = judge(run, golden, Policy())
    step = verdict.first_step
    if step is None and verdict.kind != "match":
        step = run.failure.step if run.failure is not None else len(run.losses) - 1
    why = next((word for word in ("law", "learning rate", "raised") if word in verdict.note), "")
    if why == "law":
        why = verdict.note.partition(":")[0]
    return Finding(workload, run.dtype, run.route, step, verdict.largest or 0.0, why)


def _report_mutants(mutants: list[Result]) -> None:
    """One row a mutant, and what was missed."""
    heads = "  ".join(f"{workload:>3} {dtype.replace('float', 'f')}" for workload, dtype in COLUMNS)
    print(f"\n{'mutant':10}{heads}  no decrease  rtol   what is wrong (numbers: the update that departs)")
    for result in mutants:
        plain = [found for found in result.findings if found.route == PLAIN]
        steps = {(found.workload, found.dtype): "·" if found.step is None else found.step for found in plain}
        cells = "  ".join(f"{steps.get(column, ''):>7}" for column in COLUMNS)
        naive = f"{MARK[result.naive.decrease]:>11}  {MARK[result.naive.rtol]:>4}"
        by = "" if result.caught_by in ("", PLAIN) else f"[{result.caught_by}] "
        print(f"{result.pair.id:10}{cells}  {naive}   {by}{result.pair.wrong}")
    for result in mutants:
        if result.first is None:
            largest = max(found.largest for found in result.findings)
            print(f"not caught: {result.pair.id}: losses equal to {largest:.1e}. {result.pair.note}")


def _report_families(mutants: list[Result]) -> None:
    """One row a family of mistakes."""
    print(f"\n{'family':34}{'caught':>8}{'no decrease':>13}{'rtol 1e-3':>11}   first departure: update × mutants")
    for family in dict.fromkeys(result.pair.family for result in mutants):
        own = [result for result in mutants if result.pair.family == family]
        firsts = sorted(Counter(result.first for result in own if result.first is not None).items())
        caught = (
            sum(result.first is not None for result in own),
            sum(result.naive.decrease for result in own),
            sum(result.naive.rtol for result in own),
        )
        shares = (f"{count}/{len(own)}" for count in caught)
        print("{:34}{:>8}{:>13}{:>11}   {}".format(family, *shares, ", ".join(f"{k} × {n}" for k, n in firsts)))


def _report_harmless(harmless: list[Result], correct: Mapping[str, list[Finding]]) -> None:
    """One row a rewrite, and the correct optimizers under other kernels."""
    print(f"\n{'harmless':10}verdicts  flagged  rtol   largest float64 deviation, and what changes")
    for result in harmless:
        flagged = sum(found.step is not None for found in result.findings)
        largest = max(found.largest for found in result.findings if found.dtype == "float64")
        counts = f"{len(result.findings):>8}{flagged:>9}{MARK[result.naive.rtol]:>6}"
        print(f"{result.pair.id:10}{counts}   {largest:.1e}  {result.pair.wrong}")
    setting = " ".join("=".join(item) for item in OTHER_KERNELS.items())
    print(f"\n{len(correct)} correct optimizers under {setting}; flagged:")
    flagged_runs = [(text, found) for text, judged in correct.items() for found in judged if found.step is not None]
    for text, found in flagged_runs:
        print(f"  {text} on {found.workload} in {found.dtype} at update {found.step}")
    print("" if flagged_runs else "  none\n")


def _figures(mutants: list[Result], harmless: list[Result], correct: list[Finding]) -> Figures:
    return {
        "mutants": len(mutants),
        "caught": sum(result.caught_in(*DTYPES) for result in mutants),
        "harmless": len(harmless),
        "false_alarms": sum(result.caught_in(*DTYPES) for result in harmless),
        "naive_decrease_caught": sum(result.naive.decrease for result in mutants),
        "naive_decrease_false_alarms": sum(result.naive.decrease for result in harmless),
        "naive_rtol_caught": sum(result.naive.rtol for result in mutants),
        "naive_rtol_false_alarms": sum(result.naive.rtol for result in harmless),
        "caught_plain": sum(result.caught_in(*DTYPES, route=PLAIN) for result in mutants),
        "caught_float64": sum(result.caught_in("float64") for result in mutants),
        "caught_float32": sum(result.caught_in("float32") for result in mutants),
        "kernel_trainings": len(correct),
        "kernel_false_alarms": sum(found.step is not None for found in correct),
    }


if __name__ == "__main__":
    main()
