"""Why a case left its envelope, as far as textbook rules can tell. Imports torch when it is asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_optcheck import judge, routes, workloads
from pytest_optcheck.curves import DTYPES, PLAIN
from pytest_optcheck.errors import FOREIGN
from pytest_optcheck.goldens import Goldens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_optcheck.cases import Case, Result
    from pytest_optcheck.curves import Run
    from pytest_optcheck.diagnosis.observing import Observation
    from pytest_optcheck.diagnosis.replaying import Rules
    from pytest_optcheck.format import Golden
    from pytest_optcheck.oracles.base import Rule
    from pytest_optcheck.settings import Settings
    from pytest_optcheck.specs import OptimizerSpec
    from pytest_optcheck.workloads.base import Workload

ASKED: frozenset[judge.Kind] = frozenset(("changed", "improved", "regression", "diverged"))
"""Verdicts that have a cause to look for."""

BEST = "zoo"
"""The reference model on which most is seen: its gradients do not depend on the parameters, see `observing`."""

UNREPLAYED = frozenset((*routes.OWN_CURVE, *routes.SLOW, "complex"))
"""Routes on which no rule of float64 numbers can follow, and those on which another training takes too long."""

SEARCHES = 10
"""How many times a process goes through the bank: it takes a second or two, and what comes after so many failures
mostly has the same cause."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an optimizer can be observed."""

    spec: OptimizerSpec
    workload: str
    route: str


_sessions: list[tuple[Settings, dict[_Place, str | None]]] = []
"""The session of this process, and what it has found at each place; None where nothing departs there."""


def _known(settings: Settings) -> dict[_Place, str | None]:
    """What this session has found; the code under test may be another in the next."""
    if not _sessions or _sessions[0][0] is not settings:
        _sessions[:] = [(settings, {})]
    return _sessions[0][1]


def explained(result: Result, case: Case, settings: Settings, golden: Golden, run: Run) -> Result:
    """`result` with the cause of its verdict, where that asks for one; arguments as of `cause`."""
    if result.verdict.kind not in ASKED:
        return result
    return replace(result, verdict=replace(result.verdict, cause=cause(case, settings, golden, run)))


def cause(case: Case, settings: Settings, golden: Golden, run: Run) -> str:
    """What may have happened to the optimizer of `case`, in one line; empty where there is nothing to say.

    An optimizer is looked at once a session on the plain route, and on others only where that is as it was. Whatever
    goes wrong here is no answer, and no failure either.

    Args:
        case: it left its envelope.
        settings: of the session; nothing is looked for while goldens are recorded.
        golden: what it was judged by.
        run: how it went.
    """
    if settings.update or golden.stochastic:
        return ""
    try:
        return _by_rule(case, settings, golden) or _by_norms(case, settings, golden, run)
    except FOREIGN:
        return ""


def _by_rule(case: Case, settings: Settings, golden: Golden) -> str:
    """By the rule of its family; empty where there is none, or none that the golden agrees with."""
    from pytest_optcheck.diagnosis import wording
    from pytest_optcheck.oracles.families import rule_for

    rule = rule_for(case.spec, settings.same_as)
    if rule is None or DTYPES[0] not in golden.curves:
        return ""
    found = _known(settings)
    for name, route, held in _places(case, settings, golden):
        place = _Place(case.spec, name, route)
        if place not in found:
            if sum(text is not None for text in found.values()) >= SEARCHES:
                return ""
            found[place] = _search(place, settings, held, rule)
        text = found[place]
        if text is not None:
            other = [f"on {name}"] * (name != case.workload) + [f"route {route}"] * (route != case.route)
            return f"{text} [seen {', '.join(other)}]" if text and other else text
    return wording.narrow() if case.dtype == DTYPES[1] else ""


