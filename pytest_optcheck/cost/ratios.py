"""What blocks of log ratios say: slower, not slower, or cannot tell. Pure arithmetic; imports neither torch nor pytest.

A block is a median over rounds and robust already. Between blocks only the number beyond the margin decides, which
no distribution of block values, however heavy its tails, can mislead.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Answer = Literal["slower", "not slower", "cannot tell"]

BASE_MARGIN = math.log(1.02)
"""Against other code in the same minute: less than 2 % is nobody's regression, and twice what processes of the same
code were seen to differ by."""

LIMIT_S = 2.0
"""Seconds after which no further block is begun, once there are `ENOUGH`."""

LONGEST_S = 8.0
"""Seconds after which none is begun however few there are: enough for steps of some 5 ms."""

LEAD = 6
"""Screening may end when so many more blocks lie on one side of the margin than on the other.

A block that lies on its true side in 9 of 10 cases is then misread in (1/9)^6 = 2e-6 of them.
"""

CONFIRM = (12, 16, 24, 32, 48)
"""Fresh blocks after which a suspicion may be confirmed, and after the last of which it is dropped."""

CHANCE = 3e-4
"""At each of these, the chance of so many blocks above the margin were every second one below: all of 12, 15 of 16."""

ENOUGH = 2 * LEAD + CONFIRM[0]
"""Blocks that an answer needs: as many as screen and confirm it at best, and as many as screen it again in reserve."""

MOST = 64
"""Screening goes on for so many blocks at most."""


class Block(NamedTuple):
    """What one block of fresh instances said; natural logarithms.

    Attributes:
        ratio: of the step time under judgement to that of what it is compared with.
        noise: of two sides that run the same code.
        step_s: seconds a step under judgement took.
    """

    ratio: float
    noise: float
    step_s: float = 0.0


@dataclass(slots=True)
class Budget:
    """The time that blocks may take: `LIMIT_S`, and for slow steps what `ENOUGH` of them take, up to `LONGEST_S`.

    Attributes:
        blocks: how many were drawn, also those that said nothing.
        spent_s: seconds they took.
    """

    blocks: int = 0
    spent_s: float = 0.0

    def spend(self, seconds: float) -> None:
        """A block took so long."""
        self.blocks += 1
        self.spent_s += seconds

    @property
    def left(self) -> bool:
        """Whether another block may be begun."""
        if self.spent_s < LIMIT_S:
            return True
        hopeless = LEAD * self.spent_s > LONGEST_S * self.blocks  # not even the first look will end
        return self.blocks < ENOUGH and self.spent_s < LONGEST_S and not hopeless


def shortage(blocks: Sequence[Block], lost: int = 0) -> str:
    """That the time was up after these blocks and so many lost ones, and what a step takes where that is why."""
    drawn = len(blocks) + lost
    told = f"the time was up after {drawn} blocks" + f", {lost} of them disturbed" * bool(lost)
    if drawn >= ENOUGH or not blocks:
        return told
    step_s = statistics.median(block.step_s for block in blocks)
    return f"{told} (a step takes {1000 * step_s:.3g} ms)"


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, and what it rests on; ratios are 1 where it rests on nothing.

    Attributes:
        answer: whether the ratio is above its margin.
        reason: why that cannot be told; empty where it can.
        ratio: step time ÷ that of what it is compared with, the median over blocks.
        low: lower end of the interval for that median.
        high: its upper end.
        spread: of the blocks' log ratios, see `spread`.
        noise_spread: of those of identical code in the same blocks.
        blocks: how many these figures are from.
    """

    answer: Answer
    reason: str
    ratio: float
    low: float
    high: float
    spread: float
    noise_spread: float
    blocks: int


