"""What steps cost, as a table: time against the control, operations, syncs, state; and what could not be compared."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from pytest_optcheck.cases import BASE
from pytest_optcheck.judge import KINDS, PASSING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_optcheck.cases import Result

TITLES = ("optimizer", "workload", "verdict", "step × control", "operations", "syncs", "state")

WARM = "warm"
"""The moment whose figures stand in the table; failures name all."""


def rows(results: Iterable[Result], *, verbose: bool) -> list[tuple[str, ...]]:
    """Titles and a row for each optimizer whose steps cost more, or for all that were measured; empty for none."""
    measured: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if result.cost or result.timing:
            measured.setdefault((result.spec, result.workload), []).append(result)
    shown = [_row(found) for found in measured.values() if verbose or any(not _passes(result) for result in found)]
    return [TITLES, *shown] if shown else []


def incomparable(results: Iterable[Result]) -> Iterator[str]:
    """One line for each reason why something could not be compared, with how often it was met, and where if once."""
    found = [result for result in results if result.verdict.kind == "incomparable"]
    where = {result.verdict.note: f"{result.spec} on {result.workload}: " for result in found}
    for note, count in Counter(result.verdict.note for result in found).most_common():
        yield f"{count} incomparable: {where[note] if count == 1 else ''}{note}"


def lighter(results: Iterable[Result]) -> Iterator[str]:
    """One line for each optimizer whose steps cost less than its golden says."""
    for result in results:
        if result.verdict.kind == "match" and result.verdict.details:
            yield f"lighter: {result.spec} on {result.workload}: {'; '.join(result.verdict.details)}"


def noted(results: Iterable[Result]) -> Iterator[str]:
    """One line for each note on comparisons with a base, with how many optimizers it is on, or which one."""
    found: dict[str, dict[str, None]] = {}
    for result in results:
        for note in result.findings if result.route == BASE else ():
            found.setdefault(note, {})[result.spec] = None
    for note, specs in sorted(found.items(), key=lambda item: -len(item[1])):
        yield f"{len(specs)} noted: {note if len(specs) > 1 else f'{next(iter(specs))}: {note}'}"


def figures(result: Result) -> dict[str, float]:
    """The figures of one result by name: ``step_ratio``, ``operations``, ``syncs``, ``state_ratio``.

    Operations and syncs are those of a warm update on the first list of tensors, state is bytes kept a byte of
    parameters.
    """
    found: dict[str, float] = {}
    if result.timing:
        found["step_ratio"] = result.timing["ratio"]
    lists: dict[str, Any] = result.cost.get("lists", {})
    first = next(iter(lists.values()), None)
    if first is not None:
        warm = first["moments"][WARM]
        found["operations"] = sum(warm["ops"].values())
        found["syncs"] = warm.get("syncs", 0)
        found["state_ratio"] = first["state_bytes"] / (first["parameter_bytes"] or 1)
    return found


def _row(found: Sequence[Result]) -> tuple[str, ...]:
    worst = max(found, key=lambda result: KINDS.index(result.verdict.kind))
    values = {name: value for result in found for name, value in figures(result).items()}
    forms = {"step_ratio": "{:.2f} ×", "operations": "{:,.0f}", "syncs": "{:,.0f}", "state_ratio": "{:.2f} ×"}
    if worst.route == BASE:
        forms["step_ratio"] += " base"
    cells = [form.format(values[name]) if name in values else "" for name, form in forms.items()]
    kind = worst.verdict.kind
    return (worst.spec, worst.workload, kind if _passes(worst) else kind.upper(), *cells)


def _passes(result: Result) -> bool:
    return result.verdict.kind in PASSING
