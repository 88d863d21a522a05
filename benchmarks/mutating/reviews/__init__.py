"""Survivors that a person read: why no run on a CPU could tell them from the original.

Each entry is matched by file, function, kind of alteration, the statement before and after it, and the conditions
around it. An entry never saves a mutant that a case kills: such a one counts as killed, and the entry is reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.mutating.reviews.equivalent import TOLD_BY_NOTHING
from benchmarks.mutating.reviews.unreachable import REACHED_BY_NOTHING

if TYPE_CHECKING:
    from benchmarks.mutating.judging import Mutant
    from benchmarks.mutating.reviews.base import Review

REVIEWS: tuple[Review, ...] = (*REACHED_BY_NOTHING, *TOLD_BY_NOTHING)
"""Every entry."""


def review(mutant: Mutant) -> Review | None:
    """The first entry that is about `mutant`."""
    return next((entry for entry in REVIEWS if entry.holds(mutant)), None)
