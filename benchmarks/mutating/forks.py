"""Work in forked processes, some at a time: each sends messages while it lives, and may die of what it does."""

from __future__ import annotations

import faulthandler
import gc
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from multiprocessing.context import ForkProcess

Key = TypeVar("Key")

Send = Callable[[Any], None]
"""Sends a message, which can be pickled, to the process that forked this one."""

MEMORY_BYTES = 4 << 30
"""What a process may allocate on top of what it was forked with: a list that grows without end must not take all."""

WALL_S = 900.0
"""After so long a process is ended, whatever it does: one that waits for something uses none of its limit."""

HANGS = -signal.SIGPROF
"""The exit code of a process that used up a limit of `limited`."""


@dataclass(slots=True)
class Ended(Generic[Key]):
    """A process that ended.

    Attributes:
        key: of the work.
        code: exit code; negative for a signal.
        messages: what it sent.
        wall_s: seconds from its start.
    """

    key: Key
    code: int
    messages: list[Any] = field(default_factory=list)
    wall_s: float = 0.0


def limited(cpu_s: float) -> None:
    """From now on this process may compute for `cpu_s` seconds, or it is ended with the exit code `HANGS`."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, cpu_s)


def each(work: Callable[[Key, Send], None], keys: Iterable[Key], jobs: int) -> Iterator[Ended[Key]]:
    """Do `work` for each of `keys` in a process of its own, `jobs` at a time; in the order in which they end.

    Args:
        work: is given a key and a function that sends a message, which can be pickled, to this process.
        keys: of the work; the next is taken when a process is free.
        jobs: processes at a time.
    """
    gc.collect()
    gc.freeze()  # what is shared with the processes stays shared: the collector would write into it
    waiting = iter(keys)
    running: dict[Connection, _Running[Key]] = {}
    try:
        while True:
            while len(running) < jobs and (started := _start(work, waiting)) is not None:
                running[started.receiver] = started
            if not running:
                return
            for receiver in wait(list(running), timeout=1.0):
                assert isinstance(receiver, Connection)  # noqa: S101 - nothing else was waited for
                if running[receiver].take():
                    yield running.pop(receiver).ended
            for one in running.values():
                if time.monotonic() - one.started_s > WALL_S:
                    one.process.kill()
    finally:
        for one in running.values():
            one.process.kill()
            one.process.join()
        gc.unfreeze()


@dataclass(slots=True)
class _Running(Generic[Key]):
    """A process at work."""

    process: ForkProcess
    receiver: Connection
    ended: Ended[Key]
    started_s: float

    def take(self) -> bool:
        """Take what it sent; whether it has ended."""
        try:
            self.ended.messages.append(self.receiver.recv())
        except (EOFError, OSError):
            self.process.join()
            self.ended.code = self.process.exitcode or 0
            self.ended.wall_s = time.monotonic() - self.started_s
            self.receiver.close()
            self.process.close()
            return True
        return False


def _start(work: Callable[[Key, Send], None], waiting: Iterator[Key]) -> _Running[Key] | None:
    try:
        key = next(waiting)
    except StopIteration:
        return None
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(work, key, receiver, sender))
    process.start()
    sender.close()
    return _Running(process, receiver, Ended(key, 0), time.monotonic())


def _run(work: Callable[[Key, Send], None], key: Key, receiver: Connection, sender: Connection) -> None:
    receiver.close()
    faulthandler.disable()  # how it dies is told by its exit code
    used = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    work(key, sender.send)
