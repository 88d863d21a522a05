from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_optcheck.cost.places import Place


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a place changes comes back after the test."""
    monkeypatch.chdir(Path.cwd())
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)


def test_a_place_is_an_import_path_and_a_working_directory(tmp_path: Path) -> None:
    path = (str(tmp_path), *sys.path)
    others = list(sys.meta_path)
    assert Place(path, str(tmp_path)).enter() is None
    assert sys.path == list(path)
    assert Path.cwd().samefile(tmp_path)
    assert sys.meta_path == others


@pytest.mark.parametrize("bytecode", [False, True])
def test_compiled_modules_are_left_only_where_that_is_allowed(tmp_path: Path, bytecode: bool) -> None:
    Place(tuple(sys.path), str(tmp_path), bytecode=bytecode).enter()
    assert sys.dont_write_bytecode is not bytecode


def test_a_mirror_is_asked_before_everything_else(tmp_path: Path) -> None:
    work, tree = tmp_path / "work", tmp_path / "tree"
    for folder in (work, tree):
        folder.mkdir()
    (work / "of_the_work_tree.py").touch()
    place = Place(tuple(sys.path), str(tree), mirror=(str(work), str(tree)), entries=(str(work), *sys.path))
    finder = place.enter()
    assert sys.meta_path[0] is finder
    assert finder is not None
    with pytest.raises(ModuleNotFoundError, match="in the base revision"):
        finder.find_spec("of_the_work_tree", None)
