"""``torch.optim`` executed anew in this process, one of its modules altered: for processes that end with it.

The installed files are only read. Every module of the package is executed again, so that each class and function of
it is one that knows the altered ones, and whoever outside of the package holds an old one is given its successor.
"""

from __future__ import annotations

import importlib
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.mutating.files import PACKAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType


class _Held(NamedTuple):
    """A name outside of the package under which something of the package is held; `attribute` "" is the module."""

    holder: ModuleType
    name: str
    module: str
    attribute: str


class _Loader(SourceFileLoader):
    """Executes code that it is given."""

    def __init__(self, module: str, path: str, code: CodeType) -> None:
        """`path` is the module's own, as always."""
        super().__init__(module, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - there is one module
        """The code, whatever the file says."""
        return self._code


class _Finder(MetaPathFinder):
    """Finds the modules of a package by their code."""

    def __init__(self, codes: Mapping[str, CodeType]) -> None:
        self.codes = codes

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - names are enough
        target: ModuleType | None = None,  # noqa: ARG002 - ditto
    ) -> ModuleSpec | None:
        """The spec of one of them; None for all other modules."""
        code = self.codes.get(fullname)
        if code is None:
            return None
        file = Path(code.co_filename)
        inner = [str(file.parent)] if file.name == "__init__.py" else None
        loader = _Loader(fullname, str(file), code)
        return spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=inner)


class Host:
    """The package as it was imported, ready to be executed again."""

    def __init__(self) -> None:
        """Compile every module of the package that is imported by now, and find who holds something of it."""
        importlib.import_module(PACKAGE)
        names = [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]
        self.codes = {name: _compiled(name) for name in names}
        self._held = list(_held(names))

    def execute(self, codes: Mapping[str, CodeType] | None = None) -> None:
        """Execute the package again, some of its modules with other code; whatever that raises comes out."""
        finder = _Finder({**self.codes, **(codes or {})})
        for name in self.codes:
            sys.modules.pop(name, None)
        sys.meta_path.insert(0, finder)
        try:
            for name in self.codes:
                importlib.import_module(name)
        finally:
            sys.meta_path.remove(finder)
        for held in self._held:
            module = sys.modules[held.module]
            setattr(held.holder, held.name, getattr(module, held.attribute) if held.attribute else module)


def _compiled(name: str) -> CodeType:
    path = sys.modules[name].__file__ or ""
    return compile(Path(path).read_text(encoding="utf-8"), path, "exec", dont_inherit=True)


def _held(names: Sequence[str]) -> Iterator[_Held]:
    """What modules outside of the package hold of it."""
    inside: dict[int, tuple[str, str]] = {}
    for name in names:
        inside[id(sys.modules[name])] = (name, "")
        for attribute, value in vars(sys.modules[name]).items():
            if getattr(value, "__module__", None) in names:
                inside[id(value)] = (name, attribute)
    for name, holder in list(sys.modules.items()):
        if name in names or not isinstance(holder, ModuleType):
            continue
        for attribute, value in list(vars(holder).items()):
            if id(value) in inside:
                yield _Held(holder, attribute, *inside[id(value)])
