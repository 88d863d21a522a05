"""How often a compiled step is compiled again because the learning rate is another one."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import torch

from pytest_optcheck.cost.meters import Unmetered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_optcheck.cost.subject import Subject

SETTLED = 4
"""Updates before anything is counted: the first makes the state, the next ones meet it for the first time, and twice
a number that changed is compiled for."""

RATES = 4
"""Updates, each under another learning rate, that may not compile anything again."""


def count(subject: Subject) -> int:
    """Graphs compiled in `RATES` updates under changing learning rates, after `SETTLED` under one.

    What decides is the compiler's front end, which has the guards; so nothing is generated, and no C++ compiler is
    needed. All that was compiled in this process is forgotten, before and after.
    """
    with _forgetting(), _quiet():
        subject.optimizer.step = torch.compile(subject.optimizer.step, backend="eager")
        for _ in range(SETTLED):
            subject.update(Unmetered())
        before = _graphs()
        for _ in range(RATES):
            subject.halve_rates()
            subject.update(Unmetered())
        return _graphs() - before


@contextlib.contextmanager
def _forgetting() -> Iterator[None]:
    """Nothing is compiled before, and nothing of it is kept."""
    torch._dynamo.reset()  # noqa: SLF001 - torch's name for it
    try:
        yield
    finally:
        torch._dynamo.reset()  # noqa: SLF001 - ditto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing is logged: the compiler tells on the terminal what it leaves out."""
    former = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(former)


def _graphs() -> int:
    """Graphs that were compiled in this process since the counters were last reset."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])  # noqa: SLF001 - torch's name for it
