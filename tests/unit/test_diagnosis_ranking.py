from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from bugs.adam import ADAMW
from bugs.registry import MUTANTS
from bugs.textbook import EXPECTED, rule_of
from observed import UPDATES, after, carrying, observation, rules

from pytest_optcheck import workloads
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.diagnosis import ranking
from pytest_optcheck.diagnosis.bank import hypotheses
from pytest_optcheck.diagnosis.bank.base import scalars, setting, with_scalars
from pytest_optcheck.diagnosis.bank.bookkeeping import Dropped
from pytest_optcheck.diagnosis.observing import Observation, observe
from pytest_optcheck.diagnosis.ranking import FIT, Explanation, explain, follows
from pytest_optcheck.diagnosis.replaying import UNALTERED, Hypothesis, Road, altered, replay, rules_of
from pytest_optcheck.oracles.adam import AdamW
from pytest_optcheck.oracles.adapter import settings_of
from pytest_optcheck.oracles.sgd import SGD

if TYPE_CHECKING:
    from pytest_optcheck.diagnosis.replaying import Rules
    from pytest_optcheck.oracles.base import Array, Rule

RULE = AdamW(lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1)


def known(words: str, departure: int = 0) -> Hypothesis:
    """The mistake of the bank that is called so."""
    return next(found for found in hypotheses(observation(), rules(RULE), departure) if found.words == words)


def asked(hypothesis: Hypothesis, rule: Rule = RULE) -> Explanation:
    """What is said where it has happened."""
    return explain(after(observation(), rules(rule), hypothesis), rules(rule))


def words(explanation: Explanation) -> list[str]:
    return [candidate.words for candidate in explanation.named]


class Wobbles(Road):
    """A mistake that nobody has ever made."""

    def stepped(self, k: int, index: int, gradient: Array) -> Array:
        return np.asarray(super().stepped(k, index, gradient * (1.0 + 0.1 * math.sin(k + index))))


WOBBLES = Hypothesis("wobbles", road=Wobbles)


@pytest.mark.parametrize(
    "which",
    [
        "bias corrections missing",
        "moments stored back corrected",
        "eps under the root and beside it",
        "weight decay applied after the update",
        "weight decay coupled: added to the gradient",
        "beta1 and beta2 exchanged",
        "only the first size(0) elements of a tensor are updated",
        "the count of updates advances with every tensor of the group",
        "every parameter group has the learning rate of the first",
        "the learning rate, divided by the first moment's correction, is written back and compounds with every tensor",
    ],
)
def test_the_mistake_that_was_made_is_named_and_explains_all_of_it(which: str) -> None:
    found = asked(known(which))
    assert words(found) == [which]
    assert found.named[0].fit < 1e-12
    assert found.second is not None
    assert found.second.fit > FIT


@pytest.mark.parametrize("key", ["E04", "M28"])
def test_a_mutant_of_the_bench_is_named_from_its_training(key: str) -> None:
    pair = next(pair for pair in MUTANTS if pair.id == key)
    observed, _ = observe(pair.altered, workloads.load(workloads.BUILTIN["zoo"]), Conditions())
    rule = rule_of(pair.correct)
    followed = rules_of(rule, list(settings_of(rule)), (), 2, observed.updates)
    found = explain(observed, followed)
    assert [name.startswith(EXPECTED[key]) for name in words(found)] == [True]
    assert found.named[0].fit <= FIT


def test_an_unaltered_optimizer_is_not_accused() -> None:
    observed, _ = observe(ADAMW, workloads.load(workloads.BUILTIN["zoo"]), Conditions(steps=12))
    rule = rule_of(ADAMW)
    followed = rules_of(rule, list(settings_of(rule)), (), 2, observed.updates)
    found = explain(observed, followed)
    assert (found.named, found.second, found.first) == ((), None, None)
    assert found.unaltered < 1e-11
    assert follows(observed, followed)


def test_a_mistake_outside_the_bank_is_not_named_and_its_first_step_is_told() -> None:
    found = asked(WOBBLES)
    assert found.named == ()
    assert found.second is not None
    assert found.second.fit > FIT
    assert found.first is not None
    assert (found.first.tensor, found.first.update) == ("vector", 1)
    assert 0.5 < found.first.ratio < 2.0
    assert 0.0 <= found.first.angle < 90.0


@pytest.mark.parametrize(("noise", "named"), [(1e-8, True), (1e-5, False)])
def test_nothing_is_named_that_fits_worse_than_the_limit(noise: float, *, named: bool) -> None:
    hypothesis = known("bias corrections missing")
    exact = after(observation(), rules(RULE), hypothesis)
    random = np.random.RandomState(3).uniform(-1.0, 1.0, exact.values.shape)
    sizes = [track.start.size for track in exact.tracks]
    blurred = carrying(exact, exact.values + noise * random * np.repeat(exact.scale, sizes, axis=1))
    found = explain(blurred, rules(RULE))
    assert bool(found.named) is named
    assert all(candidate.fit <= FIT for candidate in found.named)
    assert named or (found.second is not None and found.second.fit > FIT)


