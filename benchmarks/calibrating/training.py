"""Trains ensembles: of the optimizers that have goldens, of changed ones, under other conditions of the machine."""

from __future__ import annotations

import math
import multiprocessing
import os
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pytest_optcheck import workloads
from pytest_optcheck.building import plain
from pytest_optcheck.conditions import NOTHING
from pytest_optcheck.convergence import SEEDS, log_ratios
from pytest_optcheck.ensembles.members import Seeds
from pytest_optcheck.format import decode
from pytest_optcheck.specs import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_optcheck.building import Assembly
    from pytest_optcheck.curves import Needs
    from pytest_optcheck.ensembles.figures import Member

CURVES = Path(__file__).resolve().parents[2] / "reference_curves"

MODELS = ("digits_cnn", "mlp")
"""Those that keep ensembles by default, the slower first."""

PLAIN = "plain"
CONDITIONS: Mapping[str, Mapping[str, str]] = {
    PLAIN: {},
    "rounded start 1": {},
    "rounded start 2": {},
    "no vector kernels, two threads": {"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "2"},
    "oneDNN at SSE4.1, MKL compatible": {"ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
}
"""Name -> variables of the environment. Trainings compute on one thread whatever the variables say."""

TARGET = math.log(1.02)
"""Log of how much more final loss a learning rate is tuned to."""

TUNING_SEEDS = range(100, 116)
"""Seeds on which it is tuned; none of them is judged."""

TUNING_ROUNDS = 5
FIRST_FACTORS = (0.95, 1.05)
"""Where tuning begins: the one of the two that is worse, if one is."""


@dataclass(frozen=True, slots=True)
class Subject:
    """An optimizer on a reference model.

    Attributes:
        spec: the optimizer, as text.
        workload: name of the reference model.
        needs: of the optimizer.
    """

    spec: str
    workload: str
    needs: Needs = NOTHING

    def __str__(self) -> str:
        """For a reader."""
        return f"{self.spec} on {self.workload}"


@dataclass(frozen=True, slots=True)
class Job:
    """A subject to be trained on all seeds.

    Attributes:
        subject: as it is now.
        condition: one of `CONDITIONS`.
        targets: seed by seed, of the runs it is compared with; empty for those themselves.
    """

    subject: Subject
    condition: str = PLAIN
    targets: tuple[float, ...] = ()


def recorded() -> list[Subject]:
    """Every optimizer that has a golden on one of the models, as it stands there."""
    found = []
    for model in MODELS:
        workload = workloads.load(workloads.BUILTIN[model])
        for path in sorted(CURVES.glob(f"*/{model}.json")):
            golden = decode(path.read_text(encoding="utf-8"), path)
            if golden is not None and golden.workload.digest == workload.digest:
                found.append(Subject(golden.spec, model, golden.needs))
    return found


def pool(processes: int, condition: str) -> ProcessPoolExecutor:
    """Processes that import torch themselves, under the variables of a condition."""
    known = {name for variables in CONDITIONS.values() for name in variables}
    for name in known:
        os.environ.pop(name, None)
    os.environ.update(CONDITIONS[condition])
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))


def train(job: Job) -> list[Member]:
    """All seeds of a job."""
    seeds = _seeds(job.subject)
    if job.condition.startswith("rounded start"):
        number = int(job.condition.rpartition(" ")[2])
        seeds = replace(seeds, build=rounded_start(_assembly(job.subject), number))
    return _trained(seeds, range(SEEDS), job.targets)


def tune(job: Job) -> tuple[float, list[Member]]:
    """The learning rate, as a factor, at which the final loss is 2 % more on other seeds, and all seeds with it.

    The factor is 1 where neither a higher nor a lower rate makes the final loss worse.
    """
    subject = job.subject
    old = _trained(_seeds(subject), TUNING_SEEDS)

    def worse(factor: float) -> float:
        new = _trained(_seeds(_with_rate(subject, factor)), TUNING_SEEDS, [member.target for member in old])
        ratios = log_ratios("final_loss", list(zip(old, new, strict=True)))
        return statistics.fmean(ratios) if ratios else math.inf

    found = {factor: worse(factor) for factor in FIRST_FACTORS}
    factor = max(found, key=lambda tried: found[tried])
    if not 0.0 < found[factor] < math.inf:
        return 1.0, []
    effect = found[factor]
    for _ in range(TUNING_ROUNDS):
        step = min(4.0, max(0.25, TARGET / effect)) if effect > 0.0 else 2.0
        factor = 1.0 + (factor - 1.0) * step
        effect = worse(factor)
        if abs(effect / TARGET - 1.0) < 0.05:  # noqa: PLR2004 - near enough
            break
    return factor, _trained(_seeds(_with_rate(subject, factor)), range(SEEDS), job.targets)


def rounded_start(build: Assembly, number: int) -> Assembly:
    """The same optimizer on parameters of which each was rounded up, down or not at all."""

    def factory(params: Iterable[Any]) -> Any:  # noqa: ANN401 - optimizers are what behaves like one
        given = list(params)
        tensors = [tensor for one in given for tensor in (one["params"] if isinstance(one, dict) else [one])]
        stream = torch.Generator().manual_seed(number)
        for tensor in tensors:
            ulps = torch.randint(-1, 2, tensor.shape, generator=stream)
            tensor.data.mul_(1.0 + ulps * torch.finfo(tensor.dtype).eps)
        return build.factory(given)

    return replace(build, factory=factory)


def _seeds(subject: Subject) -> Seeds:
    workload = workloads.load(workloads.BUILTIN[subject.workload])
    return Seeds(_assembly(subject), workload, subject.needs)


def _assembly(subject: Subject) -> Assembly:
    return plain(parse(subject.spec))


def _with_rate(subject: Subject, factor: float) -> Subject:
    spec = parse(subject.spec)
    rate = dict(spec.keywords)["lr"] * factor
    return replace(subject, spec=spec.with_settings(lr=rate).text)


def _trained(seeds: Seeds, which: Sequence[int], targets: Sequence[float] = ()) -> list[Member]:
    """Seeds with the targets of others, or with their own."""
    known = dict(zip(which, targets, strict=True)) if targets else {}
    return [seeds.member(seed, known.get(seed)) for seed in which]
