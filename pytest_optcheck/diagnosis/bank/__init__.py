"""The bank: every mistake that is tried as an explanation, for the rules at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_optcheck.diagnosis.bank import (
    bookkeeping,
    corrections,
    decay,
    denominators,
    exchanged,
    later,
    moments,
    momentum,
    places,
    shapes,
    steps,
)

if TYPE_CHECKING:
    from pytest_optcheck.diagnosis.observing import Observation
    from pytest_optcheck.diagnosis.replaying import Hypothesis, Rules

MISTAKES = (
    *corrections.MISTAKES,
    *denominators.MISTAKES,
    *decay.MISTAKES,
    *moments.MISTAKES,
    *steps.MISTAKES,
    *momentum.MISTAKES,
    *shapes.MISTAKES,
)
"""Mistakes in the formula of one family."""


def hypotheses(observed: Observation, rules: Rules, departure: int) -> list[Hypothesis]:
    """What may have happened to an optimizer of these rules, the commonplace first: so it is named.

    Args:
        observed: what it does now.
        rules: what it should do.
        departure: the first update (from 0) that is not theirs.
    """
    return [
        *exchanged.hypotheses(rules),
        *(mistake.hypothesis() for mistake in MISTAKES if mistake.fits(rules[0][0])),
        *bookkeeping.hypotheses(rules),
        *places.hypotheses(rules),
        *later.hypotheses(rules, departure, observed.tracks[0].start),
    ]
