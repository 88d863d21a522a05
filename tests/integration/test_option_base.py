"""An optimizer against its old code, through a second process, in a git repository that stays as it is."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from base_repository import PROJECT, SPEC, Repository

from pytest_optcheck import basing, workloads
from pytest_optcheck.cases import BASE, Case, Result
from pytest_optcheck.cost import revisions
from pytest_optcheck.cost.base import Asked, BaseAnswer, compare_with_base
from pytest_optcheck.cost.figures import LISTS, TEN
from pytest_optcheck.cost.figures import ZOO as ZOO_LIST
from pytest_optcheck.cost.peer import Peer
from pytest_optcheck.costing import answer
from pytest_optcheck.judge import Verdict
from pytest_optcheck.specs import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sample import Project

    from pytest_optcheck.settings import Settings

ENDS_S = 60.0
"""An interrupted process is waited for so long; on a busy machine it may be importing torch."""

ZOO = workloads.BUILTIN["zoo"]

DRIVER = f"""
import sys
from pathlib import Path
from pytest_optcheck.cost import revisions
from pytest_optcheck.cost.peer import Peer
sys.path.insert(0, "src")
with Peer(revisions.find("HEAD~1", Path(), Path())) as peer:
    print("starting", flush=True)
    peer.time("{SPEC}", "cpu", {{}})
    print("timing", flush=True)
    for _ in range(0 if sys.argv[1] == "ending" else 10**9):
        peer.time("{SPEC}", "cpu", {{}})
    print("ending", flush=True)
