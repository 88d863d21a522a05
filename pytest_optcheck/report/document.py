"""Every figure of a run as one JSON document; ``docs/report.md`` says what its keys mean."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from pytest_optcheck.report import effects

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_optcheck.cases import Result

SCHEMA = 1
"""Version of the document; a reader that knows another must not go on."""


def document(results: Sequence[Result], machine: Mapping[str, str], elapsed_s: float) -> str:
    """The JSON text; a number that is not finite becomes the text ``inf``, ``-inf`` or ``nan``.

    Args:
        results: every case that was answered.
        machine: versions and machine, by name.
        elapsed_s: wall-clock seconds of the whole session.
    """
    raw = {
        "schema": SCHEMA,
        "machine": dict(machine),
        "elapsed_s": elapsed_s,
        "totals": dict(Counter(r.planted.outcome if r.planted else r.verdict.kind for r in results)),
        "results": [_plain(result) for result in results],
    }
    return json.dumps(_finite(raw), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


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
