"""Times steps: two or more sides in turns, in random order, in blocks of fresh instances.

Identical code differs by 6 to 23 % between two windows of a second, and by about 1 % between samples that take
turns. So nothing is ever timed alone: what counts is the ratio of two sides within one round, and of those ratios
the middle of a block.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import statistics
from itertools import combinations_with_replacement
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pytest_optcheck.cost.ratios import Block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from random import Random

    from pytest_optcheck.cost.ratios import Budget, Inquiry

SAMPLE_S = 2e-4
"""A sample lasts at least so long: long beside the clock, short beside a time slice of the scheduler."""

ROUNDS = 15
"""Rounds of a block."""

BLOCK_S = 0.1
"""Where a round takes so long that `ROUNDS` of them would last longer, a block has fewer."""

LEAST = 5
"""A block has at least so many rounds, and needs so many undisturbed ones to say anything."""


class Sample(NamedTuple):
    """What one side took in one round.

    Attributes:
        step_s: seconds a step.
        disturbed: something else ran in between, so the figure is not used.
    """

    step_s: float
    disturbed: bool = False


Samples = list[list[Sample]]
"""Of a block: one row a side, one column a round."""


class Side(Protocol):
    """What takes part in a block; it may live in another process."""

    def fresh(self) -> float:
        """Make a new instance in place of the last, and warm it up, `undistracted` from now on.

        Returns seconds a step, roughly.
        """

    def sample(self, steps: int) -> Sample:
        """Time so many steps of that instance."""

    def leave(self) -> None:
        """The block is over: be as before `fresh`."""


def block(sides: Sequence[Side], shuffle: Random, *, alike: bool = False) -> Samples:
    """Time one block: a fresh instance of every side, then round after round, always in another random order.

    Args:
        sides: two or more.
        shuffle: where the orders come from.
        alike: the sides run the same algorithm, so all make the same number of steps in a sample: what an
            optimizer does every so many steps then falls on all alike.
    """
    order = list(range(len(sides)))
    with contextlib.ExitStack() as stack:
        stack.enter_context(undistracted())
        warm_s = [0.0 for _ in sides]
        for index in shuffle.sample(order, len(order)):
            stack.callback(sides[index].leave)
            warm_s[index] = sides[index].fresh()
        if alike:
            warm_s = [statistics.median(warm_s)] * len(sides)
        steps = [max(1, math.ceil(SAMPLE_S / seconds)) for seconds in warm_s]
        round_s = sum(count * seconds for count, seconds in zip(steps, warm_s, strict=True))
        samples: Samples = [[] for _ in sides]
        for number in range(1 + min(ROUNDS, max(LEAST, int(BLOCK_S / round_s)))):
            for index in shuffle.sample(order, len(order)):
                sample = sides[index].sample(steps[index])
                if number:  # in the first round a side is the faster the later it was made
                    samples[index].append(sample)
        return samples


def log_ratio(side: Sequence[Sample], other: Sequence[Sample]) -> float | None:
    """Log of the step time of `side` ÷ that of `other`, of the rounds that nothing disturbed.

    It is the median over all pairs of rounds of the pair's mean (Hodges and Lehmann): as deaf to single rounds as
    the median of the rounds themselves, and a third less scattered.

    None where fewer than `LEAST` rounds are left.
    """
    rounds = zip(side, other, strict=True)
    logs = [math.log(one.step_s / two.step_s) for one, two in rounds if not one.disturbed and not two.disturbed]
    if len(logs) < LEAST:
        return None
    return statistics.median((one + two) / 2 for one, two in combinations_with_replacement(logs, 2))


def against_both(side: Sequence[Sample], one: Sequence[Sample], two: Sequence[Sample]) -> Block | None:
    """What a block says of a side and of two others that run the same code; None where it says nothing."""
    first, second, noise = log_ratio(side, one), log_ratio(side, two), log_ratio(one, two)
    if first is None or second is None or noise is None:
        return None
    return Block((first + second) / 2, noise, statistics.median(sample.step_s for sample in side))


def drawn(draw: Callable[[], Block | None], budget: Budget) -> Block | None:
    """The next block, its time taken from the budget."""
    started = monotonic()
    found = draw()
    budget.spend(monotonic() - started)
    return found


def look(inquiry: Inquiry, draw: Callable[[], Block | None], budget: Budget) -> None:
    """Add blocks to the inquiry until it ends, turns from one look to the next, or the time is up."""
    confirming = inquiry.confirming
    while inquiry.open and inquiry.confirming is confirming and budget.left:
        inquiry.add(drawn(draw, budget))


@contextlib.contextmanager
def undistracted() -> Iterator[None]:
    """Hold off the garbage collector, and stay on one core, the same in every process of this machine.

    Two processes of the same code differ lastingly by several percent on two cores of a busy machine, and by less
    than 1 % on the same one.
    """
    collected = gc.isenabled()
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    gc.disable()
    if allowed:
        os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        if allowed:
            os.sched_setaffinity(0, allowed)
        if collected:
            gc.enable()