@dataclass(slots=True)
class Inquiry:
    """One question, block by block: is the log ratio above `margin`?

    Blocks are added for as long as `open` and the time last; the decision may be asked for at any time.

    Attributes:
        margin: the log ratio that still counts as not slower.
        screened: the blocks of the first look.
        confirming: whether the first look ended in a suspicion.
        confirmed: the blocks after that; only they can call anything slower.
        lost: blocks that said nothing.
    """

    margin: float
    screened: list[Block] = field(default_factory=list)
    confirming: bool = False
    confirmed: list[Block] = field(default_factory=list)
    lost: int = 0

    def add(self, block: Block | None) -> None:
        """Take note of a block; None for one that was lost to disturbances."""
        if block is None:
            self.lost += 1
        elif self.confirming:
            self.confirmed.append(block)
        else:
            self.screened.append(block)
            self.confirming = self._lead() >= LEAD

    @property
    def open(self) -> bool:
        """Whether more blocks could change the answer."""
        if self.lost >= MOST:
            return False
        if self.confirming:
            return len(self.confirmed) < CONFIRM[-1] and not self._proven()
        return len(self.screened) < MOST and not self._cleared()

    def decision(self) -> Decision:
        """The answer so far."""
        blocks = self.confirmed if self.confirming else self.screened
        if not blocks:
            reason = shortage(self.screened, self.lost) if self.screened and self.open else "every block was disturbed"
            return Decision("cannot tell", reason, 1.0, 1.0, 1.0, 0.0, 0.0, 0)
        ratios, noises = [block.ratio for block in blocks], [block.noise for block in blocks]
        low, high = interval(ratios)
        answer, reason = self._answer()
        return Decision(
            answer,
            reason,
            ratio=math.exp(statistics.median(ratios)),
            low=math.exp(low),
            high=math.exp(high),
            spread=spread(ratios),
            noise_spread=spread(noises),
            blocks=len(blocks),
        )

    def _answer(self) -> tuple[Answer, str]:
        if self._proven():
            return "slower", ""
        if self._cleared():
            return "not slower", ""
        blocks = self.confirmed or self.screened
        above = f"{self._above(blocks)} of {len(blocks)} blocks lie above {math.expm1(self.margin):.0%}"
        reason = f"{above}, and identical code differs by {math.expm1(_noise(blocks)):.1%}"
        short = f"{shortage([*self.screened, *self.confirmed], self.lost)}; " if self.open else ""
        return "cannot tell", f"{short}{reason}"

    def _proven(self) -> bool:
        """Whether it is slower, even if all of what identical code differed by was in its disfavour."""
        blocks = self.confirmed
        return len(blocks) in CONFIRM and chance(len(blocks), self._above(blocks, _noise(blocks))) <= CHANCE

    def _cleared(self) -> bool:
        """Whether it is not slower, even if all of what identical code differed by was in its favour."""
        blocks = self.screened
        if self.confirming:
            blocks = self.confirmed
            if len(blocks) < CONFIRM[-1]:
                return False
        elif self._lead() > -LEAD:
            return False
        return 2 * self._above(blocks, -_noise(blocks)) <= len(blocks)

    def _lead(self) -> int:
        return 2 * self._above(self.screened) - len(self.screened)

    def _above(self, blocks: Sequence[Block], moved: float = 0.0) -> int:
        """How many lie above the margin, once it is moved."""
        return sum(block.ratio > self.margin + moved for block in blocks)


def _noise(blocks: Sequence[Block]) -> float:
    return abs(statistics.median(block.noise for block in blocks))


def chance(blocks: int, above: int) -> float:
    """How likely so many blocks, or more, lie above a margin that half of all blocks lie above."""
    return sum(math.comb(blocks, count) for count in range(above, blocks + 1)) / 2.0**blocks


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Where the median of the distribution lies, by counting alone: each end is missed with `CHANCE` at most.

    Of fewer than 12 values it is the whole range, and says less.
    """
    ordered, beyond = sorted(values), 0
    while chance(len(ordered), len(ordered) - beyond - 1) <= CHANCE:
        beyond += 1
    return ordered[beyond], ordered[-1 - beyond]


def spread(values: Sequence[float]) -> float:
    """The standard deviation as the median of the absolute deviations tells it, were the values normal."""
    middle = statistics.median(values)
    return 1.4826 * statistics.median([abs(value - middle) for value in values])
