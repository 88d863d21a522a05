"""Keeps timed blocks and everything else that this plugin computes apart, over all processes and users of a machine.

A case that is checked holds its device's lock shared, a timed block holds it exclusively. The lock is the kernel's
(``flock``): it ends with the process that holds it, however that ends. SQLite's, which `filelock.ReadWriteLock` is
made of, leaves a file that only its first user may open, and takes 210 µs where this takes 10.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

try:
    import fcntl
except ImportError:  # Windows: no timing there, and nothing to keep apart
    fcntl = None  # type: ignore[assignment] # mypy has it a module

if TYPE_CHECKING:
    from collections.abc import Iterator

CPU = "cpu"
"""The device that every step is launched from."""

PATIENCE_S = 120.0
"""A lock is waited for so long: a case takes seconds, so who holds it for longer has been stopped."""

PAUSE_S = 0.002
"""Between two looks at a lock that is taken."""

SHARED_PATIENCE_S = 15.0
"""A timed block takes seconds; who holds a device for longer was stopped, and cases go on without the lock."""

_forsaken: set[tuple[Path, str, bool]] = set()
"""Folder and device of locks that were waited for in vain, and whether to hold them exclusively: a stopped process may
hold one for hours, and not every case of a run is to wait for it again."""


class NoLockError(Exception):
    """The lock cannot be had; its text says why, in a few words."""


@contextlib.contextmanager
def sharing(device: str) -> Iterator[None]:
    """Hold off the timing of steps on a device, named as of `DeviceLock`, in all processes of this machine.

    Whoever times steps must have left the block: this process would wait for itself.
    """
    with DeviceLock(device, patience_s=SHARED_PATIENCE_S).shared():
        yield


@dataclass(frozen=True, slots=True)
class DeviceLock:
    """The lock of one device.

    Attributes:
        device: what tells devices of this machine apart: `CPU`, or the identity of a GPU.
        folder: where the files of the lock lie; the same for everyone on this machine.
        patience_s: see `PATIENCE_S`. After a wait in vain this process tries without waiting, until it gets the lock.
    """

    device: str
    folder: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    patience_s: float = PATIENCE_S

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Hold off timed blocks during the block. Where there is no lock to be had, do without."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(NoLockError), self._waiting(exclusive=False) as deadline:
                # Behind a block that waits to start.
                with self._held(self.device, "gate", exclusive=False, deadline=deadline):
                    pass
                stack.enter_context(self._held(self.device, "lock", exclusive=False, deadline=deadline))
            yield

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold off everything else on the device during the block, and every other timed block of this machine.

        A step on a GPU is launched by the CPU, so the time of one on two GPUs is that of two on the CPU.

        It must not be entered where this process holds the lock already.

        Raises:
            NoLockError: the lock cannot be had; before the block is entered.
        """
        with contextlib.ExitStack() as stack:
            with self._waiting(exclusive=True) as deadline:
                for device in dict.fromkeys((CPU, self.device)):
                    # New cases wait at the gate meanwhile, so that those of two busy processes do not overlap forever.
                    with self._held(device, "gate", exclusive=True, deadline=deadline):
                        stack.enter_context(self._held(device, "lock", exclusive=True, deadline=deadline))
            yield

    @contextlib.contextmanager
    def _waiting(self, *, exclusive: bool) -> Iterator[float]:
        """Until when to wait for what is taken in the block; remembers whether that was in vain."""
        key = (self.folder, self.device, exclusive)
        try:
            yield time.monotonic() + (0.0 if key in _forsaken else self.patience_s)
        except NoLockError:
            _forsaken.add(key)
            raise
        _forsaken.discard(key)

    @contextlib.contextmanager
    def _held(self, device: str, part: str, *, exclusive: bool, deadline: float) -> Iterator[None]:
        if fcntl is None:
            raise NoLockError("this system has no flock")
        path = self.folder / f"pytest-optcheck-{device}.{part}"
        descriptor = _locked(path, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH, deadline)
        try:
            yield
        finally:
            # Closing alone would leave it with a child that was forked meanwhile.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _locked(path: Path, how: int, deadline: float) -> int:
    """A descriptor of the file at `path`, locked."""
    while True:
        try:
            descriptor = _opened(path)
        except OSError as error:
            raise NoLockError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            if _taken(descriptor, how, deadline) and _is_at(path, descriptor):
                return descriptor
        except OSError as error:
            os.close(descriptor)
            raise NoLockError(f"{path} cannot be locked: {error.strerror}") from error
        os.close(descriptor)
        if time.monotonic() >= deadline:
            mend = f"a stopped pytest? `fuser {path}` finds it; resume or end it"
            raise NoLockError(f"{path} is held by another process, {mend}")


def _opened(path: Path) -> int:
    """A descriptor of the file at `path`, made if need be; reading is all that a lock asks for."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        # Where everybody may write, the kernel lets nobody open another user's file with O_CREAT.
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, flags)
        with contextlib.suppress(FileExistsError):  # another process was faster
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
            os.fchmod(descriptor, 0o644)  # whatever the umask
            return descriptor


def _taken(descriptor: int, how: int, deadline: float) -> bool:
    """Whether the lock was got before `deadline`."""
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(PAUSE_S)


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the file is still the one at `path`: temporary directories are swept."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
