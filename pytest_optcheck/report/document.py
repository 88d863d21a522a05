"""Every figure of a run as one JSON document; ``docs/report.md`` says what its keys mean."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_optcheck.report import effects

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_optcheck.cases import Result

SCHEMA = 1
"""Version of the document; a reader that knows another must not go on."""


class Ending(NamedTuple):
    """How a session ended.

    Attributes:
        elapsed_s: wall-clock seconds of all of it.
        exit_status: pytest's; 2 where it was interrupted.
        problems: what went wrong besides the results: the test, empty where it was none's, and the text.
    """

    elapsed_s: float
    exit_status: int = 0
    problems: Sequence[tuple[str, str]] = ()


def document(results: Sequence[Result], machine: Mapping[str, str], ending: Ending) -> str:
    """The JSON text; a number that is not finite becomes the text ``inf``, ``-inf`` or ``nan``.

    Args:
        results: every case that was answered.
        machine: versions and machine, by name.
        ending: of the session.
    """
    raw = {
        "schema": SCHEMA,
        "machine": dict(machine),
        "elapsed_s": ending.elapsed_s,
        "exit_status": ending.exit_status,
        "totals": dict(Counter(map(_outcome, results))),
        "problems": [{"test": test, "text": text} for test, text in ending.problems],
        "results": [_plain(result) for result in results],
    }
    return json.dumps(_finite(raw), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _outcome(result: Result) -> str:
    if result.skipped:
        return "skipped"
    return result.planted.outcome if result.planted else result.verdict.kind


def _plain(result: Result) -> dict[str, Any]:
    """All of a result but the golden, which is a file of its own; what was recorded is said."""
    found = result.as_dict()
    recorded = bool(found.pop("golden"))
    told = {name: effects.told(answer) for name, answer in result.convergence.items()}
    return {**found, "convergence": told, "recorded": recorded}


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
