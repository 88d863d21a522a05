from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING

import pytest

from pytest_optcheck.cost import locks
from pytest_optcheck.cost.locks import DeviceLock, NoLockError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLDER = """
import sys, time
from pathlib import Path
from pytest_optcheck.cost.locks import DeviceLock

with getattr(DeviceLock("cpu", Path(sys.argv[1])), sys.argv[2])():
    print("held", flush=True)
    time.sleep(60)
"""

LOOPER = """
import sys, time
from pathlib import Path
from pytest_optcheck.cost.locks import DeviceLock

lock = DeviceLock("cpu", Path(sys.argv[1]))
print("held", flush=True)
while True:  # cases one after the other, without a moment between them
    with lock.shared():
        time.sleep(0.03)
"""


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes to be ended with the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def start(processes: list[subprocess.Popen[str]], code: str, *arguments: str) -> subprocess.Popen[str]:
    """Another process, as soon as it holds what it is to hold."""
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own interpreter and code
    processes.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def lock(folder: Path, patience_s: float = 0.05) -> DeviceLock:
    return DeviceLock("cpu", folder, patience_s)


def free(folder: Path) -> bool:
    """Whether a timed block could start."""
    try:
        with lock(folder).exclusive():
            return True
    except NoLockError:
        return False


def test_cases_run_side_by_side_and_keep_a_timed_block_waiting(tmp_path: Path) -> None:
    with lock(tmp_path).shared():
        with lock(tmp_path, 10.0).shared():
            assert not free(tmp_path)
        assert not free(tmp_path)
    assert free(tmp_path)


def test_a_timed_block_excludes_another_of_any_process(tmp_path: Path, processes: list[subprocess.Popen[str]]) -> None:
    start(processes, HOLDER, str(tmp_path), "exclusive")
    with pytest.raises(NoLockError, match=r"pytest-optcheck-cpu\.lock is held by another process"):
        lock(tmp_path).exclusive().__enter__()


def test_a_case_waits_for_the_timed_block_of_another_process(tmp_path: Path) -> None:
    order = []
    inside = threading.Event()

    def block() -> None:
        with lock(tmp_path).exclusive():
            inside.set()
            time.sleep(0.1)
            order.append("block")

    thread = threading.Thread(target=block)
    thread.start()
    inside.wait()
    with lock(tmp_path, 10.0).shared():
        order.append("case")
    thread.join()
    assert order == ["block", "case"]


def test_a_case_whose_patience_ends_goes_on_without_the_lock(tmp_path: Path) -> None:
    with lock(tmp_path).exclusive(), lock(tmp_path).shared():
        assert not free(tmp_path)


