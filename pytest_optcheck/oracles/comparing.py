"""A golden's reference curve compared with its family's textbook rule, run through the same training."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from pytest_optcheck import judge
from pytest_optcheck.building import Assembly, sample
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.curves import DTYPES, Needs
from pytest_optcheck.envelopes import rounded_up
from pytest_optcheck.format import Textbook
from pytest_optcheck.oracles.adapter import NumpyOptimizer, settings_of
from pytest_optcheck.oracles.families import rule_for
from pytest_optcheck.oracles.names import ON
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_optcheck.curves import Run
    from pytest_optcheck.format import Golden
    from pytest_optcheck.oracles.base import Rule
    from pytest_optcheck.specs import OptimizerSpec
    from pytest_optcheck.workloads.base import Workload


def compared(
    spec: OptimizerSpec, workload: Workload, golden: Golden, device: str, same_as: Mapping[str, str]
) -> Textbook | None:
    """How far the float64 curve of `golden` lies from that of the rule of its family.

    None where there is no such rule, no such curve or none that repeats itself, where a factory brings schedulers of
    its own, and on other reference models than `names.ON`.

    Raises:
        OptcheckError: the spec cannot be built.
    """
    curve = golden.curves.get(DTYPES[0])
    if workload.name not in ON or curve is None or curve.diverges is not None or golden.stochastic:
        return None
    if golden.rates and not getattr(spec, "schedulers", ()):
        return None
    rule = rule_for(spec, same_as)
    if rule is None:
        return None
    verdict, deviation = _judged(spec, workload, rule, golden, device)
    departs = None if verdict.kind == "match" else verdict.first_step or 0
    options = tuple(rule.departures())
    strict = _judged(spec, workload, rule.textbook(), golden, device)[1] if options else None
    return Textbook(type(rule).__name__, deviation, departs, verdict.tensor or "", options, strict)


def _judged(
    spec: OptimizerSpec, workload: Workload, rule: Rule, golden: Golden, device: str
) -> tuple[judge.Verdict, float | None]:
    """Verdict on the rule's run, as if the golden were its own, and its largest deviation in loss or norms."""
    run = follow(spec, workload, rule, golden.needs, device)
    found = judge.deviations(run, golden.curves[DTYPES[0]])
    largest = max(math.inf if deviation.relative is None else deviation.relative for deviation in found)
    return judge.judge(run, golden, judge.Policy()), rounded_up(largest) if math.isfinite(largest) else None


def follow(spec: OptimizerSpec, workload: Workload, rule: Rule, needs: Needs, device: str = "cpu") -> Run:
    """The training of `spec`, in float64 on the plain route, with `rule` in the place of the optimizer.

    Its parameter groups are those of the optimizer, and settings that the optimizer has not in its own groups are in
    none of the rule's either: what a later group is given of its own, see `building.alter`, is given to both.
    """
    settings = settings_of(rule)
    group = (getattr(sample(spec), "param_groups", None) or [settings])[0]
    grouped = [name for name, value in settings.items() if name in group and _alike(value, group[name])]
    build = Assembly(partial(NumpyOptimizer, rule=rule, grouped=grouped), spec.schedules(), {})
    own = Needs(one_group=needs.one_group or needs.first != "params", frozen=needs.frozen, steps=needs.steps)
    return train(build, workload, Conditions(DTYPES[0], device, own))


def _alike(one: object, two: object) -> bool:
    """Whether both are pairs, or neither is; a group that keeps its betas in a list keeps them."""
    return isinstance(one, tuple) is isinstance(two, tuple)
