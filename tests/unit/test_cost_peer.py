from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from interpreter import imported

from pytest_optcheck.cost import imports, peer
from pytest_optcheck.cost.peer import Peer
from pytest_optcheck.cost.replies import SideError
from pytest_optcheck.cost.revisions import Directory, Release, Revision
from pytest_optcheck.errors import OptcheckError

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = """
import os, sys, tempfile, time
own, path = channel.receive()
channel.send((os.getpid(), tempfile.mkdtemp()))
base, sides_path, cwd = channel.receive()
channel.send(("done", ""))
for what, arguments in channel:
    if what == "time" and arguments["spec"] == "end":
        os._exit(3)
    if what == "time" and arguments["spec"] == "raise":
        raise RuntimeError("out of order")
    if what == "time" and arguments["spec"] == "sleep":
        time.sleep(60)
    told = {"pid": os.getpid(), "own": own, "path": path, "sides_path": sides_path, "cwd": cwd, "base": base}
    if what == "time":
        channel.send(("done", {**told, **arguments, "traced": os.environ.get("COV_CORE_SOURCE", "")}))
    else:
        channel.send([(side, {**told, "command": command, **asked}) for side, command, asked in arguments["questions"]])
"""
"""A host without sides: what it is asked, and what it was told, comes back."""

BASE = Directory("./old", "/old")


@pytest.fixture
def simple(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    """A peer of such a host."""
    monkeypatch.setattr(peer, "BEGINNING", HOST)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Peer(BASE) as made:
        yield made


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_nothing_is_started_before_it_is_asked(simple: Peer, tmp_path: Path) -> None:
    assert list(tmp_path.iterdir()) == []
    simple.close()


def test_a_command_and_its_arguments_reach_a_side(simple: Peer) -> None:
    found = simple.ask("done", "train", spec="x:X()", needs={"closure": True, "frozen": ("a",)})
    assert found["command"] == "train"
    assert (found["spec"], found["needs"]) == ("x:X()", {"closure": True, "frozen": ("a",)})


def test_answers_come_in_the_order_of_the_questions(simple: Peer) -> None:
    found = simple.ask_all([("done", "train", {"spec": "a"}), ("done", "train", {"spec": "b"})])
    assert [answer["spec"] for answer in found] == ["a", "b"]


def test_what_a_side_refuses_is_for_the_user(simple: Peer) -> None:
    with pytest.raises(OptcheckError):
        simple.ask("refused", "train")


def test_what_breaks_down_is_no_answer(simple: Peer) -> None:
    with pytest.raises(SideError):
        simple.ask("broken", "train")


def test_the_host_is_told_where_pytest_imports_from_and_works(simple: Peer) -> None:
    found = simple.time("x", "cpu", {})
    assert found["sides_path"] == imports.whole(sys.path)
    assert found["cwd"] == str(Path.cwd())
    assert found["base"] == {"type": "directory", "asked": "./old", "path": "/old"}
    assert Path(found["own"], "pytest_optcheck", "cost", "peer.py").exists()
    assert found["path"] == [*imports.whole(sys.path), found["own"]]


def test_what_runs_the_sides_imports_nothing_of_the_work_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "BEGINNING", HOST)
    monkeypatch.syspath_prepend(tmp_path / "src")
    with Peer(Revision("HEAD", "a" * 40, str(tmp_path), "", "sha1")) as made:
        found = made.time("x", "cpu", {})
    assert not [entry for entry in found["path"] if entry.startswith(str(tmp_path))]
    assert str(tmp_path / "src") in found["sides_path"]


def test_it_is_one_process_and_it_ends_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "BEGINNING", HOST)
    with Peer(BASE) as made:
        first, second = made.time("x", "cpu", {})["pid"], made.time("y", "cpu", {})["pid"]
        assert first == second
        assert runs(first)
    assert not runs(first)


def test_its_own_coverage_is_not_measured(simple: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COV_CORE_SOURCE", "somewhere")
    assert simple.time("x", "cpu", {})["traced"] == ""
    assert os.environ["COV_CORE_SOURCE"] == "somewhere"


def test_what_a_killed_process_left_is_swept(simple: Peer, tmp_path: Path) -> None:
    simple.time("x", "cpu", {})
    assert len(list(tmp_path.iterdir())) == 1
    simple.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("how", "words"), [("end", "the process of both sides ended"), ("raise", "^RuntimeError: out of order$")]
)
def test_a_process_that_is_gone_is_told_and_started_anew(simple: Peer, how: str, words: str) -> None:
    before = simple.time("x", "cpu", {})["pid"]
    with pytest.raises(SideError, match=words):
        simple.time(how, "cpu", {})
    assert simple.time("x", "cpu", {})["pid"] != before


def test_an_interrupted_request_leaves_no_answer_for_the_next(simple: Peer) -> None:
    before = simple.time("x", "cpu", {})["pid"]
    simple._busy = True  # noqa: SLF001 - as an interruption leaves it
    assert simple.time("y", "cpu", {})["spec"] == "y"
    assert not runs(before)


def test_closing_does_not_wait_for_what_is_under_way(simple: Peer) -> None:
    pid = simple.time("x", "cpu", {})["pid"]
    assert simple._channel is not None  # noqa: SLF001 - to interrupt it
    simple._channel.send(("time", {"spec": "sleep", "device": "cpu", "needs": {}}))  # noqa: SLF001 - ditto
    simple._busy = True  # noqa: SLF001 - ditto
    started = time.monotonic()
    simple.close()
    assert time.monotonic() - started < 4
    assert not runs(pid)


def test_a_base_that_is_not_to_be_had_is_told_every_time_and_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Peer(Release("old-library==1.2.0")) as made:
        for _ in range(2):
            with pytest.raises(OptcheckError, match=r"^pip cannot install old-library==1\.2\.0: ERROR: No matching"):
                made.ask("new", "borrowed")
            assert made._group is None  # noqa: SLF001 - nothing runs
    assert not list(tmp_path.glob("pytest-optcheck-base-*"))


@pytest.mark.parametrize("module", ["pytest_optcheck.cost.peer", "pytest_optcheck.cost.base"])
def test_pytest_s_process_imports_no_torch_for_it(module: str) -> None:
    assert imported(module, "torch", "numpy", "scipy", "pytest") == []