def _places(case: Case, settings: Settings, golden: Golden) -> Iterator[tuple[str, str, Golden]]:
    """(reference model, route, golden) in the order in which they are looked at."""
    held = {case.workload: golden}
    if case.workload != BEST and BEST in settings.known:
        best = Goldens(settings.curves).load(case.spec.text, BEST)
        digest = workloads.load(settings.known[BEST]).digest
        if best is not None and judge.precheck(best, exists=True, digest=digest, dtype=DTYPES[0]) is None:
            held = {BEST: best, **held}
    for route in dict.fromkeys((PLAIN, case.route)):
        for name in list(held) if route == case.route else list(held)[:1]:
            known = held[name].routes.get(route, "same")
            if route == PLAIN or (known == "same" and route in held[name].routes and route not in UNREPLAYED):
                yield name, route, held[name]


def _search(place: _Place, settings: Settings, golden: Golden, rule: Rule) -> str | None:
    """What happened at `place`, in words; None where nothing departs there."""
    from pytest_optcheck.building import assemble
    from pytest_optcheck.conditions import Conditions
    from pytest_optcheck.diagnosis import wording
    from pytest_optcheck.diagnosis.observing import observe
    from pytest_optcheck.diagnosis.ranking import explain, follows

    workload: Workload = workloads.load(settings.known[place.workload])
    build = assemble(place.spec, place.route)
    if build is None:
        return None
    conditions = Conditions(DTYPES[0], settings.device, golden.needs, route=place.route, optional=golden.optional)
    observed, run = observe(build, workload, conditions)
    if judge.judge(run, golden, judge.Policy()).kind not in ASKED or not observed.updates:
        return None
    turned = replace(rule, maximize=not rule.maximize) if place.route == "maximize" else rule
    rules = _rules(place.spec, turned, golden, observed)
    if follows(observed, rules):
        same = _agrees(place.spec, workload, golden, rule, settings.device)
        return wording.elsewhere(rule) if same else wording.renewed(rule)
    if _agreed(golden, rule) or _agrees(place.spec, workload, golden, rule, settings.device):
        return wording.told(explain(observed, rules), rule)
    return ""


def _rules(spec: OptimizerSpec, rule: Rule, golden: Golden, observed: Observation) -> Rules:
    """`rule` in every group and update, with the settings that the optimizer keeps in its groups."""
    from pytest_optcheck.building import sample
    from pytest_optcheck.diagnosis.replaying import rules_of
    from pytest_optcheck.oracles.adapter import settings_of

    settings = settings_of(rule)
    group = (getattr(sample(spec), "param_groups", None) or [settings])[0]
    grouped = [
        name
        for name, value in settings.items()
        if name in group and isinstance(value, tuple) is isinstance(group[name], tuple)
    ]
    groups = 1 + max(track.group for track in observed.tracks)
    return rules_of(rule, grouped, golden.rates, groups, observed.updates)


def _agreed(golden: Golden, rule: Rule) -> bool:
    """Whether `golden` says that it was recorded from something that follows the rule."""
    from pytest_optcheck.diagnosis.ranking import FIT

    known = golden.textbook
    return (
        known is not None
        and known.rule == type(rule).__name__
        and known.deviation is not None
        and known.deviation <= FIT
    )


def _agrees(spec: OptimizerSpec, workload: Workload, golden: Golden, rule: Rule, device: str) -> bool:
    """Whether it was, by a training with the rule: it must explain the golden as well as a mistake a change."""
    from pytest_optcheck.diagnosis.ranking import FIT
    from pytest_optcheck.oracles.comparing import follow

    run = follow(spec, workload, rule, golden.needs, device)
    found = judge.deviations(run, golden.curves[DTYPES[0]])
    return all(point.relative is not None and point.relative <= FIT for point in found)


def _by_norms(case: Case, settings: Settings, golden: Golden, run: Run) -> str:
    """By the norms that the golden keeps."""
    import torch

    from pytest_optcheck.diagnosis import wording

    curve = golden.reference(run.dtype, run.route)
    if curve is None:
        return ""
    workload: Workload = workloads.load(settings.known[case.workload])
    parameters = workload.problem(getattr(torch, run.dtype)).parameters
    return wording.norms(run, curve, {name: float(p.detach().norm()) for name, p in parameters.items()})
