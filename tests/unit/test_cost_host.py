from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_optcheck.cost.host import laid_out
from pytest_optcheck.cost.places import Place
from pytest_optcheck.cost.revisions import Directory, Release, Revision

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def revision(work: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> Revision:
    """A revision whose files are there."""
    for folder in (work / "src", work / "new", tree / "src"):
        folder.mkdir(parents=True)
    monkeypatch.setattr(Revision, "lay_out", lambda *_: tree)
    return Revision("HEAD", "a" * 40, str(work), str(work / ".git" / "objects"), "sha1")


def test_the_new_side_is_where_pytest_is(tmp_path: Path) -> None:
    found = laid_out(Directory("./old", "/old"), ["/a", "/b"], "/cwd", tmp_path)
    assert found["new"] == Place(("/a", "/b"), "/cwd")
    assert list(found) == ["new", "base", "again"]


def test_a_directory_comes_first_and_is_not_written_to(tmp_path: Path) -> None:
    found = laid_out(Directory("./old", "/old"), ["/a", "/b"], "/cwd", tmp_path)
    assert found["base"] == found["again"] == Place(("/old", "/a", "/b"), "/cwd")


def test_a_release_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Release, "lay_out", lambda _, scratch: scratch / "site")
    found = laid_out(Release("x==1"), ["/a"], "/cwd", tmp_path)
    assert found["base"] == Place((str(tmp_path / "site"), "/a"), "/cwd", bytecode=True)


def test_a_revision_s_side_imports_and_works_where_the_revision_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, tree = tmp_path / "work", tmp_path / "tree"
    path = [str(work / "src"), str(work / "new"), "/a"]
    found = laid_out(revision(work, tree, monkeypatch), path, str(work / "src"), tmp_path)
    assert found["base"] == found["again"]
    assert found["base"].path == (str(tree / "src"), "/a")
    assert found["base"].cwd == str(tree / "src")
    assert found["base"].mirror == (str(work), str(tree))
    assert found["base"].entries == tuple(path)


def test_a_working_directory_that_the_revision_has_not_is_its_top(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, tree = tmp_path / "work", tmp_path / "tree"
    base = revision(work, tree, monkeypatch)
    for cwd in (work / "new", tmp_path):
        assert laid_out(base, [], str(cwd), tmp_path)["base"].cwd == str(tree)
