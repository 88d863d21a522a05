"""What a failing case says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_optcheck.cases import ASPECTS, BASE
from pytest_optcheck.curves import PLAIN
from pytest_optcheck.report import effects

if TYPE_CHECKING:
    from pytest_optcheck.cases import Result

HEADLINES = {
    "improved": "converges better than what its golden was recorded from",
    "changed": "is no longer the algorithm its golden was recorded from",
    "regression": "converges worse than what its golden was recorded from",
    "slower": "takes more time for a step than it did",
    "heavier": "does more in a step than it did",
    "diverged": "diverges where its golden does not",
    "lost": "no longer does what it did when its golden was recorded",
    "missing": "has no golden",
    "stale": "has a golden that no longer applies",
}


AGAINST_BASE = {
    "changed": "does not compute what the base does",
    "diverged": "diverges where the base does not",
    "lost": "no longer does what the base does",
    "slower": "takes more time for a step than the base",
    "heavier": "does more in a step than the base",
}


def failure(result: Result) -> str:
    """Verdict, case, place and size of the deviation, and the commands that reproduce and accept it."""
    verdict = result.verdict
    rows = [("note", verdict.note), *(("more" if not k else "", line) for k, line in enumerate(verdict.details))]
    rows += effects.rows(result)
    if verdict.envelopes is not None:
        size = f"{envelopes(verdict.envelopes)} (relative deviation {verdict.deviation:.1e})"
        rows.append(("first outside", f"step {verdict.first_step}, by {size}"))
    if verdict.envelopes is not None and verdict.largest is not None:
        rows.append(
            (
                "largest",
                f"relative deviation {verdict.largest:.1e} of the loss at step {verdict.largest_step}",
            )
        )
    if verdict.tensor is not None:
        rows.append(("left first", f"tensor {verdict.tensor}, seen at step {verdict.tensor_step}"))
    rows.append(("cause", verdict.cause))
    if verdict.first_step is not None:
        rows.append(("final loss", finals(result)))
    if result.route == BASE:
        rows += [("" if k else "noted", line) for k, line in enumerate(result.findings)]
    if verdict.kind not in ("missing", "stale"):
        rows.append(("reproduce", f"pytest --optcheck {result.select}"))
    if result.route != BASE:
        rows.append(("record" if verdict.kind == "missing" else "accept", accept(result)))
    headlines = AGAINST_BASE if result.route == BASE else HEADLINES
    head = f"{verdict.kind.upper()}: {result.spec} {headlines[verdict.kind]}"
    route = "" if result.route == PLAIN else f", {'' if result.route in ASPECTS else 'route '}{result.route}"
    where = f"  on {result.workload}, {result.dtype}, {result.device}{route}"
    return "\n".join([head, where, *(f"  {name and name + ':':<15}{text}" for name, text in rows if text)])


def accept(result: Result) -> str:
    """The command after which this case is green: it records what the code does now."""
    mode = {"missing": "missing", "stale": "stale"}.get(result.verdict.kind, "changed")
    return f"pytest --optcheck-update={mode} --optcheck-reason 'why' {result.select}"


def finals(result: Result) -> str:
    """``0.2104 → 0.2391``, with the relative change where both are there."""
    old, new = result.verdict.final_old, result.verdict.final_new
    if old is None:
        return ""
    if new is None:
        return f"{old:.4g}"
    if result.verdict.kind == "match":
        return f"{new:.4g}"
    change = f" ({(new - old) / abs(old):+.1%})" if old and abs(new - old) > 1e-3 * abs(old) else ""
    return f"{old:.4g} → {new:.4g}{change}"


def envelopes(multiple: float) -> str:
    """``3.1e+09 × envelope``."""
    return f"{multiple:.1e} × envelope"
