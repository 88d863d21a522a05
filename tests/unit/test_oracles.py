from __future__ import annotations

import pytest
import torch
from interpreter import imported

from pytest_optcheck import oracles
from pytest_optcheck.oracles import families, names, optimizers
from pytest_optcheck.oracles.adam import LazyAdam
from pytest_optcheck.oracles.adapter import NumpyOptimizer
from pytest_optcheck.specs import parse


@pytest.mark.parametrize("name", oracles.__all__)
def test_every_textbook_rule_is_an_optimizer_that_a_spec_can_name(name: str) -> None:
    target = getattr(oracles, name)
    assert issubclass(target, NumpyOptimizer)
    assert target is getattr(optimizers, name)
    spec = parse(f"pytest_optcheck.oracles:{name}(lr=0.25)")
    accepted = spec.accepts()
    assert accepted is not None
    assert {"lr", "maximize"} <= accepted.keys()
    assert isinstance(spec.factory()([torch.nn.Parameter(torch.zeros(1, 1))]), NumpyOptimizer)


def test_every_family_of_the_names_has_a_rule_and_every_rule_a_name() -> None:
    assert sorted(families.FAMILIES) == sorted(names.FAMILIES)
    shown = {optimizer.rule_class for optimizer in (getattr(oracles, name) for name in oracles.__all__)}
    reached = {family.of(flags).rule for family in families.FAMILIES.values() for flags in ({}, {"momentum": 0.9})}
    assert shown == reached - {LazyAdam}


def test_what_is_no_rule_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Adma'"):
        _ = oracles.Adma


def test_settings_may_know_the_families_without_torch_or_numpy() -> None:
    assert imported("pytest_optcheck.oracles.names", "torch", "numpy", "scipy") == []
