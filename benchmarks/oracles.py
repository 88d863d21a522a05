"""torch.optim against the textbook: how far each class lies from the rule of its family over 100 updates of ``zoo``.

Float64, the plain route, two parameter groups, a longer gradient stream than the reference model's 60 updates. The
deviation is the largest relative one of any loss and of any tensor's norm that a curve keeps. Where torch is known to
depart from the paper, the rule is given that departure; how far the class lies from the rule without it stands beside.

    python benchmarks/oracles.py [--only RMSprop] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.figures import Figures, add_json_option, finish
from pytest_optcheck import needs
from pytest_optcheck.building import plain
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.envelopes import bare_curve
from pytest_optcheck.judge import deviations
from pytest_optcheck.oracles.comparing import follow
from pytest_optcheck.oracles.families import TORCH, rule_for
from pytest_optcheck.oracles.muon import Muon
from pytest_optcheck.specs import TextSpec, parse
from pytest_optcheck.training import train
from pytest_optcheck.workloads.zoo import Zoo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_optcheck.curves import Needs
    from pytest_optcheck.oracles.base import Rule

GOAL = 1e-12
"""What every class with a rule should agree to; its own departures may be options of the rule."""

SPECS = (
    "SGD(lr=0.01)",
    "SGD(lr=0.01, maximize=True, weight_decay=0.1)",
    "SGD(lr=0.01, momentum=0.9, weight_decay=0.1)",
    "SGD(dampening=0.5, lr=0.01, momentum=0.9)",
    "SGD(lr=0.01, momentum=0.9, nesterov=True)",
    "SGD(lr=0.01, momentum=0.9) >> StepLR(gamma=0.5, step_size=25)",
    "Adagrad(lr=0.01)",
    "Adagrad(eps=0.01, initial_accumulator_value=0.1, lr=0.01, lr_decay=0.1, weight_decay=0.1)",
    "RMSprop(lr=0.001)",
    "RMSprop(alpha=0.9, eps=0.01, lr=0.001, momentum=0.9, weight_decay=0.1)",
    "RMSprop(centered=True, lr=0.001)",
    "Adadelta(lr=1.0)",
    "Adadelta(eps=0.01, lr=0.5, rho=0.8, weight_decay=0.1)",
    "Adam(lr=0.001)",
    "Adam(betas=(0.8, 0.99), eps=0.01, lr=0.001, weight_decay=0.1)",
    "Adam(amsgrad=True, lr=0.001, weight_decay=0.1)",
    "AdamW(lr=0.001, weight_decay=0.1)",
    "AdamW(amsgrad=True, lr=0.001, weight_decay=0.1)",
    "AdamW(lr=0.003, weight_decay=0.1) >> CosineAnnealingLR(T_max=80)",
    "Adamax(lr=0.002)",
    "Adamax(eps=0.01, lr=0.002, weight_decay=0.1)",
    "NAdam(lr=0.002)",
    "NAdam(decoupled_weight_decay=True, lr=0.002, momentum_decay=0.1, weight_decay=0.1)",
    "RAdam(lr=0.01)",
    "RAdam(betas=(0.8, 0.9), decoupled_weight_decay=True, lr=0.01, weight_decay=0.1)",
    "Rprop(lr=0.001)",
    "Rprop(etas=(0.4, 1.3), lr=0.01, step_sizes=(0.001, 0.1))",
    "ASGD(lr=0.01)",
    "ASGD(alpha=0.6, lambd=0.01, lr=0.01, t0=10.0, weight_decay=0.1)",
    "ASGD(lr=0.01) >> StepLR(gamma=0.5, step_size=25)",
    "Adafactor(lr=0.01)",
    "Adafactor(beta2_decay=-0.6, d=2.0, eps=(0.01, 0.01), lr=0.3, weight_decay=0.1)",
    "SparseAdam(lr=0.01)",
    "Muon(lr=0.01)",
    "Muon(adjust_lr_fn='match_rms_adamw', lr=0.01, nesterov=False, ns_steps=3)",
)
"""Every class of torch.optim with a rule, and every setting that its rule has, under ``torch.optim``."""


class LongZoo(Zoo):
    """``zoo`` with 100 updates."""

    steps = 100


class Row(NamedTuple):
    """One spec's.

    Attributes:
        spec: without its module.
        rule: of its family.
        deviation: from the rule with what torch is known to do otherwise.
        strict: from the rule as the paper has it; None where there is nothing that torch does otherwise.
        departures: what that is, in words.
    """

    spec: str
    rule: str
    deviation: float
    strict: float | None
    departures: tuple[str, ...]

    @property
    def cells(self) -> tuple[str, ...]:
        """Of the table."""
        strict = "" if self.strict is None else f"{self.strict:.1e}"
        return (self.spec, self.rule, f"{self.deviation:.1e}", strict, "; ".join(self.departures))


def rows(names: list[str]) -> Iterator[Row]:
    """One a spec, and for Muon one more: its own code without bfloat16."""
    workload = LongZoo()
    for text in names:
        spec = parse(f"torch.optim:{text}")
        rule = rule_for(spec)
        assert rule is not None  # noqa: S101 - the list is ours
        needed, _ = needs.discover(spec, workload, "cpu")
        yield row(spec, rule, needed, workload)
        if isinstance(rule, Muon):
            with in_float64():
                yield row(spec, replace(rule, bfloat16=False), needed, workload, ", bfloat16 replaced by float64")


def row(spec: TextSpec, rule: Rule, needed: Needs, workload: Zoo, note: str = "") -> Row:
    """Both distances of one spec."""
    run = train(plain(spec), workload, Conditions(needs=needed))
    assert run.failure is None, run.failure  # noqa: S101 - ditto
    curve = bare_curve(run)

    def away(followed: Rule) -> float:
        found = deviations(follow(spec, workload, followed, needed), curve)
        return max(math.inf if deviation.relative is None else deviation.relative for deviation in found)

    departures = rule.departures()
    return Row(
        spec.text.removeprefix("torch.optim:") + note,
        type(rule).__name__,
        away(rule),
        away(rule.textbook()) if departures else None,
        tuple(departures.values()),
    )


@contextlib.contextmanager
def in_float64() -> Iterator[None]:
    """Let what casts to bfloat16 keep its dtype."""
    torch.Tensor.bfloat16 = torch.Tensor.clone  # type: ignore[method-assign]
    try:
        yield
    finally:
        del torch.Tensor.bfloat16  # the one of its base class is back


def main() -> None:
    """Print the table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="specs that contain this text")
    add_json_option(parser)
    options = parser.parse_args()
    started_s = time.perf_counter()
    found = list(rows([text for text in SPECS if options.only in text]))
    table = [("torch.optim", "rule", "deviation", "textbook", "what torch does otherwise"), *(r.cells for r in found)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
    exact = [r for r in found if "bfloat16" not in " ".join(r.departures)]
    figures: Figures = {
        "specs": len(found),
        "classes": len({r.spec.partition("(")[0] for r in found} & set(TORCH)),
        "within_goal": sum(r.deviation <= GOAL for r in found),
        "largest": max((r.deviation for r in exact), default=0.0),
        "largest_bfloat16": max((r.deviation for r in found if r not in exact), default=0.0),
        "departing_from_the_paper": sum(r.strict is not None and r.strict > GOAL for r in found),
        "seconds": round(time.perf_counter() - started_s, 1),
    }
    finish(figures, options.json)


if __name__ == "__main__":
    main()
