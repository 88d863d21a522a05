"""The time of a step against that of the old code's step: a first look, and where that raises suspicion, a second.

Two processes of identical code differ lastingly, so the old code runs in two of them, which tells by how much; and
the second look is taken at processes that were started for it.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Protocol

from pytest_optcheck.cost.control import NoTimingError
from pytest_optcheck.cost.locks import DeviceLock, NoLockError
from pytest_optcheck.cost.ratios import BASE_MARGIN, Budget, Inquiry
from pytest_optcheck.cost.stopwatch import against_both, block, look

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from pytest_optcheck.cost.ratios import Decision
    from pytest_optcheck.cost.stopwatch import Side

    Company = Callable[[], AbstractContextManager[Sequence[Side]]]

SEED = 0
"""Of the orders in which the sides take turns."""


class Watch(Protocol):
    """What is known of the device, see `clock.Clock`; it may be asked in another process."""

    @property
    def name(self) -> str:
        """What tells it apart."""

    def trouble(self) -> str:
        """Why no time taken now would mean anything; empty where it would."""


def compare(first: Company, second: Company, watch: Watch) -> Decision:
    """Whether the new code's step is slower than the old code's.

    Args:
        first: gives the sides of the first look, each in a process of its own: the new code, the old, the old again.
        second: the same for the second look, in other processes; called only where there is one.
        watch: of the device; asked once the sides are there.

    Raises:
        NoTimingError: the device is not to be had for timing, or busy.
    """
    inquiry, shuffle, budget = Inquiry(BASE_MARGIN), Random(SEED), Budget()  # noqa: S311 - an order of measurement
    for company, confirming in ((first, False), (second, True)):
        if inquiry.open and inquiry.confirming is confirming and budget.left:
            with company() as sides:
                _look(inquiry, sides, shuffle, watch, budget)
    return inquiry.decision()


def _look(inquiry: Inquiry, sides: Sequence[Side], shuffle: Random, watch: Watch, budget: Budget) -> None:
    """Take a look at these sides, with the device to itself."""
    try:
        with DeviceLock(watch.name).exclusive():
            trouble = watch.trouble()
            if trouble:
                raise NoTimingError(trouble)
            look(inquiry, lambda: against_both(*block(sides, shuffle, alike=True)), budget)
    except NoLockError as error:
        raise NoTimingError(str(error)) from error