print("ended", flush=True)
"""
"""Compares times without an end, unless the end is what is asked for."""


@dataclass(frozen=True)
class Session:
    """What one peer answered, and what it left."""

    answers: dict[str, BaseAnswer]
    before: dict[str, str]
    after: dict[str, str]
    left: list[str]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """One second process, asked for all that the tests want to know."""
    repository = Repository(tmp_path_factory.mktemp("base") / "repository")
    scratch = tmp_path_factory.mktemp("scratch")
    specs = (SPEC, "torch.optim:Adam(lr=0.01)", "descent.newer:Newer()")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(scratch))
        patch.chdir(repository.root)
        patch.syspath_prepend(repository.root / "src")
        before = repository.fingerprint()
        with Peer(revisions.find("HEAD~1", repository.root, repository.root)) as peer:
            answers = {spec: compare_with_base(Asked(parse(spec), ZOO), peer) for spec in specs}
        yield Session(answers, before, repository.fingerprint(), list(map(str, scratch.glob("*base*"))))


def test_a_host_sync_that_the_last_commit_added_is_named(session: Session) -> None:
    counts = session.answers[SPEC].counts
    assert counts is not None
    assert "ten, warm: 0 → 10 syncs" in counts.heavier
    assert any("+10 _local_scalar_dense" in line and line.startswith("ten, warm") for line in counts.heavier)
    assert not counts.lighter


def test_the_same_rule_gives_the_same_curve(session: Session) -> None:
    verdict = session.answers[SPEC].verdict
    assert (verdict.kind, verdict.largest) == ("match", 0.0)


def test_a_slower_step_is_named(session: Session) -> None:
    answer = session.answers[SPEC]
    if "other programs" in answer.untimed:
        pytest.skip(answer.untimed)
    assert answer.time is not None
    if answer.time.answer == "cannot tell":
        pytest.skip(answer.time.reason)
    assert answer.time.answer == "slower"
    assert answer.time.low > 1.02


def test_code_from_elsewhere_is_told_to_be_the_same_on_both_sides(session: Session) -> None:
    line = session.answers["torch.optim:Adam(lr=0.01)"].incomparable
    assert line.startswith("torch.optim:Adam is not in the repository, it comes from ")
    assert line.endswith(": both sides are the same code")


def test_what_only_the_work_tree_has_cannot_be_compared(session: Session) -> None:
    line = session.answers["descent.newer:Newer()"].incomparable
    assert line.startswith("not in HEAD~1 (")
    assert "No module named 'descent.newer' in the base revision" in line


def test_the_repository_stays_as_it_is_and_nothing_stays_behind(session: Session) -> None:
    assert session.after == session.before
    assert session.left == []


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    """The cases that would be compared; every one of them comes out as changed."""
    cases: list[Case] = []

    def check(case: Case, settings: Settings) -> list[Result]:
        cases.append(case)
        return [answer(case, settings, BASE, Verdict("changed"), findings=("git ignores it",))]

    monkeypatch.setattr(basing, "check", check)
    return cases


def test_the_option_alone_asks_for_the_check_and_the_notes_are_printed(project: Project, compared: list[Case]) -> None:
    result = project.run("--optcheck-base=.")
    assert [case.workload for case in compared] == ["bowl", "bowl"]
    result.assert_outcomes(failed=2, deselected=3)
    result.stdout.fnmatch_lines(["  noted:         git ignores it", "* optcheck *", "2 noted: git ignores it"])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ([], (True, LISTS, True)),
        (["-o", "optcheck_cost=timing"], (True, (), True)),
        (["-o", "optcheck_cost=none"], (True, (), False)),
        (["--optcheck-route=counts"], (False, LISTS, False)),
        (["--optcheck-route=timing"], (False, (), True)),
        (["--optcheck-route=float64"], (True, (), False)),
        (["--optcheck-profile=quick"], (True, (ZOO_LIST, TEN), False)),
        (["--optcheck-workload=linear"], (True, LISTS, True)),
        (["-o", "optcheck_optimizers=", "--optcheck-discover=toy"], (True, LISTS, True)),
    ],
)
def test_what_other_options_leave_out_is_not_compared(
    project: Project, compared: list[Case], how: list[str], expected: tuple[object, ...]
) -> None:
    project.set("cost", None)
    project.set("routes", None)
    project.run("--optcheck-base=.", *how)
    assert {(bool(case.scope.dtypes), case.scope.counted, case.scope.timed) for case in compared} == {expected}


def test_a_route_that_no_base_is_compared_on_is_a_usage_error(project: Project, compared: list[Case]) -> None:
    result = project.run("--optcheck-base=.", "--optcheck-route=resume")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --optcheck-base has nothing to compare here: *float64, counts and timing*"])
    assert compared == []


def test_a_narrowed_run_prints_the_command_that_is_narrowed_as_well(project: Project, compared: list[Case]) -> None:
    narrowed = project.run("--optcheck-base=.", "--optcheck-workload=linear")
    first = [(case.spec, case.workload) for case in compared]
    project.obey(narrowed, "reproduce")
    assert [(case.spec, case.workload) for case in compared[len(first) :]] == first[-1:]


@pytest.mark.slow
def test_the_option_fails_with_both_named_and_leaves_the_repository_as_it_is(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    before = repository.fingerprint()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--optcheck", "--optcheck-base", "HEAD~1"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=repository.root, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert "ten, warm: 0 → 10 syncs" in done.stdout
    assert "× the time of HEAD~1 (" in done.stdout or "step times: " in done.stdout
    assert repository.fingerprint() == before


@pytest.mark.slow
def test_a_directory_with_the_old_code_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository, old = Repository(tmp_path / "repository"), tmp_path / "old"
    shutil.copytree(PROJECT / "src", old, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(repository.root / "src")
    before = sorted(old.rglob("*"))
    assert _heavier("./old", tmp_path)
    assert sorted(old.rglob("*")) == before


@pytest.mark.slow
def test_a_release_with_the_old_code_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Repository(tmp_path / "repository")
    _wheel(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.syspath_prepend(repository.root / "src")
    assert _heavier("pip:descent==1.0", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["starting", "timing", "ending"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interruption_leaves_nothing_behind(tmp_path: Path, moment: str, how: signal.Signals) -> None:
    repository = Repository(tmp_path / "repository")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    before = repository.fingerprint()
    environment = {**os.environ, "TMPDIR": str(scratch), "PYTHONDONTWRITEBYTECODE": "1"}
    driver = subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", DRIVER, moment],
        cwd=repository.root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _wait_for(driver, moment, scratch)
    if how is signal.SIGINT:
        os.killpg(driver.pid, how)  # as a terminal does
    else:
        driver.send_signal(how)
    output, complaints = driver.communicate(timeout=ENDS_S)
    assert moment == "ending" or "ending" not in output
    assert complaints.count("Traceback") <= 1, "only the driver itself has anything to say"
    deadline = time.monotonic() + ENDS_S
    while (left := [*scratch.glob("*base*"), *_processes(scratch)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    assert repository.fingerprint() == before


def _heavier(asked: str, start: Path) -> bool:
    """Whether the last commit is found to wait ten times more than what was asked for."""
    with Peer(revisions.find(asked, start, start)) as peer:
        counts = compare_with_base(Asked(parse(SPEC), ZOO, timed=False), peer).counts
    return counts is not None and "ten, warm: 0 → 10 syncs" in counts.heavier


def _wheel(folder: Path) -> None:
    """The old code as a release."""
    with zipfile.ZipFile(folder / "descent-1.0-py3-none-any.whl", "w") as archive:
        for path in (PROJECT / "src" / "descent").glob("*.py"):
            archive.write(path, f"descent/{path.name}")
        information = "descent-1.0.dist-info"
        archive.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: descent\nVersion: 1.0\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")


def _wait_for(driver: subprocess.Popen[str], moment: str, scratch: Path) -> None:
    """Return in the midst of what the driver announces."""
    assert driver.stdout is not None
    for line in driver.stdout:
        if line.strip() == moment:
            break
    if moment == "starting":
        while not list(scratch.glob("*base*")):
            time.sleep(0.01)
    if moment == "timing":
        time.sleep(0.5)


def _processes(scratch: Path) -> list[str]:
    """Processes whose temporary directory it is."""
    mark = f"TMPDIR={scratch}".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in environment.read_bytes().split(b"\0"):
                found.append(environment.parent.name)
        except OSError:  # it has ended, or is another user's
            continue
    return found
