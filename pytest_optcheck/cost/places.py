"""Where a side imports from and works: its place, which a process enters before it does anything else.

Imports the standard library only, through `imports` and `revisions`.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from pytest_optcheck.cost.imports import Mirror, RevisionFinder, WorkTree
from pytest_optcheck.cost.revisions import is_ignored


@dataclass(frozen=True, slots=True)
class Place:
    """Where a side imports from, and where it works.

    Attributes:
        path: its import path.
        cwd: its working directory.
        mirror: the work tree that nothing may come from, and the tree of the revision; None where there is none.
        entries: the import path of the other side, if there is a mirror.
        bytecode: whether compiled modules may be left beside their sources.
    """

    path: tuple[str, ...]
    cwd: str
    mirror: tuple[str, str] | None = None
    entries: tuple[str, ...] = ()
    bytecode: bool = False

    def enter(self) -> RevisionFinder | None:
        """Make this process import from here; what looks after that, if anything does."""
        os.chdir(self.cwd)
        sys.path[:] = self.path
        sys.dont_write_bytecode = not self.bytecode
        if self.mirror is None:
            return None
        work, tree = map(Path, self.mirror)
        finder = RevisionFinder(Mirror(WorkTree(work), tree), self.entries, lambda path: is_ignored(path, work))
        sys.meta_path.insert(0, finder)
        return finder
