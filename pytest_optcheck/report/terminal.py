"""The terminal section: failures first, matches counted, what was recorded, one line of totals."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_optcheck.cases import BASE, COUNTS, TIMING
from pytest_optcheck.curves import PLAIN
from pytest_optcheck.judge import KINDS, PASSING
from pytest_optcheck.report import costs
from pytest_optcheck.report.message import envelopes, finals

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_optcheck.cases import Result

COARSE = 1e-3
"""A golden that sees only learning-rate changes larger than this is pointed out."""

TITLES = ("optimizer", "workload", "route", "verdict", "final loss", "first step outside")


def section(results: Sequence[Result], *, verbose: bool, elapsed_s: float) -> list[str]:
    """Lines of the section, without its rule.

    Args:
        results: every case that was answered.
        verbose: also list what matches, with each golden's resolution.
        elapsed_s: wall-clock seconds of the whole session.
    """
    curves = [r for r in results if r.route not in (COUNTS, TIMING)]
    shown = [r for r in curves if verbose or not (r.verdict.kind in PASSING or r.golden)]
    shown.sort(key=lambda result: -KINDS.index(result.verdict.kind))
    resolved = verbose and any(result.route != BASE for result in shown)  # against a base there is no golden
    titles = (*TITLES, "sees lr change of") if resolved else TITLES
    rows = [titles, *(_row(result, resolved=resolved) for result in shown)]
    lines = [*aligned(rows), *causes(shown)] if shown else []
    lines += aligned(costs.rows(results, verbose=verbose))
    lines += recorded(results)
    lines += [*costs.lighter(results), *costs.incomparable(results), *costs.noted(results)]
    lines.append(totals(results, elapsed_s))
    return lines


def causes(results: Iterable[Result]) -> list[str]:
    """What may have happened, a line for each optimizer and cause."""
    found = dict.fromkeys((result.spec, result.verdict.cause) for result in results if result.verdict.cause)
    return [f" {spec}: {cause}" for spec, cause in found]


def recorded(results: Iterable[Result]) -> list[str]:
    """One line for each golden that was written, and a warning for each that sees little."""
    lines = []
    for result in results:
        if not result.golden:
            continue
        lines.append(f"recorded {result.spec} on {result.workload}: {result.effect}; {sees(result.resolution)}")
        if result.resolution is None or result.resolution > COARSE:
            lines.append(f"  warning: coarse; a good golden sees a change of {COARSE:g} or less")
        lines += [f"  {finding}" for finding in result.findings]
    return lines


def sees(resolution: float | None) -> str:
    """What a golden's resolution means, in words."""
    if resolution is None:
        return "sees no learning-rate change"
    return f"sees a learning-rate change of {resolution:.1e}"


def totals(results: Sequence[Result], elapsed_s: float) -> str:
    """``148 checked · 147 match · 1 changed · 0 missing   21.4 s, 9.8 s of it inside optimizer.step()``."""
    counts = Counter(result.verdict.kind for result in results if not result.golden)
    parts = [f"{len(results)} checked"]
    parts += [f"{counts[kind]} {kind}" for kind in KINDS if counts[kind] or kind in ("match", "changed", "missing")]
    written = sum(1 for result in results if result.golden)
    if written:
        parts.append(f"{written} recorded")
    step_s = sum(result.step_s for result in results)
    return f"{' · '.join(parts)}        {elapsed_s:.1f} s, {step_s:.1f} s of it inside optimizer.step()"


def _row(result: Result, *, resolved: bool) -> tuple[str, ...]:
    verdict = result.verdict
    outside = ""
    if verdict.envelopes is not None:
        tensor = f"{verdict.tensor}, " if verdict.tensor else ""
        outside = f"step {verdict.first_step}, {tensor}{envelopes(verdict.envelopes)}"
    name = "recorded" if result.golden else verdict.kind if verdict.kind in PASSING else verdict.kind.upper()
    how = result.dtype if result.route == PLAIN else result.route
    row = (result.spec, result.workload, how, name, finals(result), outside or verdict.note)
    if not resolved:
        return row
    return (*row, "nothing" if result.resolution is None else f"{result.resolution:.1e}")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row, its cells below one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        " " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
