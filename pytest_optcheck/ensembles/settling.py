"""What the ensembles of an optimizer say of a case that has left its envelope: worse, better, or neither.

Knows neither pytest nor the terminal; imports torch when the first seed is trained again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from pytest_optcheck import convergence, workloads
from pytest_optcheck.curves import PLAIN
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.goldens import Goldens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_optcheck.cases import Case, Result
    from pytest_optcheck.convergence import Answer
    from pytest_optcheck.ensembles.figures import Ensemble
    from pytest_optcheck.format import Golden
    from pytest_optcheck.settings import Settings
    from pytest_optcheck.specs import OptimizerSpec
    from pytest_optcheck.workloads.base import Workload


FULL = "--optcheck-profile full"
"""Without it a case inside its envelope is not asked for its ensemble, and passes."""


@dataclass(frozen=True, slots=True)
class _Known:
    """An answer, and what it was found for."""

    settings: Settings
    spec: OptimizerSpec
    ensemble: Ensemble
    answer: Answer


_known: dict[tuple[str, str], _Known] = {}
"""By spec and reference model: an optimizer that changed fails in many cases, and is trained again for the first."""


def settled(result: Result, case: Case, settings: Settings, golden: Golden) -> Result:
    """`result` with the verdict that the ensembles make of it; as it is where there is nothing to ask them.

    They are asked where the plain curve has changed, and in the profile ``full`` where it has not, too: there a
    significant regression inside the envelope fails.

    Args:
        result: of judging the curve.
        case: what was asked.
        settings: of the session.
        golden: by which it was judged.
    """
    kind = result.verdict.kind
    within = kind == "match" and settings.profile == "full" and result.dtype == list(golden.curves)[-1]
    idle = case.route != PLAIN or not settings.ensembles
    if idle or not (within or kind == "changed"):
        return result
    asked = _asked(case, settings, golden, only_own=within or bool(settings.update))
    answers = {one.workload.name: _answer(case, settings, one, ensemble) for one, ensemble in asked}
    if not answers:
        return result
    worst = convergence.worst(answer.kind for answer in answers.values())
    if not within or worst == "regression":
        select = f"{result.select} {FULL}" if within else result.select
        result = replace(result, verdict=replace(result.verdict, kind=worst), select=select)
    return replace(result, convergence={name: asdict(answer) for name, answer in answers.items()})


def held(golden: Golden, workload: Workload) -> Ensemble | None:
    """The ensemble of `golden`, if its seeds can still be trained again on `workload`."""
    ensemble = golden.ensemble
    if ensemble is None or golden.workload.digest != workload.digest:
        return None
    return ensemble if ensemble.applies(workload.folds, golden.needs.steps or workload.steps) else None


def _asked(case: Case, settings: Settings, golden: Golden, *, only_own: bool) -> Iterator[tuple[Golden, Ensemble]]:
    """The golden itself where it has an ensemble; else those of the same optimizer that have one."""
    own = held(golden, _workload(case.workload, settings))
    if own is not None:
        yield golden, own
    elif not only_own:
        for name in settings.ensembles:
            other = _golden(case.spec.text, name, settings)
            ensemble = None if other is None else held(other, _workload(name, settings))
            if other is not None and ensemble is not None:
                yield other, ensemble


def _workload(name: str, settings: Settings) -> Workload:
    return workloads.load(settings.known[name])


def _golden(spec: str, workload: str, settings: Settings) -> Golden | None:
    """A stored golden; None also where it is no good, which its own case will say."""
    try:
        return Goldens(settings.curves).load(spec, workload)
    except OptcheckError:
        return None


def _answer(case: Case, settings: Settings, golden: Golden, ensemble: Ensemble) -> Answer:
    """What the seeds say, trained once for this code: a session has settings, and a spec a factory, of its own."""
    key = case.spec.text, golden.workload.name
    known = _known.get(key)
    if known is None or known.settings is not settings or (known.spec, known.ensemble) != (case.spec, ensemble):
        from pytest_optcheck.building import plain
        from pytest_optcheck.ensembles.members import Seeds

        seeds = Seeds(plain(case.spec), _workload(golden.workload.name, settings), golden.needs, settings.device)
        answer = convergence.settle(ensemble.members, lambda some: seeds.again(some, ensemble), settings.margin)
        known = _known[key] = _Known(settings, case.spec, ensemble, answer)
    return known.answer
