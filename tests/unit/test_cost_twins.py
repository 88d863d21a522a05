from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch._dynamo  # noqa: F401 - which every twin would import for itself

from pytest_optcheck.cost import twins as module
from pytest_optcheck.cost.places import Place
from pytest_optcheck.cost.replies import SideError
from pytest_optcheck.cost.twins import Twin, twins
from pytest_optcheck.errors import OptcheckError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[Twin]:
    made = Twin(Place((str(tmp_path), *sys.path), str(tmp_path)))
    yield made
    made.end()


def test_a_twin_works_at_its_place_and_leaves_this_process_alone(twin: Twin, tmp_path: Path) -> None:
    (tmp_path / "placed.py").write_text("from sided import Old\n", encoding="utf-8")
    assert twin.ask("origins", spec="placed:Old()") == {"placed": str(tmp_path / "placed.py")}
    assert "placed" not in sys.modules
    assert not tmp_path.samefile(Path.cwd())
    assert not (tmp_path / "__pycache__").exists()


def test_what_the_user_has_to_know_comes_back_as_it_was_raised(twin: Twin) -> None:
    with pytest.raises(OptcheckError, match="no_such_module"):
        twin.ask("origins", spec="no_such_module:Old()")
    assert twin.ask("origins", spec="sided:Old()")


def test_what_breaks_down_comes_back_in_one_line_with_its_place(twin: Twin) -> None:
    with pytest.raises(
        SideError, match=r"^RuntimeError: nothing was prepared to be timed \(.*commands\.py, line \d+\)$"
    ):
        twin.ask("fresh")


def test_a_twin_that_is_gone_is_told_with_its_exit_code(twin: Twin) -> None:
    arguments = {"workload": "toys:Bowl", "device": "cpu", "needs": {}, "dtype": "float64"}
    with pytest.raises(SideError, match="its process ended, with exit code 7"):
        twin.ask("train", spec="sided:Leaves()", **arguments)
    with pytest.raises(SideError, match="its process ended"):
        twin.ask("origins", spec="sided:Old()")


def test_a_twin_is_a_side_of_a_timed_block(twin: Twin) -> None:
    twin.ask("prepare", spec="sided:Old()", device="cpu", needs={}, names=None)
    assert twin.fresh() > 0
    assert twin.sample(2).step_s > 0
    twin.leave()


def test_without_a_mirror_nothing_is_borrowed(twin: Twin) -> None:
    assert twin.ask("borrowed") == []


def test_what_is_borrowed_is_told(tmp_path: Path) -> None:
    work, tree = tmp_path / "work", tmp_path / "tree"
    for folder in (work, tree):
        (folder / "old").mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", str(work)], check=True)  # noqa: S603, S607 - git, as found
    (work / ".gitignore").write_text("version.py\n", encoding="utf-8")
    (work / "old" / "version.py").touch()
    (tree / "old" / "__init__.py").write_text("from sided import Old\nfrom . import version\n", encoding="utf-8")
    place = Place((str(tree), *sys.path), str(tree), mirror=(str(work), str(tree)), entries=(str(work), *sys.path))
    with twins([place]) as (made,):
        assert made.ask("origins", spec="old:Old()") == {"old": str(tree / "old" / "__init__.py")}
        assert made.ask("borrowed") == ["old.version"]


def test_all_are_ended_with_the_block_whatever_they_are_at(tmp_path: Path) -> None:
    place = Place(tuple(sys.path), str(tmp_path))
    with twins([place, place]) as made:
        made[0].send("needs", {"spec": "sided:Old()", "workload": "toys:Bowl", "device": "cpu"})
    for twin in made:
        assert not twin._process.is_alive()  # noqa: SLF001 - nothing else tells


def test_a_process_that_ignores_its_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENOUGH_S", 0.2)
    (tmp_path / "deaf.py").write_text(
        "import signal\nfrom sided import Old\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n", encoding="utf-8"
    )
    with twins([Place((str(tmp_path), *sys.path), str(tmp_path))]) as (made,):
        made.ask("origins", spec="deaf:Old()")
    assert made._process.exitcode == -9  # noqa: SLF001 - nothing else tells


def test_a_twin_ends_when_nobody_holds_the_other_end(twin: Twin) -> None:
    assert twin.ask("borrowed") == []
    twin._channel.close()  # noqa: SLF001 - as the kernel does when a process is killed
    twin._process.join(10)  # noqa: SLF001 - nothing public tells how it ended
    assert twin._process.exitcode == 0  # noqa: SLF001 - ditto


@pytest.mark.slow
def test_a_twin_that_is_no_fork_does_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START", "spawn")
    with twins([Place(tuple(sys.path), str(tmp_path))]) as (made,):
        assert list(made.ask("origins", spec="sided:Old()")) == ["sided"]
