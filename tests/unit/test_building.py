from __future__ import annotations

from typing import Any

import pytest
import torch
from toys import Bowl, Descent, TwoGroups, toy

from pytest_optcheck.building import Assembly, alter, assemble, build, plain, plan
from pytest_optcheck.curves import Needs
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.routes.base import Group
from pytest_optcheck.specs import FactorySpec, parse

SGD = "torch.optim:SGD(lr=0.1)"


def tensors() -> dict[str, torch.Tensor]:
    return {name: torch.nn.Parameter(torch.ones(2, 2)) for name in ("a", "b", "body.weight")}


def group_of(spec: str, route: str) -> dict[str, Any]:
    """The first group of an optimizer that is built for a route."""
    assembly = assemble(parse(spec), route)
    assert assembly is not None
    group: dict[str, Any] = assembly(tensors().values()).param_groups[0]
    return group


def test_a_spec_is_built_with_its_schedulers_beside_it() -> None:
    found = plain(parse(f"{SGD} >> StepLR(step_size=3) >> ExponentialLR(gamma=0.9)"))
    optimizer = found(tensors().values())
    assert [type(scheduler).__name__ for scheduler in found.attach(optimizer)] == ["StepLR", "ExponentialLR"]
    assert plain(parse(SGD)).attach(optimizer) == []


@pytest.mark.parametrize("spec", ["torch.optim:SGDD()", f"{SGD} >> StepLRR(step_size=3)", "torch.optim:SGD(rate=3)"])
def test_what_cannot_be_built_is_said_before_anything_is(spec: str) -> None:
    for make in (plain, lambda parsed: assemble(parsed, "resume")):
        with pytest.raises(OptcheckError):
            make(parse(spec))


@pytest.mark.parametrize(
    ("spec", "route", "key", "value"),
    [
        (SGD, "plain", "foreach", None),
        (SGD, "foreach", "foreach", True),
        ("torch.optim:SGD(foreach=True, lr=0.1)", "foreach", "foreach", False),
        (SGD, "maximize", "maximize", True),
        (SGD, "resume", "maximize", False),
    ],
)
def test_a_route_sets_what_it_is_about(spec: str, route: str, key: str, value: object) -> None:
    assert group_of(spec, route)[key] is value


def test_a_route_leaves_the_settings_of_the_spec_alone() -> None:
    group = group_of("torch.optim:SGD(lr=0.25, momentum=0.5)", "foreach")
    assert (group["lr"], group["momentum"]) == (0.25, 0.5)


@pytest.mark.parametrize("spec", [parse("torch.optim:SGD(lr=0.1)"), toy(lambda params: torch.optim.SGD(params, 0.1))])
def test_a_route_whose_setting_the_constructor_has_not_is_no_route(spec: Any) -> None:  # noqa: ANN401 - either kind
    assert assemble(spec, "capturable") is None
    assert assemble(spec, "resume") is not None


def test_a_factory_s_groups_get_the_settings_once_it_is_built() -> None:
    assembly = assemble(toy(lambda params: torch.optim.SGD(params, 0.1)), "maximize")
    assert assembly is not None
    optimizer = assembly([{"params": [tensor]} for tensor in tensors().values()])
    assert [group["maximize"] for group in optimizer.param_groups] == [True] * 3
    assert optimizer.defaults["maximize"] is True


def test_a_factory_may_return_schedulers_and_still_have_routes() -> None:
    def factory(params: Any) -> Any:  # noqa: ANN401 - see Factory
        optimizer = torch.optim.SGD(params, 0.1)
        return optimizer, [torch.optim.lr_scheduler.StepLR(optimizer, 3)]

    assembly = assemble(FactorySpec("scheduled", factory), "foreach")
    assert assembly is not None
    optimizer, schedulers = assembly(tensors().values())
    assert optimizer.param_groups[0]["foreach"] is True
    assert len(schedulers) == 1


