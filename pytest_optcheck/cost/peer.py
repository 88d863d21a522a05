"""The second process as pytest's process sees it: started when first asked, through execnet; ended with the session.

Imports neither torch nor pytest.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import execnet
import msgspec

import pytest_optcheck
from pytest_optcheck.cost.imports import WorkTree, whole
from pytest_optcheck.cost.replies import SideError, answer
from pytest_optcheck.cost.revisions import Revision
from pytest_optcheck.errors import OptcheckError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from pytest_optcheck.cost.revisions import Base

    Question = tuple[str, str, dict[str, Any]]

BEGINNING = """
import sys
own, path = channel.receive()
sys.path[:] = [own]
import pytest_optcheck
sys.path[:] = path
from pytest_optcheck.cost import host
host.serve(channel)
"""
"""What the process runs first: this package, wherever it is, and the import path for what it imports itself."""

ENOUGH_S = 30.0
"""Seconds that the process has to clear up and end. execnet interrupts after 5 what it is at when nobody told it."""

TRACERS = ("COV_CORE_", "COVERAGE_PROCESS_")
"""Variables by which a process measures its own coverage: that would be timed too."""


class Peer:
    """The second process of one pytest process; a context manager.

    Attributes:
        base: the old code.
    """

    def __init__(self, base: Base) -> None:
        """Nothing is started yet."""
        self.base = base
        self._group: execnet.Group | None = None
        self._channel: execnet.Channel | None = None
        self._pid = 0
        self._scratch = ""
        self._busy = False
        self._refused = ""

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As `close`."""
        self.close()

    def ask(self, side: str, command: str, **arguments: Any) -> Any:  # noqa: ANN401 - plain data
        """Ask one side for one of `commands.Commands`, or for the names of modules it ``borrowed``.

        Args:
            side: ``new`` or ``base``.
            command: name of the method.
            arguments: of the method, plain data.

        Raises:
            OptcheckError: as the command, or the base is not to be had.
            SideError: it broke down.
        """
        return self.ask_all([(side, command, arguments)])[0]

    def ask_all(self, questions: Sequence[Question]) -> list[Any]:
        """Ask both sides at once, each for one thing; raises as `ask`."""
        return [answer(reply) for reply in self._request("ask", questions=[list(asked) for asked in questions])]

    def time(self, spec: str, device: str, needs: dict[str, Any]) -> dict[str, Any]:
        """Compare step times: the fields of a `ratios.Decision`, or ``untimed``; raises as `ask`."""
        found: dict[str, Any] = answer(self._request("time", spec=spec, device=device, needs=needs))
        return found

    def close(self) -> None:
        """End the process, whatever it is at, and wait until it has cleared up."""
        group, self._group, self._channel = self._group, None, None
        if group is None:
            return
        try:
            if self._busy and self._pid:
                with contextlib.suppress(OSError):
                    os.kill(self._pid, signal.SIGTERM)
            group.terminate(timeout=ENOUGH_S)
        finally:
            if self._scratch:  # still there only where the process had to be killed
                shutil.rmtree(self._scratch, ignore_errors=True)
            atexit.unregister(self.close)
            self._pid, self._scratch, self._busy = 0, "", False

    def _request(self, what: str, **arguments: Any) -> Any:  # noqa: ANN401 - plain data
        if self._refused:
            raise OptcheckError(self._refused)
        if self._busy:  # the last request was interrupted
            self.close()
        channel = self._channel or self._start()
        return self._exchange(channel, (what, arguments))

    def _exchange(self, channel: execnet.Channel, message: object) -> Any:  # noqa: ANN401 - plain data
        self._busy = True
        try:
            channel.send(message)
            reply = channel.receive()
        except (EOFError, OSError) as error:
            self.close()
            raise SideError("the process of both sides ended") from error
        except channel.RemoteError as error:
            self.close()
            raise SideError(str(error).strip().splitlines()[-1]) from error
        self._busy = False
        return reply

    def _start(self) -> execnet.Channel:
        """Start the process and have the base laid out.

        Raises:
            OptcheckError: it is not to be had.
        """
        self._group = execnet.Group()
        atexit.register(self.close)  # execnet's own, which now comes after it, waits for a second only
        self._busy = True
        with _untraced():
            gateway = self._group.makegateway("popen//execmodel=main_thread_only")
        channel = gateway.remote_exec(BEGINNING)
        own, path = str(Path(pytest_optcheck.__file__).parents[1]), whole(sys.path)
        self._pid, self._scratch = self._exchange(channel, (own, [*self._outside(path), own]))
        kind, text = self._exchange(channel, (msgspec.to_builtins(self.base), path, str(Path.cwd())))
        if kind == "refused":
            self._refused = text
            self.close()
            raise OptcheckError(text)
        self._channel = channel
        return channel

    def _outside(self, path: list[str]) -> list[str]:
        """An import path without the work tree, which is for the sides alone."""
        if not isinstance(self.base, Revision):
            return path
        work = WorkTree(Path(self.base.repository))
        return [entry for entry in path if not work.holds(Path(entry))]


@contextlib.contextmanager
def _untraced() -> Iterator[None]:
    """Hide from a new process that coverage is measured in this one."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(TRACERS)}
    try:
        yield
    finally:
        os.environ.update(hidden)
