"""Every route finds the mutant that is wrong on it, and no other route does unless the table says so."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest
import torch
from route_mutants import MUTANTS, BurnsInCounter, Mixed, Rule, spec

from pytest_optcheck import judge, routes
from pytest_optcheck.building import assemble
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.curves import PLAIN, Needs
from pytest_optcheck.envelopes import bare_curve
from pytest_optcheck.format import SCHEMA, Departure, Golden, Recorded, WorkloadId
from pytest_optcheck.routes.base import Route
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_optcheck.curves import Run

MIXED = Mixed()
ROUTES = (PLAIN, *routes.NAMES)


def compiler(step: Callable[..., Any]) -> Callable[..., Any]:
    """In the place of ``torch.compile``: what is compiled knows that it is, and nothing else changes."""

    def compiled(*args: object) -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.compiler, "is_compiling", lambda: True)
            return step(*args)

    return compiled


def trained(optimizer: type[Rule], route: str) -> Run:
    """An optimizer on a route, its laws watched."""
    build = assemble(spec(optimizer), route)
    assert build is not None
    return train(build, MIXED, Conditions(route=route, watch=True, optional=("maximize",)))


@functools.cache
def right(route: str) -> Run:
    """The right optimizer on a route."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", compiler)
        return trained(Rule, route)


def verdict(run: Run) -> judge.Verdict:
    """How `run` is judged where the right optimizer was recorded: on the plain curve, or the route's own."""
    own = run.route in routes.OWN_CURVE
    golden = Golden(
        schema=SCHEMA,
        spec="spec",
        workload=WorkloadId(MIXED.name, "digest", MIXED.steps),
        recorded=Recorded(*[""] * len(Recorded.__struct_fields__)),
        needs=Needs(),
        stochastic=False,
        resolution=None,
        curves={"float64": bare_curve(right(PLAIN))},
        routes={run.route: Departure(curve=bare_curve(right(run.route))) if own else "same"},
    )
    return judge.judge(run, golden, judge.Policy())


def test_every_route_has_a_mutant() -> None:
    assert MUTANTS.keys() == set(routes.NAMES)


@pytest.mark.parametrize("name", ROUTES)
def test_the_right_optimizer_is_right_on_every_route(name: str) -> None:
    run = right(name)
    assert (verdict(run).kind, run.failure, run.broken) == ("match", None, {})


@pytest.mark.parametrize("name", [name for name in routes.NAMES if name not in routes.OWN_CURVE])
def test_the_right_optimizer_lands_on_the_plain_curve(name: str) -> None:
    assert right(name).losses == pytest.approx(right(PLAIN).losses, rel=1e-12)


@pytest.mark.parametrize("name", sorted(routes.OWN_CURVE))
def test_rounding_alone_takes_a_route_of_its_own_curve_elsewhere(name: str) -> None:
    expected = right(PLAIN).losses
    assert right(name).losses != pytest.approx(expected, rel=1e-9)
    assert right(name).losses == pytest.approx(expected, rel=5e-2)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_found_on_its_route_and_on_no_other(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant, others = MUTANTS[name]
    monkeypatch.setattr(torch, "compile", compiler)
    found = {route for route in ROUTES if verdict(trained(mutant, route)).kind != "match"}
    assert found == {name, *others}


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "kind"), [(Rule, "match"), (BurnsInCounter, "changed")])
def test_the_compiled_route_compiles(optimizer: type[Rule], kind: str) -> None:
    assert verdict(trained(optimizer, "compiled")).kind == kind


def test_a_route_is_a_fresh_instance() -> None:
    for name in ROUTES:
        assert routes.load(name) is not routes.load(name)


def test_the_plain_route_is_the_base_class() -> None:
    assert type(routes.load(PLAIN)) is Route


def test_an_unknown_route_is_an_error() -> None:
    with pytest.raises(KeyError):
        routes.load("detour")


def test_quick_and_slow_routes_are_routes() -> None:
    assert set(routes.NAMES) >= routes.QUICK
    assert set(routes.NAMES) >= routes.SLOW
    assert not routes.QUICK & routes.SLOW


@pytest.mark.parametrize("name", ROUTES)
def test_every_route_suits_a_model_that_has_everything(name: str) -> None:
    assert routes.load(name).suits(MIXED, Needs())


UNSUITED = {
    "closure": [Needs(closure=True)],
    "set_to_none_false": [Needs(sparse=True)],
    "scaled": [Needs(closure=True), Needs(sparse=True), Needs(create_graph=True)],
    "sparse": [Needs(sparse=True), Needs(create_graph=True)],
    "compiled": [Needs(closure=True), Needs(create_graph=True)],
    "split_groups": [Needs(one_group=True), Needs(first="named"), Needs(first="module")],
    "add_group_late": [Needs(one_group=True), Needs(first="named"), Needs(first="module"), Needs(frozen=("late",))],
    "reordered": [Needs(first="named"), Needs(first="module")],
    "channels_last": [Needs(frozen=("conv",))],
    "complex": [Needs(sparse=True), Needs(create_graph=True)],
    "bfloat16": [Needs(create_graph=True)],
    "mixed_dtypes": [Needs(create_graph=True)],
}
"""Route -> needs of an optimizer that it is nothing for."""

REFUSED = [(name, needs) for name, refused in UNSUITED.items() for needs in refused]


@pytest.mark.parametrize(("name", "needs"), REFUSED)
def test_a_route_is_left_out_where_the_optimizer_needs_otherwise(name: str, needs: Needs) -> None:
    assert not routes.load(name).suits(MIXED, needs)


def test_what_says_nothing_about_needs_suits_them_all() -> None:
    everything = {needs for _, needs in REFUSED}
    for name in set(routes.NAMES) - UNSUITED.keys():
        assert all(routes.load(name).suits(MIXED, needs) for needs in everything)


@pytest.mark.parametrize("name", ["add_group_late", "channels_last", "complex"])
def test_a_route_is_left_out_where_the_model_has_nothing_for_it(name: str) -> None:
    class Bare(Mixed):
        idle = {}  # noqa: RUF012 - never written
        tensor_shapes = {"vector": (5,), "scalar": (), "empty": (0,), "odd": (2, 3)}  # noqa: RUF012 - never written

    assert not routes.load(name).suits(Bare(), Needs())
