"""What the base side imports: the revision's files wherever this process would import from the work tree.

Imports the standard library only.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

OWN = "pytest_optcheck"
"""This package, the same on both sides, whatever the revision holds."""


class WorkTree:
    """A work tree, without the environment that may lie inside.

    Attributes:
        root: its top directory.
    """

    def __init__(self, root: Path) -> None:
        """Find out what inside is none of it."""
        self.root = root.resolve()
        self._apart = [path for path in installed() if path.is_relative_to(self.root)]

    def holds(self, path: Path) -> bool:
        """Whether `path` belongs to it."""
        found = path.resolve()
        return found.is_relative_to(self.root) and not any(map(found.is_relative_to, self._apart))


class Mirror:
    """A work tree, and the tree of a revision that stands in for it.

    Attributes:
        tree: the revision's.
    """

    def __init__(self, work: WorkTree, tree: Path) -> None:
        """The tree of the revision may lie in the work tree too."""
        self._work = work
        self.tree = tree.resolve()

    def holds(self, path: Path) -> bool:
        """Whether `path` belongs to the work tree."""
        return self._work.holds(path) and not path.resolve().is_relative_to(self.tree)

    def image(self, path: Path) -> Path:
        """Where the revision has what is at `path` of the work tree, if it has it."""
        return self.tree / path.resolve().relative_to(self._work.root)

    def original(self, path: Path) -> Path | None:
        """Where the work tree has what is at `path` of the revision's; None for a path elsewhere."""
        found = path.resolve()
        return self._work.root / found.relative_to(self.tree) if found.is_relative_to(self.tree) else None

    def path(self, entries: Sequence[str]) -> list[str]:
        """An import path with the work tree's entries exchanged; those that the revision has not are left out."""
        images = {entry: self.image(Path(entry)) for entry in entries if self.holds(Path(entry))}
        exchanged = [str(images.get(entry, entry)) for entry in entries]
        missing = {str(image) for image in images.values() if not image.exists()}
        return [entry for entry in exchanged if entry not in missing]


class RevisionFinder(MetaPathFinder):
    """Finds modules as all others do, but none in the work tree.

    What an editable installation or a hook finds there is looked for at the same place of the revision. Only what
    git ignores, a generated version or a compiled part, is no part of any revision and comes from the work tree.

    Attributes:
        borrowed: names of the modules that do.
    """

    def __init__(self, mirror: Mirror, entries: Iterable[str], is_ignored: Callable[[Path], bool]) -> None:
        """Take note of where things are.

        Args:
            mirror: the two trees.
            entries: the import path of the other side.
            is_ignored: whether git ignores a file of the work tree.
        """
        self.borrowed: list[str] = []
        self._mirror, self._is_ignored = mirror, is_ignored
        self._top = [entry for entry in entries if mirror.holds(Path(entry))]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where a module comes from.

        Raises:
            ModuleNotFoundError: only the work tree has it.
        """
        if fullname.partition(".")[0] == OWN:
            return None
        found = self._ask_others(fullname, path, target)
        origin = _origin(found)
        if found is not None and (origin is None or not self._mirror.holds(origin)):
            return found
        if origin is not None:
            there = PathFinder.find_spec(fullname, [str(self._mirror.image(_holder(origin)))])
            if there is not None:
                return there
        return self._borrow(fullname, path, found)

    def _ask_others(self, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None) if finder is not self else None  # old finders have none
            found: ModuleSpec | None = find(name, path, target) if find is not None else None
            if found is not None:
                return found
        return None

    def _borrow(self, name: str, path: Sequence[str] | None, found: ModuleSpec | None) -> ModuleSpec | None:
        """The work tree's, if git ignores it."""
        if found is None:
            originals = map(self._mirror.original, map(Path, path or ()))
            places = self._top if path is None else [str(place) for place in originals if place is not None]
            found = PathFinder.find_spec(name, places)
        origin = _origin(found)
        if found is None or origin is None:
            return None
        if self._is_ignored(origin):
            self.borrowed.append(name)
            return found
        raise ModuleNotFoundError(f"No module named {name!r} in the base revision", name=name)


def installed() -> list[Path]:
    """Directories of installed packages and of the standard library."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = [sysconfig.get_path(name) for name in names] + site.getsitepackages() + [site.getusersitepackages()]
    return [Path(path).resolve() for path in found]


def whole(entries: Iterable[str]) -> list[str]:
    """An import path on its way to a process with another working directory.

    What is no directory or file means something to a hook, and stays as it is.
    """
    return [os.path.abspath(entry) if Path(entry).exists() else entry for entry in entries]  # noqa: PTH100 - Path has no way to leave links alone


def _origin(found: ModuleSpec | None) -> Path | None:
    """The file that a module comes from; None for what has none."""
    return Path(found.origin) if found is not None and found.has_location and found.origin else None


def _holder(origin: Path) -> Path:
    """The directory on an import path in which a module was found."""
    return origin.parent.parent if origin.stem == "__init__" else origin.parent
