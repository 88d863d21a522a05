"""One optimizer against its old code, as results: curve, counts and step time, without a golden.

Knows neither pytest nor the terminal; the processes that do the work start with the first case and end with `close`.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_optcheck import judge
from pytest_optcheck.cases import BASE, Case, Result
from pytest_optcheck.cost import revisions
from pytest_optcheck.cost.base import Asked, compare_with_base
from pytest_optcheck.cost.peer import Peer
from pytest_optcheck.cost.ratios import BASE_MARGIN
from pytest_optcheck.cost.replies import SideError
from pytest_optcheck.costing import answer, counts_verdict, timing_verdict
from pytest_optcheck.errors import OptcheckError

if TYPE_CHECKING:
    from pytest_optcheck.cost.base import BaseAnswer
    from pytest_optcheck.settings import Settings

_peers: dict[str, Peer] = {}
"""The second process of this one, by the base that was asked for."""


def check(case: Case, settings: Settings) -> list[Result]:
    """Compare the optimizer of `case` with its old code: a result for its curve, its counts and its step time.

    Each as far as the scope of `case` has dtypes, is counted and timed. The device's lock must not be held: steps are
    timed while nothing else runs.

    Raises:
        OptcheckError: the base is not to be had, the spec cannot be used, or a side broke down.
    """
    if settings.base not in _peers:
        _peers[settings.base] = Peer(revisions.find(settings.base, settings.root, Path.cwd()))
    workload, scope = settings.known[case.workload], case.scope
    asked = Asked(case.spec, workload, settings.device, scope.counted, scope.timed, bool(scope.dtypes))
    try:
        found = compare_with_base(asked, _peers[settings.base])
    except SideError as error:
        raise OptcheckError(f"--optcheck-base {settings.base}: {error}") from error
    return _results(case, settings, found)


def close() -> None:
    """End the second process, if there is one, and wait until it has cleared up."""
    while _peers:
        _peers.popitem()[1].close()


def _results(case: Case, settings: Settings, found: BaseAnswer) -> list[Result]:
    def result(verdict: judge.Verdict, **figures: Any) -> Result:  # noqa: ANN401 - fields of a result
        return answer(case, settings, BASE, verdict, **{"findings": found.notes, **figures})

    if found.incomparable:
        return [result(judge.Verdict("incomparable", found.incomparable))]
    results = []
    if case.scope.dtypes:
        doubts = (found.doubt,) if found.doubt else ()
        results.append(result(found.verdict, findings=(*doubts, *found.notes)))
    if found.counts is not None:
        results.append(result(counts_verdict(found.counts), cost=msgspec.to_builtins(found.new)))
    if found.time is not None:
        verdict = timing_verdict(found.time, f"the time of {found.label}", math.expm1(BASE_MARGIN))
        results.append(result(verdict, timing=asdict(found.time)))
    elif found.untimed:
        results.append(result(judge.Verdict("incomparable", f"step times: {found.untimed}")))
    return results