def test_a_change_that_is_smaller_than_the_limit_needs_an_explanation_that_is_much_smaller() -> None:
    blurred = after(observation(), rules(RULE), UNALTERED)
    random = np.random.RandomState(3).uniform(-1.0, 1.0, blurred.values.shape)
    sizes = [track.start.size for track in blurred.tracks]
    blurred = carrying(blurred, blurred.values + 1e-7 * random * np.repeat(blurred.scale, sizes, axis=1))
    assert explain(blurred, rules(RULE)).named == ()


@pytest.mark.parametrize(
    ("name", "factor", "start"),
    [
        ("lr", 1.001, "learning rate × 1.001 (0.003 → 0.003003)"),
        ("betas[1]", 0.999, "beta2 × 0.999 (0.95 → 0.94905)"),
        ("eps", 10.0, "eps × 10 (1e-08 → 1e-07)"),
        ("weight_decay", 1.5, "weight decay × 1.5 (0.1 → 0.15)"),
    ],
)
def test_a_setting_that_has_another_value_is_fitted(name: str, factor: float, start: str) -> None:
    def change(rule: Rule) -> Rule:
        return with_scalars(rule, {name: scalars(rule)[name] * factor})

    found = asked(Hypothesis("changed", partial(altered, alter=change)))
    assert words(found) == [start]
    assert found.named[0].fit < 1e-8


def test_a_setting_that_was_none_is_fitted_too() -> None:
    plain = SGD(lr=0.05)
    found = asked(Hypothesis("gained", partial(altered, alter=setting(momentum=0.75))), plain)
    assert words(found) == ["momentum is 0.75, not 0"]


def test_a_setting_that_changes_in_mid_run_is_fitted_from_there() -> None:
    def change(given: Rules) -> Rules:
        return tuple((*group[:7], *(replace(rule, lr=3.0 * rule.lr) for rule in group[7:])) for group in given)

    assert words(asked(Hypothesis("changed", change))) == ["learning rate × 3 (0.003 → 0.009) after update 7"]


def test_groups_that_get_other_rates_in_a_load_are_told_one_by_one() -> None:
    def change(given: Rules) -> Rules:
        factors = (0.8, 1.25)
        return tuple(
            (*group[:7], *(replace(rule, lr=factor * rule.lr) for rule in group[7:]))
            for group, factor in zip(given, factors, strict=True)
        )

    found = asked(Hypothesis("changed", change))
    assert words(found) == [
        "learning rate × 0.8 in parameter group 0, × 1.25 in parameter group 1 after update 7",
    ]


@pytest.mark.parametrize("which", ["exp_avg_sq is lost after update 5", "no update is applied after update 5"])
def test_what_is_lost_in_mid_run_is_named_with_the_update(which: str) -> None:
    assert words(asked(known(which, departure=5))) == [which]


def test_a_rate_that_hardly_changes_is_told_by_what_it_differs_by() -> None:
    def change(rule: Rule) -> Rule:
        return replace(rule, lr=rule.lr * (1.0 + 2e-6))

    (found,) = words(asked(Hypothesis("changed", partial(altered, alter=change))))
    assert found == "learning rate × (1 + 2e-06) (0.003 → 0.003000006)"


def test_a_mistake_in_some_tensors_is_named_with_their_kind() -> None:
    observed, followed = observation(), rules(RULE)
    right = replay(observed, followed, UNALTERED, UPDATES)
    wrong = replay(observed, followed, known("weight decay not scaled by the learning rate"), UPDATES)
    assert right is not None
    assert wrong is not None
    kinds = {
        "in tensors of two and more dimensions only": [track.start.ndim > 1 for track in observed.tracks],
        "in parameter group 1 only": [track.group == 1 for track in observed.tracks],
        "in tiny, still only": [track.name in ("tiny", "still") for track in observed.tracks],
    }
    sizes = [track.start.size for track in observed.tracks]
    for where, inside in kinds.items():
        mixed = carrying(observed, np.where(np.repeat(inside, sizes), wrong, right))
        assert words(explain(mixed, followed)) == [f"weight decay not scaled by the learning rate, {where}"]


def test_tensors_that_stay_where_they_are_are_named() -> None:
    class Skips(Dropped):
        def stepped(self, k: int, index: int, gradient: Array) -> Array:
            still = self.tracks[index].name == "vector"
            return super().stepped(k, index, gradient) if still else Road.stepped(self, k, index, gradient)

    assert words(asked(Hypothesis("skips", road=Skips))) == ["the update is never applied, in vector only"]


def test_what_cannot_be_told_apart_is_named_together() -> None:
    small = replace(RULE, weight_decay=0.01)  # 1 - lr·wd is 1 in bfloat16
    hypothesis = Hypothesis("dropped", partial(altered, alter=setting(weight_decay=0.0)))
    found = words(asked(hypothesis, small))
    assert "weight decay dropped" in found
    assert "weight decay by a factor 1 - lr·wd rounded to bfloat16" in found


def test_a_large_net_is_searched_on_its_smallest_tensors_and_judged_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = Observation.smallest

    def smallest(self: Observation, numbers: int, always: int) -> Observation:
        seen.append(numbers)
        return original(self, numbers, always)

    monkeypatch.setattr(Observation, "smallest", smallest)
    monkeypatch.setattr(ranking, "TRIED_NUMBERS", 12)
    found = asked(known("bias corrections missing"))
    assert (words(found), seen) == (["bias corrections missing"], [12])
