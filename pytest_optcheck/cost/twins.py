"""Both sides of a comparison, each in a process of its own, all forked from the same one.

Twins are alike in what makes two processes of the same code differ for as long as they live: hash seeds, where things
lie in memory, what is imported and in which order. And torch is imported once for all of them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import traceback
import warnings
from typing import TYPE_CHECKING, Any

from pytest_optcheck.cost.commands import Commands
from pytest_optcheck.cost.replies import answer
from pytest_optcheck.errors import FOREIGN, OptcheckError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection

    from pytest_optcheck.cost.imports import RevisionFinder
    from pytest_optcheck.cost.places import Place
    from pytest_optcheck.cost.replies import Reply
    from pytest_optcheck.cost.stopwatch import Sample

START = "fork" if sys.platform.startswith("linux") else "spawn"
"""How processes start: elsewhere a fork breaks what system libraries keep in threads."""

ENOUGH_S = 5.0
"""Seconds that a process has to end of its own accord."""


class Twin:
    """A process at its place, which does what it is asked; also a `stopwatch.Side`, once it was prepared."""

    def __init__(self, place: Place) -> None:
        """Start it."""
        context: Any = multiprocessing.get_context(START)
        self._channel, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._channel, place))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside a thread, which only reads a pipe
            self._process.start()
        theirs.close()

    def send(self, command: str, arguments: dict[str, Any]) -> None:
        """Ask it for something; `receive` the reply before anything else."""
        with contextlib.suppress(BrokenPipeError):  # `receive` will tell
            self._channel.send((command, arguments))

    def receive(self) -> Reply:
        """What became of it."""
        try:
            reply: Reply = self._channel.recv()
        except (EOFError, ConnectionResetError):
            self._process.join(ENOUGH_S)
            return "broken", f"its process ended, with exit code {self._process.exitcode}"
        return reply

    def ask(self, command: str, **arguments: Any) -> Any:  # noqa: ANN401 - any plain data
        """Ask and wait for the answer.

        Raises:
            OptcheckError: as the command.
            SideError: the command raised something else, or the process has ended.
        """
        self.send(command, arguments)
        return answer(self.receive())

    def fresh(self) -> float:
        """As of `stopwatch.Side`."""
        return float(self.ask("fresh"))

    def sample(self, steps: int) -> Sample:
        """As of `stopwatch.Side`."""
        found: Sample = self.ask("sample", steps=steps)
        return found

    def leave(self) -> None:
        """As of `stopwatch.Side`."""
        self.ask("leave")

    def end(self) -> None:
        """End the process, whatever it is at."""
        self._process.terminate()
        self._process.join(ENOUGH_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._channel.close()


@contextlib.contextmanager
def twins(places: Sequence[Place]) -> Iterator[list[Twin]]:
    """A process at each place, for the length of the block."""
    with contextlib.ExitStack() as stack:
        made = []
        for place in places:
            made.append(Twin(place))
            stack.callback(made[-1].end)
        yield made


def _serve(channel: Connection, other_end: Connection, place: Place) -> None:
    """The life of a twin: until it is ended, or nobody holds the other end."""
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        other_end.close()  # or this process would itself be one that holds it
        finder = place.enter()
        commands = Commands()
        while True:
            command, arguments = channel.recv()
            channel.send(_done(commands, finder, command, arguments))


def _done(commands: Commands, finder: RevisionFinder | None, command: str, arguments: dict[str, Any]) -> Reply:
    if command == "borrowed":
        return "done", sorted(finder.borrowed) if finder is not None else []
    try:
        return "done", getattr(commands, command)(**arguments)
    except OptcheckError as error:
        return "refused", str(error)
    except FOREIGN as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return "broken", f"{one_line(error)} ({where.filename}, line {where.lineno})"