def test_a_factory_that_cannot_be_built_to_look_has_only_routes_without_settings() -> None:
    def refuses(_params: object) -> None:
        raise TypeError("no")

    assert assemble(toy(refuses), "foreach") is None
    assert assemble(toy(refuses), "resume") is not None


@pytest.mark.parametrize(
    ("needs", "expected"),
    [
        (Needs(), [(("vector",), 0), (("matrix",), 1)]),
        (Needs(one_group=True), [(("vector", "matrix"), 0)]),
        (Needs(first="named"), [(("vector", "matrix"), 0)]),
        (Needs(first="module"), [(("vector", "matrix"), 0)]),
    ],
)
def test_the_groups_of_a_model_are_those_that_the_optimizer_takes(
    needs: Needs, expected: list[tuple[tuple[str, ...], int]]
) -> None:
    found = plan(TwoGroups(), ["vector", "matrix"], needs)
    assert [(group.names, group.origin) for group in found] == expected


def test_groups_hold_what_is_trained_only() -> None:
    assert [group.names for group in plan(Bowl(), ["matrix"], Needs())] == [("matrix",)]


def test_a_key_that_every_group_needs_sets_matrices_apart() -> None:
    found = plan(TwoGroups(), ["vector", "matrix"], Needs(flag="use_muon"))
    assert {(group.names, group.origin, group.flagged) for group in found} == {
        (("vector",), 0, False),
        (("matrix",), 1, True),
    }


@pytest.mark.parametrize(
    ("groups", "needs", "shown"),
    [
        ([Group(("a", "b"), 0)], Needs(), "[tensor, tensor]"),
        ([Group(("a",), 0), Group(("b",), 1)], Needs(), "[{params}, {params}]"),
        ([Group(("a", "b"), 0)], Needs(first="named"), "[a, b]"),
        ([Group(("a", "b"), 0, flagged=True)], Needs(flag="use_muon"), "[{params use_muon}]"),
        ([Group(("a", "body.weight"), 0)], Needs(first="module"), "a, body.weight"),
    ],
)
def test_a_constructor_gets_what_it_takes_first(groups: list[Group], needs: Needs, shown: str) -> None:
    def show(first: Any) -> str:  # noqa: ANN401 - that is the question
        if isinstance(first, torch.nn.Module):
            return ", ".join(name for name, _ in first.named_parameters())
        kinds = [
            f"{{{' '.join(item)}}}" if isinstance(item, dict) else item[0] if isinstance(item, tuple) else "tensor"
            for item in first
        ]
        return f"[{', '.join(kinds)}]"

    assert build(show, tensors(), groups, needs) == shown


def test_a_module_holds_the_very_tensors() -> None:
    given = tensors()
    module = build(lambda module: module, given, [Group(tuple(given), 0)], Needs(first="module"))
    assert all(parameter is given[name] for name, parameter in module.named_parameters())


@pytest.mark.parametrize(
    ("group", "rates", "expected"),
    [
        ({"lr": 0.1}, True, {"lr": 0.05}),
        ({"lr": 0.1}, False, {"lr": 0.1}),
        ({"lr": None}, True, {"lr": None}),
        ({"weight_decay": 0.1}, True, {"weight_decay": 0.2}),
        ({"weight_decay": 0.0}, True, {"weight_decay": 0.0}),
        ({"betas": (0.8, 1)}, False, {"betas": (0.76, 1)}),
        ({"betas": None, "eps": 1e-8}, True, {"betas": None, "eps": 1e-8}),
        ({}, True, {}),
    ],
)
def test_a_later_group_gets_settings_of_its_own(group: dict[str, Any], rates: bool, expected: dict[str, Any]) -> None:
    alter(group, rates=rates)
    assert {key: pytest.approx(value) if value else value for key, value in expected.items()} == group


def test_a_toy_without_defaults_is_built_as_it_stands() -> None:
    assembly = Assembly(Descent, lambda _: [], {})
    assert isinstance(assembly(tensors().values()), Descent)
