"""The self-test in words: the table of what was caught, what fails an item, one line of totals."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_optcheck.cases import BREAKS, LR, STATE, SYNC, TENSOR, WAIT
from pytest_optcheck.curves import PLAIN
from pytest_optcheck.report import message
from pytest_optcheck.report.terminal import COARSE, aligned, sees

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_optcheck.cases import Outcome, Planted, Result

MEANING: Mapping[str, str] = {
    LR: "a learning rate that changes would pass",
    TENSOR: "a tensor that is never updated would pass",
    STATE: "state that gets lost would pass",
    SYNC: "a wait for the device in every step would pass",
    WAIT: "a step that takes a fifth longer would pass",
}
"""What it means that a break goes unnoticed."""

UNNOTICED: tuple[Outcome, ...] = ("red", "missed", "let pass")
"""What fails a self-test."""

TITLES = (*BREAKS.values(), "workload", "optimizer")
"""The longest comes last: a spec may have schedulers."""


def section(results: Sequence[Result], unanswered: Sequence[str], *, elapsed_s: float) -> list[str]:
    """Lines of the section, without its rule: a row for each optimizer, what cannot be told, the total.

    Args:
        results: of every break.
        unanswered: ids of the items that say nothing: they failed otherwise, or were not allowed to fail.
        elapsed_s: wall-clock seconds of the whole session.
    """
    rows: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        rows.setdefault((result.workload, result.spec), []).append(result)
    cells = {where: _cells(found) for where, found in rows.items()}
    table = [(*(found.get(name, "") for name in BREAKS), *where) for where, found in cells.items()]
    lines = aligned([TITLES, *table]) if table else []
    reasons = Counter(planted.why for _, planted in _planted(results) if planted.outcome == "cannot tell")
    lines += [f"{count} cannot be told: {why}" for why, count in reasons.most_common()]
    lines += [f"no answer from {name}" for name in dict.fromkeys(unanswered)]
    return [*lines, f"{totals(results, unanswered)}        {elapsed_s:.1f} s"]


def totals(results: Sequence[Result], unanswered: Sequence[str] = ()) -> str:
    """``104 breaks of 21 optimizers, all caught``, or how many were not."""
    counts = Counter(planted.outcome for _, planted in _planted(results))
    optimizers = len({(result.spec, result.workload) for result, _ in _planted(results)})
    tried = sum(counts[outcome] for outcome in ("caught", "missed", "let pass"))
    what = f"{tried} breaks of {optimizers} optimizers"
    if tried and not (unanswered or unnoticed(results)):
        return f"{what}, all caught"
    parts = [f"{counts['caught']} caught", f"{counts['missed'] + counts['let pass']} NOT CAUGHT"]
    parts += [f"{counts['red']} not green to begin with"] if counts["red"] else []
    parts += [f"{len(set(unanswered))} without an answer"] if unanswered else []
    return f"{what}: {', '.join(parts)}"


def unnoticed(results: Iterable[Result]) -> bool:
    """Whether anything was broken and not caught, or was not green to begin with."""
    return any(planted.outcome in UNNOTICED for _, planted in _planted(results))


def complaint(results: Sequence[Result]) -> str:
    """What fails the self-test of one optimizer, and what it means; empty where all is caught.

    One line, but for a golden that is missing or stale: then what every check says of it.
    """
    told = _planted(results)
    first = results[0]
    subject = f"SELF-TEST: {first.spec} on {first.workload}"
    again = f"pytest --optcheck-selftest {first.select}"
    for result, planted in told:
        if planted.outcome == "red" and result.verdict.kind in ("missing", "stale"):
            return message.failure(result)
        if planted.outcome == "red":
            return (
                f"{subject}: {result.verdict.kind.upper()} before anything is broken, so nothing is proven; "
                f"mend that first: pytest --optcheck {result.select}"
            )
    unseen = [(result, planted) for result, planted in told if planted.outcome in UNNOTICED]
    if unseen:
        parts = [_unseen(result, planted) for result, planted in unseen]
        suspects = dict.fromkeys(reason for result, planted in unseen for reason in _suspects(result, planted))
        return "; ".join([f"{subject}: {', '.join(parts)}", *suspects, f"reproduce: {again}"])
    if not any(planted.outcome == "caught" for _, planted in told):
        why = ", ".join(f"{planted.how}: {planted.why}" for _, planted in told if planted.why)
        return f"{subject}: nothing could be broken, so nothing is proven ({why})"
    return ""


def properties(results: Iterable[Result]) -> list[tuple[str, object]]:
    """What a JUnit report keeps: break by break, its cell of the table."""
    return [(f"optcheck_selftest_{name}", cell) for name, cell in _cells(results).items()]


def _planted(results: Iterable[Result]) -> list[tuple[Result, Planted]]:
    """The results of breaks, with what they planted."""
    return [(result, result.planted) for result in results if result.planted is not None]


def _unseen(result: Result, planted: Planted) -> str:
    """One break that was not caught."""
    kind = result.verdict.kind
    if planted.outcome == "let pass":
        return f"{planted.how} is {kind}, which optcheck_allow lets pass ({MEANING[planted.name]})"
    return f"{planted.how} was NOT CAUGHT, its verdict is {kind} ({MEANING[planted.name]})"


def _suspects(result: Result, planted: Planted) -> Iterator[str]:
    """Why one break may have been missed: a function of the plugin that was replaced, or a golden that sees little."""
    if planted.why:
        yield planted.why
    coarse = result.resolution is None or result.resolution > COARSE
    if planted.outcome == "missed" and result.route == PLAIN and coarse:
        yield f"its golden {sees(result.resolution)}"


def _cells(results: Iterable[Result]) -> dict[str, str]:
    """A row of the table, by break; curve and counts of the untouched copy share a cell, where the worse one stands."""
    cells: dict[str, str] = {}
    for result, planted in _planted(results):
        if planted.name not in cells or planted.outcome in UNNOTICED:
            cells[planted.name] = _cell(result, planted)
    return cells


def _cell(result: Result, planted: Planted) -> str:
    """What became of one break, for the table."""
    verdict = result.verdict
    step = f"step {verdict.first_step}" if verdict.first_step is not None else verdict.kind
    words: dict[Outcome, str] = {
        "green": verdict.kind,
        "red": verdict.kind.upper(),
        "caught": step,
        "missed": "NOT CAUGHT",
        "let pass": "LET PASS",
        "cannot tell": "cannot tell",
    }
    cell = words.get(planted.outcome, planted.why)
    caught_otherwise = planted.outcome == "caught" and planted.how != BREAKS[planted.name]
    return f"{cell} ({planted.how})" if caught_otherwise else cell
