from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from typing import TYPE_CHECKING

import msgspec
import pytest

from pytest_optcheck.cost import revisions
from pytest_optcheck.cost.revisions import Directory, Release, Revision, decode, find, is_ignored
from pytest_optcheck.errors import OptcheckError

if TYPE_CHECKING:
    from pathlib import Path


def git(root: Path, *arguments: str) -> str:
    who = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false")
    command = ("git", *who, "-C", str(root), *arguments)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603 - our own words


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits of one file, and what git ignores."""
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "--quiet")
    (root / ".gitignore").write_text("generated.py\n", encoding="utf-8")
    for text in ("old", "new"):
        (root / "module.py").write_text(text, encoding="utf-8")
        git(root, "add", ".")
        git(root, "commit", "--quiet", "--message", text)
    (root / "generated.py").write_text("", encoding="utf-8")
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def wheel(folder: Path) -> None:
    """A package without a build."""
    with zipfile.ZipFile(folder / "old_library-1.2.0-py3-none-any.whl", "w") as archive:
        information = "old_library-1.2.0.dist-info"
        archive.writestr("old_library.py", "VERSION = '1.2.0'\n")
        archive.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: old-library\nVersion: 1.2.0\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")


def test_a_revision_is_laid_out_from_the_objects_alone_and_the_repository_stays_as_it_is(
    repository: Path, tmp_path: Path
) -> None:
    before = contents(repository)
    base = find("HEAD~1", repository, tmp_path)
    tree = base.lay_out(tmp_path)
    assert (tree / "module.py").read_text(encoding="utf-8") == "old"
    assert not (tree / "generated.py").exists()
    assert contents(repository) == before


def test_a_revision_is_found_from_a_directory_inside_and_named_by_what_was_asked_and_its_commit(
    repository: Path, tmp_path: Path
) -> None:
    inside = repository / "inside"
    inside.mkdir()
    base = find("HEAD~1", inside, tmp_path)
    assert isinstance(base, Revision)
    assert base.repository == str(repository.resolve())
    assert base.commit == git(repository, "rev-parse", "HEAD~1")
    assert base.label == f"HEAD~1 ({base.commit[:10]})"


def test_a_hook_s_index_and_work_tree_are_left_alone(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"GIT_DIR": ".git", "GIT_INDEX_FILE": ".git/index", "GIT_WORK_TREE": "."}.items():
        monkeypatch.setenv(name, str(repository / value))
    before = contents(repository)
    tree = find("HEAD~1", repository, tmp_path).lay_out(tmp_path)
    assert (tree / "module.py").read_text(encoding="utf-8") == "old"
    assert contents(repository) == before


def test_a_file_that_archives_leave_out_is_laid_out_all_the_same(repository: Path, tmp_path: Path) -> None:
    (repository / ".gitattributes").write_text("module.py export-ignore\n", encoding="utf-8")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message", "attributes")
    assert (find("HEAD", repository, tmp_path).lay_out(tmp_path) / "module.py").exists()


def test_a_linked_work_tree_has_the_objects_of_its_repository(repository: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    git(repository, "worktree", "add", "--quiet", "--detach", str(linked))
    base = find("HEAD~1", linked, tmp_path)
    assert isinstance(base, Revision)
    assert base.repository == str(linked.resolve())
    assert (base.lay_out(tmp_path) / "module.py").read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize("asked", ["no-such-branch", "--all", "HEAD~7"])
def test_an_unknown_revision_is_told_in_one_line(repository: Path, tmp_path: Path, asked: str) -> None:
    with pytest.raises(OptcheckError, match=f"--optcheck-base {asked}: git knows no such revision") as error:
        find(asked, repository, tmp_path)
    assert "\n" not in str(error.value)
    assert f"a directory is written ./{asked}" in str(error.value)


def test_a_place_without_a_repository_is_told_with_the_words_of_git(tmp_path: Path) -> None:
    with pytest.raises(OptcheckError, match=r"--optcheck-base HEAD: git finds no work tree at .*not a git repository"):
        find("HEAD", tmp_path, tmp_path)


def test_a_machine_without_git_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OptcheckError, match="needs git"):
        find("HEAD", tmp_path, tmp_path)


def test_objects_that_are_gone_are_told_with_the_words_of_git(repository: Path, tmp_path: Path) -> None:
    base = find("HEAD~1", repository, tmp_path)
    shutil.rmtree(repository / ".git" / "objects")
    with pytest.raises(OptcheckError, match="git cannot lay out the base revision: fatal: "):
        base.lay_out(tmp_path)


def test_a_directory_is_what_begins_as_one_relative_to_where_pytest_was_started(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    base = find("./old", tmp_path / "elsewhere", tmp_path)
    assert base == Directory("./old", str((tmp_path / "old").resolve()))
    assert (base.label, base.home) == ("./old", "./old")
    assert base.lay_out(tmp_path) == (tmp_path / "old").resolve()
    assert find(str(tmp_path / "old"), tmp_path, tmp_path) == Directory(str(tmp_path / "old"), base.path)


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(OptcheckError, match=r"--optcheck-base \./old: there is no directory .*old"):
        find("./old", tmp_path, tmp_path)


def test_a_name_that_is_both_a_directory_and_a_branch_is_the_branch(repository: Path, tmp_path: Path) -> None:
    git(repository, "branch", "docs", "HEAD~1")
    (repository / "docs").mkdir()
    assert isinstance(find("docs", repository, tmp_path), Revision)


def test_a_release_is_installed_without_what_it_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    base = find("pip:old-library==1.2.0", tmp_path, tmp_path)
    assert base == Release("old-library==1.2.0")
    assert base.label == base.home == "old-library==1.2.0"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert (base.lay_out(scratch) / "old_library.py").exists()


def test_a_release_that_pip_does_not_find_is_told_in_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(OptcheckError, match=r"pip cannot install old-library==1\.2\.0: ERROR: No matching") as error:
        Release("old-library==1.2.0").lay_out(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("asked", ["pip:", "pip:old-library", "pip:old-library>=1", "pip:--index-url==x"])
def test_a_release_without_its_version_is_told_how_to_write_it(asked: str, tmp_path: Path) -> None:
    with pytest.raises(OptcheckError, match="expected pip:NAME==VERSION"):
        find(asked, tmp_path, tmp_path)


@pytest.mark.parametrize(
    "base", [Revision("HEAD", "a" * 40, "/r", "/r/.git/objects", "sha1"), Directory("./d", "/d"), Release("x==1")]
)
def test_a_base_travels_as_plain_data(base: revisions.Base) -> None:
    assert decode(msgspec.to_builtins(base)) == base


def test_what_git_ignores_is_known(repository: Path) -> None:
    assert is_ignored(repository / "generated.py", repository)
    assert not is_ignored(repository / "module.py", repository)


def test_git_is_told_nothing_of_a_hook_but_its_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_INDEX_FILE", "index")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "config")
    found = {name for name in revisions._environment() if name.startswith("GIT_")}  # noqa: SLF001 - what git is given
    assert found == {"GIT_CONFIG_GLOBAL", "GIT_TERMINAL_PROMPT", "GIT_NO_LAZY_FETCH", "GIT_OPTIONAL_LOCKS"}
