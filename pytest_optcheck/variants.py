"""Variants of a spec, derived from its signature: settings that reach other branches, and arguments that do nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from inspect import Parameter
from typing import TYPE_CHECKING, Any

from pytest_optcheck.building import plain
from pytest_optcheck.envelopes import bare_curve
from pytest_optcheck.judge import deviations
from pytest_optcheck.routes.flags import IMPLEMENTATIONS
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_optcheck.conditions import Conditions
    from pytest_optcheck.curves import Run
    from pytest_optcheck.specs import TextSpec
    from pytest_optcheck.workloads.base import Workload

ROUTED = frozenset((*IMPLEMENTATIONS, "lr", "maximize"))
"""Settings that routes or the resolution vary already."""

ZEROES: Mapping[str, float] = {"momentum": 0.9, "dampening": 0.5}
"""Telling values of settings that are zero by default; 0.1 for all others, weight decay among them."""

COMPANIONS = 8
"""Other settings in whose company an argument that does nothing alone is tried."""

SHORT = 24
"""Updates after which most arguments have shown; what has not is tried in a whole training."""

ROUNDING = 1e-13
"""A deviation up to here is another order of the same operations, not another rule."""


@dataclass(frozen=True, slots=True)
class Variants:
    """What the signature of a spec yields.

    Attributes:
        specs: each departs from the spec, and trains.
        dead: arguments that changed nothing, alone or in company.
    """

    specs: tuple[TextSpec, ...]
    dead: tuple[str, ...]


def derive(spec: TextSpec, workload: Workload, conditions: Conditions) -> Variants:
    """Vary every argument of the constructor that can be varied, and keep what changes the curve.

    Args:
        spec: whose arguments are varied; what it sets itself is its base.
        workload: where, ``zoo`` for preference.
        conditions: of the plain route.
    """
    quiet = replace(conditions, watch=False)
    short = _Trial(workload, replace(quiet, steps=min(SHORT, conditions.updates(workload))))
    accepted = {**(spec.accepts() or {}), **dict(spec.keywords)}
    knobs = {
        name: values
        for name, value in accepted.items()
        if name not in ROUTED and value is not Parameter.empty and (values := list(telling(name, value)))
    }
    found: dict[str, TextSpec] = {}
    silent: list[str] = []
    for name, values in knobs.items():
        runs = [varied for value in values if short.run(varied := spec.with_settings(**{name: value})) is not None]
        loud = next((varied for varied in runs if short.differ(varied, spec)), None)
        if loud is not None:
            found[name] = loud
        else:
            silent.append(name)
    dead: list[str] = []
    trial = _Trial(workload, quiet)
    for name in silent:
        alone = (spec.with_settings(**{name: value}) for value in knobs[name])
        late = next((varied for varied in alone if trial.run(varied) is not None and trial.differ(varied, spec)), None)
        company = late or _in_company(name, knobs, found, short)
        if company is not None:
            found[name] = company
        elif any(trial.run(spec.with_settings(**{name: value})) is not None for value in knobs[name]):
            dead.append(name)
    return Variants(tuple(found[name] for name in knobs if name in found), tuple(dead))


def _in_company(
    name: str, knobs: Mapping[str, list[Any]], found: Mapping[str, TextSpec], trial: _Trial
) -> TextSpec | None:
    """A spec with `name` varied beside another setting without which it does nothing; None if there is none."""
    for companion in [other for other in found if other != name][:COMPANIONS]:
        for value in knobs[name]:
            varied = found[companion].with_settings(**{name: value})
            if trial.run(varied) is not None and trial.differ(varied, found[companion]):
                return varied
    return None


def telling(name: str, value: Any) -> Iterator[Any]:  # noqa: ANN401 - whatever a signature holds
    """Values of an argument that reach another branch, or move the curve where they are used at all.

    Nothing for an argument whose values cannot be guessed: text, None, a callable, an empty sequence.
    """
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        if value == 0:
            yield _telling_number(name, 0.0)  # many a float is declared as 0
        if value > 2:  # noqa: PLR2004 - a period of two falls inside every training
            yield 2
        yield value + 1
    elif isinstance(value, float):
        if math.isfinite(value):
            yield _telling_number(name, value)
    elif isinstance(value, (tuple, list)) and any(type(item) is float for item in value):
        yield type(value)(_telling_number(name, item) if type(item) is float else item for item in value)


def _telling_number(name: str, value: float) -> float:
    if value == 0.0:
        return ZEROES.get(name, 0.1)
    if abs(value) < 1e-4:  # noqa: PLR2004 - what keeps denominators from zero shows only where it is large
        return 1e-2
    if 0.0 < value < 1.0:
        return round(value * 0.9, 6)
    if value > 100.0:  # noqa: PLR2004 - a horizon: it must lie within the training
        return 10.0
    return 1.25 if value == 1.0 else round(1.0 + (value - 1.0) * 0.8, 6)


class _Trial:
    """Trainings of variants, each made once."""

    def __init__(self, workload: Workload, conditions: Conditions) -> None:
        self.workload, self.conditions = workload, conditions
        self.runs: dict[str, Run | None] = {}

    def run(self, spec: TextSpec) -> Run | None:
        """The training of `spec`, or None where it does not come to its end."""
        if spec.text not in self.runs:
            run = train(plain(spec), self.workload, self.conditions)
            self.runs[spec.text] = None if run.failure is not None else run
        return self.runs[spec.text]

    def differ(self, spec: TextSpec, other: TextSpec) -> bool:
        """Whether two specs that train go to different places."""
        one, two = self.run(spec), self.run(other)
        if one is None or two is None:
            return one is not two
        found = (deviation.relative for deviation in deviations(one, bare_curve(two)))
        return any(moved is None or moved > ROUNDING for moved in found)
