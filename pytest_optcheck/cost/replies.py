"""What comes back from another process that was asked for something. Imports neither torch nor pytest."""

from __future__ import annotations

from typing import Any, Literal

from pytest_optcheck.errors import OptcheckError

Reply = tuple[Literal["done", "refused", "broken"], Any]
"""What became of a command: its answer, what the user has to know, or how it broke down, in a line."""


class SideError(Exception):
    """A side of a comparison broke down, or the process of both; the text says how, in one line."""


def answer(reply: Reply) -> Any:  # noqa: ANN401 - what the command returns
    """The answer in a reply.

    Raises:
        OptcheckError: the command was refused.
        SideError: it broke down.
    """
    kind, found = reply
    if kind == "refused":
        raise OptcheckError(found)
    if kind == "broken":
        raise SideError(found)
    return found
