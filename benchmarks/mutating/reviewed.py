"""Survivors that a person read: why no run on a CPU could tell them from the original.

Each entry is matched by file, function, kind of alteration, the statement before and after it, and the conditions
around it. An entry never saves a mutant that a case kills: such a one counts as killed, and the entry is reported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from benchmarks.mutating.judging import EQUIVALENT, UNREACHABLE

if TYPE_CHECKING:
    from benchmarks.mutating.judging import Mutant


@dataclass(frozen=True, slots=True)
class Review:
    """One reason, and the mutants that it holds for.

    Attributes:
        outcome: `EQUIVALENT` or `UNREACHABLE`.
        reason: in one line.
        file: pattern of the file's name, without ``.py``.
        function: pattern of the dotted name.
        kind: of alteration; empty for any.
        before: regular expression, searched for in the statement; empty for any.
        after: ditto in the altered one.
        guard: ditto in the conditions under which it is reached, of which one must match.
    """

    outcome: str
    reason: str
    file: str = "*"
    function: str = "*"
    kind: str = ""
    before: str = ""
    after: str = ""
    guard: str = ""

    def holds(self, mutant: Mutant) -> bool:
        """Whether it is about `mutant`."""
        site = mutant.alteration.site
        return (
            fnmatch(mutant.file.name, self.file)
            and fnmatch(site.function, self.function)
            and self.kind in ("", mutant.alteration.kind)
            and re.search(self.before, mutant.before) is not None
            and re.search(self.after, mutant.after) is not None
            and (not self.guard or any(re.search(self.guard, guard) for guard in site.guards))
        )


REVIEWS: tuple[Review, ...] = (
    Review(UNREACHABLE, "runs only while TorchScript compiles", guard=r"^torch\.jit\.is_scripting\(\)"),
    Review(UNREACHABLE, "runs only while torch.compile traces", guard=r"^torch\.compiler\.is_compiling\(\)"),
    Review(UNREACHABLE, "capturable is refused on a CPU", guard=r"(^| and )capturable$"),
    Review(
        EQUIVALENT,
        "looks after graphs of an accelerator; where there is none it returns at once",
        before=r"^self\._accelerator_graph_capture_health_check\(\)",
    ),
    Review(EQUIVALENT, "tells torch's makers that a class is used", before=r"^torch\._C\._log_api_usage_once\("),
)
"""Every entry."""


def review(mutant: Mutant) -> Review | None:
    """The first entry that is about `mutant`."""
    return next((entry for entry in REVIEWS if entry.holds(mutant)), None)
