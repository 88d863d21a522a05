"""Two costs compared: what became heavier, and what lighter. Pure: no files, no pytest, no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_optcheck.cost.figures import Cost, Counts, ListCost

NAMED = 6
"""Operations that one line names; a rewritten rule exchanges more than anyone reads."""

DIGITS = 8
"""Decimals from which on two ratios are told apart by their bytes alone."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How one cost differs from another, a line a difference.

    Attributes:
        heavier: what costs more, or can no longer be counted.
        lighter: what costs less.
    """

    heavier: tuple[str, ...] = ()
    lighter: tuple[str, ...] = ()


def compare(new: Cost, old: Cost, refused: Mapping[str, str] | None = None) -> Comparison:
    """Compare two costs of one spec, counted under the same `figures.version_key`.

    Every total is gated, and exactly; one more is heavier, however few it is of how many:

    - of each moment: operations, operations at every depth, Python calls of schedulers, syncs, bytes allocated,
      bytes at the peak; and Python calls of the step, which may grow by one a tensor, as where a few lines become a
      function of their own;
    - of each list: bytes of state, bytes grown, what is no longer freed by reference count, recompiles;
    - a list or a moment that could be counted and no longer can.

    Totals are gated, not names: operations that are exchanged for as many others, as by a harmless rewrite, are
    neither heavier nor lighter. Where a total differs, its line names what was added and removed. What one side has
    not taken (see `figures.Counts`) is not compared, and what only `new` has is no loss.

    Args:
        new: of the code under test.
        old: what it is held against.
        refused: why `new` lacks what it lacks, as `counting.Counted` has it.
    """
    found = _Found(refused or {})
    for name, before in old.lists.items():
        after = new.lists.get(name)
        if after is None:
            found.heavier.append(f"{name}: can no longer be counted{found.why(name)}")
        else:
            _compare_list(found, name, after, before)
    return Comparison(tuple(found.heavier), tuple(found.lighter))


@dataclass(slots=True)
class _Found:
    """The lines so far, and the reasons that they can give."""

    refused: Mapping[str, str]
    heavier: list[str] = field(default_factory=list)
    lighter: list[str] = field(default_factory=list)

    def compare(self, where: str, what: str, new: int, old: int) -> None:
        """One total of each side; more is heavier."""
        if new != old:
            lines = self.heavier if new > old else self.lighter
            lines.append(f"{where}: {old:,} → {new:,} {what}")

    def why(self, where: str) -> str:
        """The end of a line on what was refused."""
        return f": {self.refused[where]}" if where in self.refused else ""


def _compare_list(found: _Found, name: str, new: ListCost, old: ListCost) -> None:
    if new.parameter_bytes != old.parameter_bytes:  # it takes other tensors of the list than before
        lines = found.heavier if new.parameter_bytes < old.parameter_bytes else found.lighter
        taken = f"takes {new.parameter_bytes:,} bytes of parameters, took {old.parameter_bytes:,}"
        lines.append(f"{name}: {taken}; not comparable{found.why(name)}")
        return
    for moment, before in old.moments.items():
        after, where = new.moments.get(moment), f"{name}, {moment}"
        if after is None:
            found.heavier.append(f"{where}: can no longer be counted{found.why(where)}")
        else:
            _compare_moment(found, where, after, before)
            _compare_calls(found, where, after, before, old.tensors)
    if new.state_bytes != old.state_bytes:
        lines = found.heavier if new.state_bytes > old.state_bytes else found.lighter
        lines.append(f"{name}: {_ratios(old.state_bytes, new.state_bytes, old.parameter_bytes)}")
    found.compare(name, "bytes grown in later updates", new.grown_bytes, old.grown_bytes)
    if new.recompiles is not None and old.recompiles is not None:
        found.compare(name, "recompiles under changing learning rates", new.recompiles, old.recompiles)
    kept = [what for what in new.held if what not in old.held]
    freed = [what for what in old.held if what not in new.held]
    if kept:
        found.heavier.append(f"{name}: no longer freed by reference count: {', '.join(kept)}")
    if freed:
        found.lighter.append(f"{name}: now freed by reference count: {', '.join(freed)}")


def _compare_moment(found: _Found, where: str, new: Counts, old: Counts) -> None:
    _compare_named(found, where, "operations", new.ops, old.ops)
    if new.kernels and old.kernels:
        _compare_named(found, where, "operations at every depth", new.kernels, old.kernels)
    found.compare(where, "syncs", new.syncs, old.syncs)
    found.compare(where, "bytes allocated", new.new_bytes, old.new_bytes)
    found.compare(where, "bytes at the peak", new.peak_bytes, old.peak_bytes)


def _compare_calls(found: _Found, where: str, new: Counts, old: Counts, tensors: int) -> None:
    if new.calls and old.calls and not old.calls < new.calls <= old.calls + tensors:
        found.compare(where, "Python calls", new.calls, old.calls)
    if new.calls and old.calls:
        found.compare(where, "Python calls of schedulers", new.schedule_calls, old.schedule_calls)


def _compare_named(found: _Found, where: str, what: str, new: Mapping[str, int], old: Mapping[str, int]) -> None:
    found.compare(where, f"{what} ({_exchange(new, old)})", sum(new.values()), sum(old.values()))


def _exchange(new: Mapping[str, int], old: Mapping[str, int]) -> str:
    """What was added, most first, and then what was removed, as ``+200 lerp_.Scalar, -100 mul_.Tensor``."""
    changes = [(new.get(name, 0) - old.get(name, 0), name) for name in {**new, **old}]
    ordered = sorted((change for change in changes if change[0]), key=lambda change: (-change[0], change[1]))
    added = [f"{count:+,} {name}" for count, name in ordered if count > 0]
    removed = [f"{count:+,} {name}" for count, name in reversed(ordered) if count < 0]
    named = [*added, *removed]
    if len(named) > NAMED:  # of what was removed at least one is named
        shown = [*added[: NAMED - min(len(removed), 1)], *removed][:NAMED]
        return ", ".join([*shown, f"and {len(named) - len(shown)} more"])
    return ", ".join(named)


def _ratios(old: int, new: int, parameters: int) -> str:
    """Two states relative to the parameters, with as many decimals as tell them apart."""
    for digits in range(1, DIGITS) if parameters else ():
        before, after = f"{old / parameters:.{digits}f}", f"{new / parameters:.{digits}f}"
        if before != after:
            return f"{before} → {after} state bytes per parameter byte"
    return f"{old:,} → {new:,} state bytes"
