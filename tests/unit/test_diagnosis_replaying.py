from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from observed import UPDATES, observation, rules

from pytest_optcheck import workloads
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.diagnosis.observing import observe
from pytest_optcheck.diagnosis.ranking import follows
from pytest_optcheck.diagnosis.replaying import UNALTERED, Hypothesis, Road, altered, deviations, replay, rules_of
from pytest_optcheck.oracles.adam import Adam, AdamW
from pytest_optcheck.oracles.sgd import SGD

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_optcheck.oracles.base import Rule

GROUPED = ("lr", "betas", "eps", "weight_decay", "momentum")


@pytest.mark.parametrize(
    ("build", "rule"),
    [
        (
            lambda params: torch.optim.AdamW(params, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1),
            AdamW(lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1),
        ),
        (
            lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9, dampening=0.2, weight_decay=0.01),
            SGD(lr=0.05, momentum=0.9, dampening=0.2, weight_decay=0.01),
        ),
    ],
)
def test_torchs_rules_are_replayed_on_all_tensors_and_groups(build: Callable[[Any], Any], rule: Rule) -> None:
    observed, _ = observe(build, workloads.load(workloads.BUILTIN["zoo"]), Conditions())
    followed = rules_of(rule, GROUPED, (), 2, observed.updates)
    assert deviations(observed, followed, UNALTERED, observed.updates).max() < 1e-10
    assert follows(observed, followed)
    ungrouped = rules_of(rule, (), (), 2, observed.updates)
    assert deviations(observed, ungrouped, UNALTERED, observed.updates).max() > 1e-3


def test_a_schedule_gives_every_update_its_learning_rate() -> None:
    def build(params: Any) -> tuple[Any, list[Any]]:  # noqa: ANN401 - parameters or groups
        optimizer = torch.optim.SGD(params, lr=0.1)
        return optimizer, [torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)]

    observed, run = observe(build, workloads.load(workloads.BUILTIN["zoo"]), Conditions(steps=6))
    followed = rules_of(SGD(lr=0.1), GROUPED, run.rates, 2, observed.updates)
    assert [rule.lr for rule in followed[0]] == [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]
    assert follows(observed, followed)


def test_later_groups_are_altered_as_those_of_the_optimizer_are() -> None:
    first, second = rules_of(Adam(lr=0.1, weight_decay=0.1), ("lr", "betas", "weight_decay"), (), 2, 1)
    assert (first[0].lr, second[0].lr) == (0.1, 0.05)
    assert second[0] == Adam(lr=0.05, weight_decay=0.2, betas=(0.9 * 0.95, 0.999 * 0.95))


def test_a_rule_that_stands_in_many_places_is_altered_once() -> None:
    calls: list[Rule] = []

    def alter(rule: Rule) -> Rule:
        calls.append(rule)
        return rule

    altered(rules(AdamW()), alter)
    assert len(calls) == 2


def test_a_rule_that_breaks_down_is_infinitely_far_from_everything() -> None:
    class Breaks(Road):
        def update(self, k: int) -> None:
            raise ZeroDivisionError(k)

    observed = observation()
    broken = Hypothesis("broken", road=Breaks)
    assert replay(observed, rules(SGD()), broken, UPDATES) is None
    assert np.all(np.isinf(deviations(observed, rules(SGD()), broken, 3)))


def test_what_says_nothing_of_a_rule_is_no_explanation() -> None:
    assert replay(observation(), rules(SGD()), Hypothesis("silent", lambda _: None), UPDATES) is None
