"""The time of a step against that of a control step, for a golden alone: recorded once, compared ever after.

Only a ratio of two steps that take turns means anything in another minute, and only on the machine it was taken on.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from pytest_optcheck.cost import ratios, sides
from pytest_optcheck.cost.clock import clock
from pytest_optcheck.cost.figures import Timing
from pytest_optcheck.cost.locks import DeviceLock, NoLockError
from pytest_optcheck.cost.ratios import Block, Budget, Inquiry
from pytest_optcheck.cost.stopwatch import against_both, block, drawn, look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_optcheck.cost.ratios import Decision
    from pytest_optcheck.curves import Needs
    from pytest_optcheck.specs import OptimizerSpec

    Draw = Callable[[], Block | None]

MARGIN = math.log(1.25)
"""The least that a step must be slower than its golden says.

From one minute to another the ratio of the same two steps differs by 2 to 5 % (standard deviation) on a shared machine,
in one process as in several; of 2,000 checks the farthest was off by 14 %, which 10 % would have called slower. A
smaller slow-down is what ``--optcheck-base`` finds.
"""

NOISE = math.log(1.05)
"""Where the control differs from itself by more, nothing is recorded."""

FACTOR = 5.0
"""Where blocks scatter more, the margin is so many times their spread."""

RECORDED = 24
"""Blocks of a recording."""


class NoTimingError(Exception):
    """Nothing that was timed now would mean anything; the text says why, in a few words."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A step's time now, against the golden's.

    Attributes:
        decision: whether it is slower; its ratios are those of now ÷ the golden's.
        ratio: step time ÷ the control's, now.
        margin: how much slower it may be, as 0.1.
    """

    decision: Decision
    ratio: float
    margin: float


def against_control(spec: OptimizerSpec, needs: Needs, device: str) -> Timing:
    """Time a step against the control's, to be kept in a golden.

    Raises:
        OptcheckError: the spec cannot be built at all.
        NoTimingError: the machine is busy, or the optimizer cannot be timed.
    """
    blocks: list[Block] = []
    budget = Budget()
    with _drawing(spec, needs, device) as draw:
        while len(blocks) < RECORDED and budget.left:
            found = drawn(draw, budget)
            blocks += [found] if found is not None else []
        fingerprint = clock(device).fingerprint()
    if len(blocks) < ratios.LEAD:
        raise NoTimingError(ratios.shortage(blocks, budget.blocks - len(blocks)))
    values, noises = [block.ratio for block in blocks], [block.noise for block in blocks]
    noise = abs(statistics.median(noises))
    if noise > NOISE:
        raise NoTimingError(f"identical code differs by {math.expm1(noise):.1%} here")
    spread = ratios.spread(values)
    return Timing(fingerprint, math.exp(statistics.median(values)), spread, len(blocks), ratios.spread(noises))


def compare(spec: OptimizerSpec, needs: Needs, device: str, timings: Sequence[Timing]) -> Comparison:
    """Time a step against the control's, and that ratio against the golden's of this machine.

    Raises:
        OptcheckError: the spec cannot be built at all.
        NoTimingError: the golden knows no timing of this machine, the machine is busy, or the optimizer cannot
            be timed.
    """
    with sides.settled(device, needs):
        fingerprint = clock(device).fingerprint()
    known = next((timing for timing in timings if timing.fingerprint == fingerprint), None)
    if known is None:
        raise NoTimingError(_stranger(timings, fingerprint))
    margin = max(MARGIN, FACTOR * known.spread)
    inquiry, budget = Inquiry(margin), Budget()

    def to_golden(draw: Draw) -> Block | None:
        found = draw()
        return found and found._replace(ratio=found.ratio - math.log(known.ratio))

    with _drawing(spec, needs, device) as draw:
        while inquiry.open and budget.left:
            look(inquiry, lambda: to_golden(draw), budget)
    decision = inquiry.decision()
    if decision.answer == "slower" and math.log(decision.ratio) <= FACTOR * decision.spread:
        reason = f"blocks scatter by {decision.spread:.1%} here, where those of the golden did by {known.spread:.1%}"
        decision = replace(decision, answer="cannot tell", reason=reason)
    return Comparison(decision, decision.ratio * known.ratio, math.expm1(margin))


@contextlib.contextmanager
def _drawing(spec: OptimizerSpec, needs: Needs, device: str) -> Iterator[Draw]:
    """What draws one block after the other, with the device to itself."""
    try:
        names = sides.accepted(spec, needs, device)
        sides_ = [sides.side(spec, needs, device, names), *(sides.control(device, names) for _ in range(2))]
        with DeviceLock(clock(device).name).exclusive():
            trouble = clock(device).trouble()
            if trouble:
                raise NoTimingError(trouble)
            shuffle = Random(0)  # noqa: S311 - an order of measurement

            with sides.settled(device, needs):
                yield lambda: against_both(*block(sides_, shuffle))
    except NoLockError as error:
        raise NoTimingError(str(error)) from error
    except sides.RefusedError as error:
        raise NoTimingError(f"its optimizer takes none of the tensors it could be timed on: {error}") from error


def _stranger(timings: Sequence[Timing], fingerprint: Mapping[str, str]) -> str:
    """In what this machine differs from the last one that was timed."""
    if not timings:
        return "no step was timed yet; pytest --optcheck-update=missing does it"
    known = timings[-1].fingerprint
    other = [name for name in {**known, **fingerprint} if known.get(name) != fingerprint.get(name)]
    told = ", ".join(f"{name} {fingerprint.get(name, 'unknown')}, not {known.get(name, 'unknown')}" for name in other)
    return f"steps were timed elsewhere: this is {told}"
