from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from observed import MATRICES, SHAPES, UPDATES, observation, rules

from pytest_optcheck.diagnosis.bank import MISTAKES, hypotheses
from pytest_optcheck.diagnosis.bank.base import mixing, scalars, with_scalars
from pytest_optcheck.diagnosis.bank.bookkeeping import counting
from pytest_optcheck.diagnosis.bank.corrections import Corrections
from pytest_optcheck.diagnosis.replaying import UNALTERED, replay
from pytest_optcheck.oracles.adadelta import Adadelta
from pytest_optcheck.oracles.adafactor import Adafactor
from pytest_optcheck.oracles.adagrad import Adagrad
from pytest_optcheck.oracles.adam import Adam, AdamW, AMSGradW
from pytest_optcheck.oracles.adamax import Adamax
from pytest_optcheck.oracles.asgd import ASGD
from pytest_optcheck.oracles.lamb import LAMB
from pytest_optcheck.oracles.lars import LARS
from pytest_optcheck.oracles.lion import Lion
from pytest_optcheck.oracles.muon import Muon
from pytest_optcheck.oracles.nadam import NAdam
from pytest_optcheck.oracles.radam import RAdamW
from pytest_optcheck.oracles.rmsprop import RMSprop
from pytest_optcheck.oracles.rprop import Rprop
from pytest_optcheck.oracles.sgd import SGD, GradientDescent
from pytest_optcheck.oracles.signsgd import SignSGD

if TYPE_CHECKING:
    from pytest_optcheck.oracles.base import Rule

FAMILIES: tuple[Rule, ...] = (
    GradientDescent(lr=0.05, weight_decay=0.1),
    SGD(lr=0.05, momentum=0.9, dampening=0.2, weight_decay=0.1),
    Adagrad(lr=0.05, lr_decay=0.01, weight_decay=1e-6, eps=1e-3, initial_accumulator_value=1e-7),
    RMSprop(lr=0.01, alpha=0.9, momentum=0.8, centered=True, weight_decay=1e-6, eps=1e-3),
    Adadelta(weight_decay=0.1, lr=0.9, eps=1e-4),
    Adam(lr=3e-3, betas=(0.9, 0.95), weight_decay=1e-6, eps=1e-3),
    AdamW(lr=3e-2, betas=(0.9, 0.95), weight_decay=0.3, eps=1e-3),
    AMSGradW(lr=3e-2, betas=(0.9, 0.95), weight_decay=0.3, eps=1e-3, bias_correction=True),
    Adamax(lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1, eps=1e-3),
    NAdam(lr=3e-3, betas=(0.9, 0.95), weight_decay=1e-6, eps=1e-3, plain_estimate=True),
    RAdamW(lr=3e-2, betas=(0.9, 0.95), weight_decay=0.3, eps=1e-3),
    LAMB(lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1, eps=1e-3),
    LARS(lr=0.3, weight_decay=0.15, trust_coefficient=0.02),
    Lion(lr=3e-2, betas=(0.93, 0.97), weight_decay=0.3),
    SignSGD(lr=3e-2, momentum=0.9, weight_decay=0.3),
    Rprop(lr=3e-3),
    ASGD(lr=0.05, lambd=0.01, weight_decay=0.1),
    Adafactor(lr=0.02, weight_decay=0.3, eps=(1e-3, 1e-2)),
    Muon(lr=0.02, weight_decay=0.3, eps=1e-3),
)

SAME = {
    frozenset(("lr_decay counts as 0", "the count of updates does not advance")): "Adagrad counts for its rate alone",
    frozenset(("beta2_decay counts as 0", "the count of updates does not advance")): "nor does Adafactor's average",
    frozenset(("alpha counts as 0", "the count of updates does not advance")): "and so does averaged descent",
    frozenset(
        ("the count of updates is lost after update 4", "state and count of updates are lost after update 4")
    ): "whose average moves nothing",
    frozenset(("beta2 counts as 0: the average it belongs to forgets at once", "beta2 and eps exchanged")): (
        "so short an average is never rectified"
    ),
    **{
        frozenset(
            (
                f"every parameter group has the learning rate of the {which}, its decay apart",
                f"every parameter group has all settings of the {which}",
            )
        ): "the second group has half the rate and twice the decay: the product is the same"
        for which in ("first", "last")
    },
    frozenset(("eps dropped", "the update is never applied")): "Adadelta never starts without eps",
    frozenset(
        ("second moment: never updated", "minimum of second moments in the place of the maximum")
    ): "a minimum that starts at 0 stays there",
}
"""Mistakes that no training of a family can tell apart, and why they are two all the same."""


@pytest.mark.parametrize("rule", FAMILIES, ids=lambda rule: type(rule).__name__)
def test_no_two_mistakes_of_the_bank_are_one_under_two_names(rule: Rule) -> None:
    observed = observation(MATRICES if isinstance(rule, Muon) else tuple(SHAPES))
    followed = rules(rule)
    unaltered = replay(observed, followed, UNALTERED, UPDATES)
    assert unaltered is not None
    found: dict[bytes, str] = {}
    for hypothesis in hypotheses(observed, followed, departure=4):
        values = replay(observed, followed, hypothesis, UPDATES)
        if values is None or not np.isfinite(values).all() or np.allclose(values, unaltered, rtol=1e-12, atol=1e-15):
            continue
        key = np.round(values, 13).tobytes()
        other = found.setdefault(key, hypothesis.words)
        assert other == hypothesis.words or frozenset((other, hypothesis.words)) in SAME
    assert len(found) > 15


@pytest.mark.parametrize("rule", FAMILIES, ids=lambda rule: type(rule).__name__)
def test_names_of_mistakes_are_unique_in_a_family(rule: Rule) -> None:
    observed = observation(MATRICES if isinstance(rule, Muon) else tuple(SHAPES))
    words = [hypothesis.words for hypothesis in hypotheses(observed, rules(rule), departure=4)]
    assert len(words) == len(set(words))


def test_every_mistake_can_be_made_in_some_family() -> None:
    assert [mistake.words for mistake in MISTAKES if not any(map(mistake.fits, FAMILIES))] == []


def test_a_mistake_is_mixed_into_whatever_rule_is_at_hand() -> None:
    class Missing(Corrections):
        how = staticmethod(lambda *_: (1.0, 1.0))

    rule = AMSGradW(lr=0.5, weight_decay=0.2, bias_correction=True)
    mixed = mixing(Missing)(rule)
    assert isinstance(mixed, AMSGradW)
    assert (mixed.lr, mixed.weight_decay, mixed.corrections(3)) == (0.5, 0.2, (1.0, 1.0))
    assert type(mixing(Missing)(rule)) is type(mixed)


def test_numbers_of_a_rule_are_read_and_replaced_by_name() -> None:
    rule = Adafactor(lr=0.5, eps=(None, 0.25))
    assert scalars(rule) == {"lr": 0.5, "beta2_decay": -0.8, "eps[1]": 0.25, "d": 1.0, "weight_decay": 0.0}
    changed = with_scalars(AdamW(), {"betas[1]": 0.5, "betas[0]": 0.25, "lr": 2.0})
    assert changed == AdamW(betas=(0.25, 0.5), lr=2.0)
    assert "ns_steps" not in scalars(Muon())


@pytest.mark.parametrize(
    ("rule", "counts"),
    [(AdamW(), True), (AMSGradW(), False), (SGD(momentum=0.9), False), (SGD(momentum=0.9, dampening=0.5), True)],
)
def test_it_is_known_whether_a_rule_counts_its_updates(rule: Rule, *, counts: bool) -> None:
    assert counting(rule) is counts