def test_a_killed_process_leaves_nothing_locked(tmp_path: Path, processes: list[subprocess.Popen[str]]) -> None:
    holder = start(processes, HOLDER, str(tmp_path), "exclusive")
    assert not free(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert free(tmp_path)


def test_a_forked_child_that_lives_on_leaves_nothing_locked(tmp_path: Path) -> None:
    with lock(tmp_path).exclusive():
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
    try:
        assert free(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_timed_block_starts_although_other_processes_check_case_after_case(
    tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    for _ in range(3):
        start(processes, LOOPER, str(tmp_path))
    for _ in range(5):
        with lock(tmp_path, 5.0).exclusive():
            pass


def test_cases_on_one_device_do_not_wait_for_a_timed_block_on_another(tmp_path: Path) -> None:
    started = time.monotonic()
    with lock(tmp_path).exclusive(), DeviceLock("gpu-1", tmp_path, 60.0).shared():
        assert time.monotonic() - started < 10


@pytest.mark.parametrize("other", ["cpu", "gpu-2"])
def test_no_two_devices_are_timed_at_once(tmp_path: Path, other: str) -> None:
    with DeviceLock("gpu-1", tmp_path).exclusive(), pytest.raises(NoLockError, match=r"pytest-optcheck-cpu\."):
        DeviceLock(other, tmp_path, 0.05).exclusive().__enter__()
    with DeviceLock("gpu-1", tmp_path).exclusive(), DeviceLock("gpu-2", tmp_path, 0.05).shared():
        assert not free(tmp_path)


def test_a_case_on_a_gpu_keeps_its_timed_block_waiting(tmp_path: Path) -> None:
    gpu = DeviceLock("gpu-1", tmp_path, 0.05)
    with gpu.shared(), pytest.raises(NoLockError, match=r"pytest-optcheck-gpu-1\.lock is held"):
        gpu.exclusive().__enter__()
    assert free(tmp_path)


def test_a_stopped_process_that_holds_it_is_waited_for_once_and_found_by_the_message(
    tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    holder = start(processes, HOLDER, str(tmp_path), "shared")
    holder.send_signal(signal.SIGSTOP)
    waited_s = []
    for patience_s in (0.2, 60.0, 60.0):
        started_s = time.monotonic()
        with pytest.raises(NoLockError) as caught:
            lock(tmp_path, patience_s).exclusive().__enter__()
        waited_s.append(time.monotonic() - started_s)
        path = tmp_path / "pytest-optcheck-cpu.lock"
        mend = f"a stopped pytest? `fuser {path}` finds it; resume or end it"
        assert str(caught.value) == f"{path} is held by another process, {mend}"
    assert waited_s[0] >= 0.2
    assert max(waited_s[1:]) < 30.0
    holder.kill()
    holder.wait()
    assert free(tmp_path)


def test_once_it_was_had_again_it_is_waited_for_again(tmp_path: Path) -> None:
    with lock(tmp_path).shared(), pytest.raises(NoLockError):
        lock(tmp_path).exclusive().__enter__()
    assert free(tmp_path)
    started_s = time.monotonic()
    with lock(tmp_path).shared(), pytest.raises(NoLockError):
        lock(tmp_path, 0.2).exclusive().__enter__()
    assert time.monotonic() - started_s >= 0.2


def test_its_files_lie_in_the_temporary_directory_and_name_no_user() -> None:
    folder = DeviceLock("cpu").folder
    assert str(folder) == tempfile.gettempdir()
    with DeviceLock("cpu-of-a-test").shared():
        names = [path.name for path in folder.glob("pytest-optcheck-cpu-of-a-test*")]
    for name in names:
        (folder / name).unlink()
    assert sorted(names) == ["pytest-optcheck-cpu-of-a-test.gate", "pytest-optcheck-cpu-of-a-test.lock"]


def test_every_user_may_open_its_files_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0o077)
    try:
        with lock(tmp_path).shared():
            pass
    finally:
        os.umask(umask)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_file_that_may_only_be_read_can_be_locked(tmp_path: Path) -> None:
    for part in ("gate", "lock"):
        (tmp_path / f"pytest-optcheck-cpu.{part}").touch(0o444)
    with lock(tmp_path).exclusive():
        assert not free(tmp_path)


def test_a_file_swept_away_while_it_was_waited_for_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "pytest-optcheck-cpu.lock"
    inside = threading.Event()

    def block() -> None:
        with lock(tmp_path).exclusive():
            inside.set()
            time.sleep(0.1)
            path.unlink()

    thread = threading.Thread(target=block)
    thread.start()
    inside.wait()
    with lock(tmp_path, 10.0).exclusive():
        thread.join()
        assert path.exists()
        assert not free(tmp_path)


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "pytest-optcheck-cpu.gate").symlink_to(elsewhere)
    with pytest.raises(NoLockError, match="cannot be opened"):
        lock(tmp_path).exclusive().__enter__()
    assert not elsewhere.exists()


def test_without_a_folder_to_write_in_a_timed_block_says_why_and_a_case_goes_on(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(NoLockError, match=r"pytest-optcheck-cpu\.gate cannot be opened: No such file"):
        lock(nowhere).exclusive().__enter__()
    with lock(nowhere).shared():
        assert not nowhere.exists()


def test_on_a_system_without_flock_a_timed_block_says_so_and_a_case_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "fcntl", None)
    with pytest.raises(NoLockError, match="this system has no flock"):
        lock(tmp_path).exclusive().__enter__()
    with lock(tmp_path).shared():
        assert not list(tmp_path.iterdir())


def test_what_a_case_raises_is_not_taken_for_a_missing_lock(tmp_path: Path) -> None:
    with pytest.raises(NoLockError, match="of the case"), lock(tmp_path).shared():
        raise NoLockError("of the case")
    assert free(tmp_path)


def test_a_lock_that_nobody_gives_back_is_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(locks, "SHARED_PATIENCE_S", 0.2)
    monkeypatch.setattr(locks, "_forsaken", set())
    waited_s = []
    with DeviceLock("cpu").exclusive():
        for _ in range(2):
            started_s = time.monotonic()
            with locks.sharing("cpu"):
                waited_s.append(time.monotonic() - started_s)
    assert waited_s[0] >= 0.2
    assert waited_s[1] < 0.2
