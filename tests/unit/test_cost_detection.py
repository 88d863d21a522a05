from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest
from bugs.added import ADDED
from bugs.registry import COST_MUTANTS, HARMLESS_PAIRS, PAIRS

from pytest_optcheck import needs, workloads
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.cost.counting import count
from pytest_optcheck.cost.gate import compare
from pytest_optcheck.specs import FactorySpec
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from collections.abc import Callable

    from bugs.pairs import Pair, Recipe

    from pytest_optcheck.cost.counting import Counted
    from pytest_optcheck.cost.figures import Cost
    from pytest_optcheck.curves import Needs, Run

ZOO = workloads.load(workloads.BUILTIN["zoo"])
TOLD = [pair for pair in COST_MUTANTS if pair.told]
UNTOLD = [pair for pair in COST_MUTANTS if not pair.told]
STEPS = 30  # past every refresh, half of the schedules, and the restart of the route ``resume``


KNOWN: dict[tuple[object, ...], Any] = {}
"""What is the same for several pairs, by what it depends on."""


def once(make: Callable[[], Any], *key: object) -> Any:  # noqa: ANN401 - whatever is made
    """What `make` makes the first time."""
    if key not in KNOWN:
        KNOWN[key] = make()
    return KNOWN[key]


def found_needs(pair: Pair) -> Needs:
    spec = FactorySpec(pair.correct.text, pair.correct)
    found: Needs = once(lambda: needs.discover(spec, ZOO, "cpu")[0], "needs", pair.correct)
    return found


def counted(recipe: Recipe, pair: Pair, name: str, *, compiled: bool) -> Cost:
    spec, found = FactorySpec(recipe.text, recipe), found_needs(pair)
    make = functools.partial(count, spec, found, lists=[name], compiled=compiled)
    made: Counted = once(make, "cost", recipe, name, compiled)
    return made.cost


def heavier(pair: Pair, name: str, *, compiled: bool = False) -> tuple[str, ...]:
    """What the gate says of the pair on one list of tensors."""
    altered, correct = (counted(recipe, pair, name, compiled=compiled) for recipe in (pair.altered, pair.correct))
    return compare(altered, correct).heavier


def trained(recipe: Recipe, pair: Pair, route: str) -> Run:
    conditions = Conditions("float64", "cpu", found_needs(pair), steps=STEPS, route=route)
    run: Run = once(lambda: train(recipe, ZOO, conditions), "run", recipe, route)
    return run


def test_every_pair_has_an_id_of_its_own() -> None:
    ids = [pair.id for pair in (*PAIRS, *COST_MUTANTS)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("pair", [pair for pair in TOLD if pair.told != "recompiles"], ids=lambda pair: pair.id)
def test_a_waste_is_told_by_the_line_it_was_planted_for(pair: Any) -> None:  # noqa: ANN401 - a CostPair
    assert any(pair.tells(line) for name in ("ten", "zoo") for line in heavier(pair, name))


@pytest.mark.slow
@pytest.mark.parametrize("pair", [pair for pair in TOLD if pair.told == "recompiles"], ids=lambda pair: pair.id)
def test_a_step_that_compiles_anew_for_every_rate_is_told_by_recompiles(pair: Any) -> None:  # noqa: ANN401 - ditto
    assert any(pair.tells(line) for line in heavier(pair, "ten", compiled=True))


@pytest.mark.parametrize("pair", UNTOLD, ids=lambda pair: pair.id)
def test_a_waste_that_no_count_can_tell_says_why(pair: Pair) -> None:
    assert [heavier(pair, name) for name in ("ten", "zoo")] == [(), ()]
    assert pair.note


@pytest.mark.parametrize("pair", COST_MUTANTS, ids=lambda pair: pair.id)
def test_a_waste_leaves_the_curve_as_it_is(pair: Pair) -> None:
    route = "resume" if "load_state_dict" in vars(pair.altered.rule) else "plain"
    expected, found = (trained(recipe, pair, route) for recipe in (pair.correct, pair.altered))
    assert expected.failure is None
    assert found.losses == pytest.approx(expected.losses, rel=1e-13)


@pytest.mark.parametrize("pair", HARMLESS_PAIRS, ids=lambda pair: pair.id)
def test_a_harmless_rewrite_is_heavier_by_nothing_but_what_it_adds(pair: Pair) -> None:
    lines = heavier(pair, "ten")
    if pair.id in ADDED:
        lines = tuple(line for line in lines if not ADDED[pair.id].explains(line))
    assert lines == ()
