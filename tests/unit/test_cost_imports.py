from __future__ import annotations

import importlib
import sys
import sysconfig
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_optcheck.cost import imports
from pytest_optcheck.cost.imports import Mirror, RevisionFinder, WorkTree, whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A work tree with a package under ``src``, a module at the top and a directory that only it has."""
    root = tmp_path / "work"
    _write(root, {"src/part/__init__.py": "SIDE = 'new'", "src/part/only_new.py": "", "top.py": "SIDE = 'new'"})
    _write(root, {"src/part/generated.py": "SIDE = 'generated'", "tools/tool.py": "", "made/ignored_top.py": ""})
    return root


@pytest.fixture
def tree(tmp_path: Path, work: Path) -> Path:
    """The same at the revision."""
    root = tmp_path / "tree"
    _write(root, {"src/part/__init__.py": "SIDE = 'old'", "src/part/only_old.py": "", "top.py": "SIDE = 'old'"})
    assert work.is_dir()
    return root


@pytest.fixture
def mirror(work: Path, tree: Path) -> Mirror:
    return Mirror(WorkTree(work), tree)


@pytest.fixture
def finder(mirror: Mirror, work: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RevisionFinder]:
    """In force, on the import path of the base side."""
    entries = [str(work / "src"), str(work), str(work / "made")]
    made = RevisionFinder(mirror, entries, lambda path: "generated" in path.name or "ignored" in path.name)
    monkeypatch.setattr(sys, "path", [*mirror.path(entries), *sys.path])
    monkeypatch.setattr(sys, "meta_path", [made, *sys.meta_path])
    yield made
    for name in [name for name in sys.modules if name.partition(".")[0] in {"part", "top", "tool", "ignored_top"}]:
        del sys.modules[name]


class Editable(MetaPathFinder):
    """Finds a package of the work tree that is on no import path, as editable installations do."""

    def __init__(self, name: str, holder: Path) -> None:
        self.name, self.holder = name, holder

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - of the protocol
        target: ModuleType | None = None,  # noqa: ARG002 - ditto
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(fullname, [str(self.holder)]) if fullname == self.name else None


def test_an_import_path_has_the_revision_s_directories_in_place_of_the_work_tree_s(
    mirror: Mirror, work: Path, tree: Path
) -> None:
    entries = [str(work / "src"), "/usr/lib/elsewhere", str(work)]
    assert mirror.path(entries) == [str(tree / "src"), "/usr/lib/elsewhere", str(tree)]


def test_a_directory_that_the_revision_has_not_is_left_out(mirror: Mirror, work: Path, tree: Path) -> None:
    assert mirror.path([str(work / "tools"), str(work)]) == [str(tree)]


def test_an_environment_inside_the_work_tree_is_none_of_it(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = work / ".venv" / "lib"
    monkeypatch.setattr(imports, "installed", lambda: [packages])
    found = WorkTree(work)
    assert not found.holds(packages / "torch")
    assert found.holds(work / "src")
    assert not found.holds(work.parent)


def test_a_revision_laid_out_inside_the_work_tree_is_none_of_it(work: Path) -> None:
    inside = Mirror(WorkTree(work), work / "scratch" / "tree")
    assert not inside.holds(work / "scratch" / "tree" / "src")
    assert inside.holds(work / "src")


def test_installed_packages_and_the_standard_library_are_known() -> None:
    found = imports.installed()
    assert Path(sysconfig.get_path("purelib")).resolve() in found
    assert Path(sysconfig.get_path("stdlib")).resolve() in found


def test_a_module_comes_from_the_revision(finder: RevisionFinder) -> None:
    assert importlib.import_module("part").SIDE == "old"
    assert importlib.import_module("top").SIDE == "old"
    assert importlib.import_module("part.only_old")
    assert finder.borrowed == []


def test_what_only_the_work_tree_has_is_not_found(finder: RevisionFinder) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'part\.only_new' in the base revision"):
        importlib.import_module("part.only_new")
    assert finder.borrowed == []


@pytest.mark.usefixtures("finder")
def test_what_nobody_has_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'part\.nowhere'$"):
        importlib.import_module("part.nowhere")


def test_what_git_ignores_comes_from_the_work_tree_and_is_told(finder: RevisionFinder) -> None:
    assert importlib.import_module("part.generated").SIDE == "generated"
    assert importlib.import_module("ignored_top")
    assert finder.borrowed == ["part.generated", "ignored_top"]


@pytest.mark.usefixtures("finder")
def test_an_editable_installation_leads_to_the_same_place_of_the_revision(work: Path) -> None:
    sys.path[:] = [entry for entry in sys.path if "tree" not in entry]
    sys.meta_path.append(Editable("part", work / "src"))
    assert importlib.import_module("part").SIDE == "old"


@pytest.mark.usefixtures("finder")
def test_an_editable_installation_of_what_the_revision_has_not_is_not_found(work: Path) -> None:
    sys.meta_path.append(Editable("tool", work / "tools"))
    with pytest.raises(ModuleNotFoundError, match="in the base revision"):
        importlib.import_module("tool")


def test_this_package_is_the_same_on_both_sides(finder: RevisionFinder) -> None:
    assert finder.find_spec("pytest_optcheck", None) is None
    assert finder.find_spec("pytest_optcheck.training", ["/anywhere"]) is None


def test_installed_packages_are_found_as_ever(finder: RevisionFinder) -> None:
    found = finder.find_spec("msgspec", None)
    assert found is not None
    assert "site-packages" in str(found.origin)


def test_a_finder_of_the_old_kind_is_passed_over(finder: RevisionFinder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [object(), *sys.meta_path])
    assert finder.find_spec("msgspec", None) is not None


def test_an_import_path_travels_with_full_names_and_what_hooks_put_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "src").mkdir()
    monkeypatch.chdir(tmp_path)
    hook = "__editable__.part.finder.__path_hook__"
    assert whole(["", "src", hook]) == [str(tmp_path), str(tmp_path / "src"), hook]


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
