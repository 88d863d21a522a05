from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

import pytest

from pytest_optcheck.cost import ratios
from pytest_optcheck.cost.ratios import Block, Decision, Inquiry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MARGIN = math.log(1.02)


def ask(blocks: Iterable[Block | None], margin: float = MARGIN) -> Decision:
    """The decision after as many of the blocks as it takes."""
    inquiry = Inquiry(margin)
    for block in blocks:
        if not inquiry.open:
            break
        inquiry.add(block)
    return inquiry.decision()


def steady(percent: float, blocks: int = 200, noise: float = 0.0) -> list[Block]:
    return [Block(math.log1p(percent / 100), noise)] * blocks


def drawn(percent: float, draw: Callable[[], float], noise: float = 0.0) -> Iterable[Block]:
    """Blocks that scatter as `draw` does."""
    return (Block(math.log1p(percent / 100) + draw(), noise + draw()) for _ in range(200))


def seeded(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - draws that a test repeats


@pytest.mark.parametrize(
    ("percent", "answer"),
    [(-10, "not slower"), (0, "not slower"), (1.9, "not slower"), (2.1, "slower"), (5, "slower"), (100, "slower")],
)
def test_blocks_that_agree_are_believed(percent: float, answer: str) -> None:
    decision = ask(steady(percent))
    assert decision.answer == answer
    assert decision.ratio == pytest.approx(1 + percent / 100)


def test_the_same_code_is_cleared_by_the_first_blocks() -> None:
    assert ask(steady(0)).blocks == ratios.LEAD


def test_what_is_called_slower_rests_on_fresh_blocks_alone() -> None:
    decision = ask([*steady(50, ratios.LEAD), *steady(5)])
    assert decision.answer == "slower"
    assert decision.ratio == pytest.approx(1.05)
    assert decision.blocks == ratios.CONFIRM[0]


def test_a_suspicion_that_fresh_blocks_do_not_confirm_is_dropped() -> None:
    decision = ask([*steady(50, ratios.LEAD), *steady(0)])
    assert decision.answer == "not slower"
    assert decision.blocks == ratios.CONFIRM[-1]


def test_a_suspicion_whose_confirmation_was_cut_short_cannot_be_told() -> None:
    decision = ask([*steady(50, ratios.LEAD), *steady(50, ratios.CONFIRM[0] - 1)])
    assert (decision.answer, decision.reason) == (
        "cannot tell",
        (
            "the time was up after 17 blocks (a step takes 0 ms); "
            "11 of 11 blocks lie above 2%, and identical code differs by 0.0%"
        ),
    )


def test_a_look_that_was_cut_short_cannot_be_told() -> None:
    decision = ask(steady(0, ratios.LEAD - 1))
    assert (decision.answer, decision.reason) == (
        "cannot tell",
        (
            "the time was up after 5 blocks (a step takes 0 ms); "
            "0 of 5 blocks lie above 2%, and identical code differs by 0.0%"
        ),
    )


def test_a_suspicion_without_time_to_confirm_it_says_that_the_time_was_up() -> None:
    decision = ask([*steady(50, ratios.LEAD), None])
    assert (decision.answer, decision.reason, decision.blocks) == (
        "cannot tell",
        "the time was up after 7 blocks, 1 of them disturbed (a step takes 0 ms)",
        0,
    )


def test_what_a_step_takes_is_said_where_it_is_why_the_time_was_up() -> None:
    slow, quick = Block(0.0, 0.0, 0.0405), Block(0.0, 0.0, 1e-5)
    assert ratios.shortage([slow] * 5) == "the time was up after 5 blocks (a step takes 40.5 ms)"
    assert ratios.shortage([quick] * ratios.ENOUGH) == "the time was up after 24 blocks"


@pytest.mark.parametrize(
    ("block_s", "blocks"), [(0.01, 200), (0.0999, 24), (0.2, 24), (0.4, 20), (1.3, 7), (1.4, 2), (3.0, 1)]
)
def test_a_budget_lasts_for_the_blocks_of_an_answer_and_no_longer_than_its_limit(block_s: float, blocks: int) -> None:
    """Where not even the first look fits, it ends early."""
    budget = ratios.Budget()
    while budget.left:
        budget.spend(block_s)
    assert budget.blocks == pytest.approx(blocks, abs=1)


def test_blocks_on_both_sides_of_the_margin_cannot_be_told() -> None:
    alternating = [block for pair in zip(steady(1), steady(3), strict=True) for block in pair]
    decision = ask(alternating)
    assert decision.answer == "cannot tell"
    assert decision.blocks == ratios.MOST


def test_blocks_that_barely_agree_are_confirmed_by_more_of_them() -> None:
    mostly = [*steady(5, ratios.LEAD), *[*steady(5, 7), *steady(0, 1)] * 20]
    decision = ask(mostly)
    assert decision.answer == "slower"
    assert decision.blocks == 24


@pytest.mark.parametrize(
    ("percent", "noise", "answer"),
    [
        (1, 0.009, "not slower"),
        (1, 0.011, "cannot tell"),
        (1, -0.011, "cannot tell"),
        (5, 0.028, "slower"),
        (5, 0.031, "cannot tell"),
        (5, -0.031, "cannot tell"),
        (50, 0.1, "slower"),
    ],
)
def test_an_answer_must_stand_although_identical_code_differs(percent: float, noise: float, answer: str) -> None:
    assert ask(steady(percent, noise=noise)).answer == answer


def test_what_cannot_be_told_says_how_much_identical_code_differs() -> None:
    reason = "48 of 48 blocks lie above 2%, and identical code differs by 3.1%"
    assert ask(steady(5, noise=0.031)).reason == reason


def test_a_look_goes_on_until_the_noise_of_its_first_blocks_is_outweighed() -> None:
    noisy = [Block(0.0, 0.03)] * ratios.LEAD
    assert ask(noisy).answer == "cannot tell"
    decision = ask([*noisy, *steady(0)])
    assert (decision.answer, decision.blocks) == ("not slower", 2 * ratios.LEAD)


def test_without_an_undisturbed_block_nothing_can_be_told() -> None:
    decision = ask([None] * 1000)
    assert (decision.answer, decision.reason) == ("cannot tell", "every block was disturbed")
    assert decision.blocks == 0


def test_lost_blocks_do_not_count() -> None:
    with_lost = [block for pair in zip(steady(5), [None] * 200, strict=False) for block in pair]
    assert ask(with_lost) == ask(steady(5))


def test_identical_code_is_never_called_slower_however_heavy_the_tails() -> None:
    random = seeded(1)

    def cauchy() -> float:
        return 0.01 * math.tan(math.pi * (random.random() - 0.5))

    answers = [ask(drawn(0, cauchy)).answer for _ in range(400)]
    assert answers.count("slower") == 0
    assert answers.count("not slower") > 390


def test_ten_percent_are_found_where_blocks_scatter_by_three() -> None:
    random = seeded(2)
    answers = [ask(drawn(10, lambda: random.gauss(0, 0.03), 0.0)).answer for _ in range(200)]
    assert answers.count("slower") >= 190
    assert answers.count("not slower") == 0


def test_at_the_margin_itself_a_false_alarm_is_rarer_than_one_in_a_thousand() -> None:
    least = {12: 12, 16: 15, 24: 21, 32: 26, 48: 37}
    assert tuple(least) == ratios.CONFIRM
    for blocks, above in least.items():
        assert ratios.chance(blocks, above) <= ratios.CHANCE < ratios.chance(blocks, above - 1)
    assert sum(ratios.chance(blocks, above) for blocks, above in least.items()) / 2 < 1e-3  # half of all are suspected


@pytest.mark.parametrize(("blocks", "above", "expected"), [(1, 0, 1.0), (1, 1, 0.5), (4, 3, 5 / 16), (16, 16, 2**-16)])
def test_the_chance_of_so_many_is_the_binomial_tail(blocks: int, above: int, expected: float) -> None:
    assert ratios.chance(blocks, above) == expected


def test_the_interval_leaves_out_as_many_at_each_end_as_chance_allows() -> None:
    assert ratios.interval(range(8)) == (0, 7)
    assert ratios.interval(range(16)) == (1, 14)
    assert ratios.interval(range(48)) == (11, 36)


def test_the_interval_covers_the_median_it_claims_to() -> None:
    random = seeded(3)
    intervals = [ratios.interval([random.gauss(0, 1) for _ in range(32)]) for _ in range(2000)]
    assert sum(low <= 0 <= high for low, high in intervals) >= 1995


def test_the_spread_is_the_standard_deviation_of_normal_values_and_ignores_outliers() -> None:
    random = seeded(4)
    values = [random.gauss(5, 0.25) for _ in range(4001)]
    assert ratios.spread(values) == pytest.approx(0.25, rel=0.05)
    assert ratios.spread([*values, *[1e6] * 400]) == pytest.approx(0.25, rel=0.2)
