"""What a review is: a reason, and the mutants that it holds for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.mutating.judging import Mutant


@dataclass(frozen=True, slots=True)
class Review:
    """One reason, and the mutants that it holds for.

    Attributes:
        outcome: `EQUIVALENT` or `UNREACHABLE`.
        reason: in one line.
        file: pattern of the file's name, without ``.py``.
        function: pattern of the dotted name, or several, of which one must match.
        kind: of alteration, or several; empty for any.
        before: regular expression, searched for in the statement; empty for any.
        after: ditto in the altered one.
        guard: ditto in the conditions under which it is reached, of which one must match.
    """

    outcome: str
    reason: str
    file: str = "*"
    function: str | tuple[str, ...] = "*"
    kind: str | tuple[str, ...] = ""
    before: str = ""
    after: str = ""
    guard: str = ""

    def holds(self, mutant: Mutant) -> bool:
        """Whether it is about `mutant`."""
        site = mutant.alteration.site
        return (
            fnmatch(mutant.file.name, self.file)
            and any(fnmatch(site.function, pattern) for pattern in _each(self.function))
            and (not self.kind or mutant.alteration.kind in _each(self.kind))
            and re.search(self.before, mutant.before) is not None
            and re.search(self.after, mutant.after) is not None
            and (not self.guard or any(re.search(self.guard, guard) for guard in site.guards))
        )


def _each(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value
