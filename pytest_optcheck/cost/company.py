"""Both sides of a comparison in the second process: asked for what one side can do, and timed against each other."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

from pytest_optcheck.cost import versus
from pytest_optcheck.cost.control import NoTimingError
from pytest_optcheck.cost.locks import sharing
from pytest_optcheck.cost.replies import SideError, answer
from pytest_optcheck.cost.twins import Twin, twins
from pytest_optcheck.errors import OptcheckError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_optcheck.cost.places import Place
    from pytest_optcheck.cost.replies import Reply

    Question = tuple[str, str, dict[str, Any]]

NEW, BASE, AGAIN = SIDES = ("new", "base", "again")
"""The code under test, the old code, and the old code in another process: how far those two differ is noise."""


class TwinWatch:
    """A `versus.Watch` that asks a twin: a process that has asked a GPU for anything itself can no longer be forked."""

    def __init__(self, twin: Twin, device: str) -> None:
        """Watch a torch device, as text."""
        self._twin, self._device = twin, device

    @property
    def name(self) -> str:
        """As of `versus.Watch`."""
        return str(self._twin.ask("device", device=self._device))

    def trouble(self) -> str:
        """As of `versus.Watch`."""
        return str(self._twin.ask("trouble", device=self._device))


class Company:
    """The processes of all sides, each started when it is first asked.

    Attributes:
        places: of every side.
        sides: those that were asked.
    """

    def __init__(self, places: Mapping[str, Place]) -> None:
        """Nobody was asked yet."""
        self.places = places
        self.sides: dict[str, Twin] = {}

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Ask sides for something, all at once and each for one thing; their replies.

        Args:
            questions: side, command, arguments.
        """
        asked = [self._side(name) for name, _, _ in questions]
        for twin, (_, command, arguments) in zip(asked, questions, strict=True):
            twin.send(command, arguments)
        replies = [twin.receive() for twin in asked]
        for (name, _, _), (kind, _) in zip(questions, replies, strict=True):
            if kind == "broken":  # it may be in any state, or gone
                self.sides.pop(name).end()
        return replies

    def time(self, spec: str, device: str, needs: dict[str, Any]) -> Reply:
        """Compare step times: the fields of a `ratios.Decision`, or ``untimed`` with the reason why there is none."""

        @contextlib.contextmanager
        def first() -> Iterator[Sequence[Twin]]:
            made = [self._side(name) for name in SIDES]
            with sharing(watch.name):
                _prepare(made, spec, device, needs)
            yield made
            for twin in made:
                twin.ask("finish")

        @contextlib.contextmanager
        def second() -> Iterator[Sequence[Twin]]:
            with twins([self.places[name] for name in SIDES]) as made:
                with sharing(watch.name):
                    _prepare(made, spec, device, needs)
                yield made

        try:
            watch = TwinWatch(self._side(AGAIN), device)
            return "done", dataclasses.asdict(versus.compare(first, second, watch))
        except NoTimingError as error:
            return "done", {"untimed": str(error)}
        except OptcheckError as error:
            return "refused", str(error)
        except SideError as error:
            self.close()
            return "broken", str(error)

    def close(self) -> None:
        """End every process."""
        while self.sides:
            self.sides.popitem()[1].end()

    def _side(self, name: str) -> Twin:
        if name not in self.sides:
            self.sides[name] = Twin(self.places[name])
        return self.sides[name]


def _prepare(made: Sequence[Twin], spec: str, device: str, needs: dict[str, Any]) -> None:
    """Have every side ready to time steps, on the tensors that the old code takes.

    Raises:
        OptcheckError: the spec cannot be built.
        NoTimingError: the old code takes none of the tensors, or the new code does not take them.
    """
    for twin in made:  # they import at the same time
        twin.send("origins", {"spec": spec})
    for reply in [twin.receive() for twin in made]:
        answer(reply)
    new, *olds = made
    names = None
    for twin in (*olds, new):
        found = twin.ask("prepare", spec=spec, device=device, needs=needs, names=names)
        if found["refused"]:
            raise NoTimingError(f"the optimizer cannot be timed: {found['refused']}")
        names = found["names"]
