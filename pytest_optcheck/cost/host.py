"""The life of the second process: the base is laid out, both sides are asked, everything is cleared up.

It owns what there is to be cleared up, and does so when it is told to end and when whoever started it is gone, however
that went: nothing stays behind where pytest is interrupted or killed. Imports torch once the base is laid out.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_optcheck.cost.imports import Mirror, WorkTree
from pytest_optcheck.cost.places import Place
from pytest_optcheck.cost.revisions import Directory, Revision, decode
from pytest_optcheck.errors import OptcheckError

if TYPE_CHECKING:
    from execnet.gateway_base import Channel

    from pytest_optcheck.cost.company import Company
    from pytest_optcheck.cost.revisions import Base

PREFIX = "pytest-optcheck-base-"
"""Of the name of the scratch directory."""


def serve(channel: Channel) -> None:
    """Do what `peer.Peer` asks for, until nobody asks any more.

    It sends the base, the import path and the working directory of its process, and gets two messages: process id
    and scratch directory at once, then what became of laying out. From then on there is a reply to each request.
    """
    _alone()
    company: Company | None = None
    scratch = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    try:
        channel.send((os.getpid(), str(scratch)))
        base, path, cwd = channel.receive()
        try:
            places = laid_out(decode(base), path, cwd, scratch)
        except OptcheckError as error:
            channel.send(("refused", str(error)))
            return
        company = _company(places)
        channel.send(("done", ""))
        for what, arguments in channel:
            channel.send(company.ask(**arguments) if what == "ask" else company.time(**arguments))
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):  # once is enough
            signal.signal(number, signal.SIG_IGN)
        if company is not None:
            company.close()
        os.chdir(tempfile.gettempdir())
        shutil.rmtree(scratch, ignore_errors=True)


def laid_out(base: Base, path: list[str], cwd: str, scratch: Path) -> dict[str, Place]:
    """The places of all sides.

    Args:
        base: the old code.
        path: the import path of the process that asks.
        cwd: its working directory.
        scratch: a directory for what has to be made.

    Raises:
        OptcheckError: the base is not to be had.
    """
    root = base.lay_out(scratch)
    here = Place(tuple(path), cwd)
    if isinstance(base, Revision):
        mirror = Mirror(WorkTree(Path(base.repository)), root)
        inside = mirror.image(Path(cwd)) if mirror.holds(Path(cwd)) else root
        there = Place(
            tuple(mirror.path(path)),
            str(inside if inside.is_dir() else root),
            mirror=(base.repository, str(root)),
            entries=tuple(path),
            bytecode=True,
        )
    else:
        there = Place((str(root), *path), cwd, bytecode=not isinstance(base, Directory))
    return {"new": here, "base": there, "again": there}


def _alone() -> None:
    """Leave the processes that Ctrl-C reaches; take a request to end as an interruption; say nothing.

    What optimizers print here belongs to no test, and what breaks down is told in a reply.
    """

    def end(*_: Any) -> NoReturn:  # noqa: ANN401 - signal and frame
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    if hasattr(os, "setsid"):
        os.setsid()


def _company(places: dict[str, Place]) -> Company:
    """Both sides, ready to be forked: whatever each of them would have to do first is done."""
    import torch

    from pytest_optcheck.cost.company import Company

    parameter = torch.nn.Parameter(torch.ones(1))
    parameter.grad = torch.ones(1)
    torch.optim.SGD([parameter], lr=0.1).step()  # the first optimizer imports as much of torch again
    gc.collect()
    gc.freeze()  # a collection in a twin looks at its own objects alone
    return Company(places)
