"""What is kept of runs over many seeds: plain data, as the golden has it.

Imports the standard library and msgspec only.
"""

from __future__ import annotations

import itertools

import msgspec

from pytest_optcheck.convergence import SEEDS

PROTOCOL = 1
"""What seeds, folds and metrics mean; raise it with their meaning, and ensembles of another are trained anew."""

KEPT = 24
"""Losses that are kept of a run: a curve to look at; the metrics are taken from all of them."""


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One seed.

    Attributes:
        metrics: ``final_loss`` over the data trained on; ``steps_to_target``; ``area``, the mean of the losses of all
            batches; over the fold that was held out, as far as they apply, ``held_out_loss``, ``accuracy``,
            ``recall``, ``f1`` and ``roc_auc``. Empty where the training ended early.
        target: the loss that ``steps_to_target`` counts to.
        ended: the update at which the run raised or left the finite numbers; None for a whole training.
        losses: at the steps of the ensemble, as far as the run came.
    """

    metrics: dict[str, float] = {}
    target: float = 0.0
    ended: int | None = None
    losses: list[float] = []


class Ensemble(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The float32 runs of a golden, a seed each.

    Attributes:
        protocol: the `PROTOCOL` they were trained under.
        folds: of the split from which every seed holds out one fold; 0 where nothing is held out.
        steps: updates made when the kept losses were taken.
        members: seed after seed, from 0.
    """

    protocol: int
    folds: int
    steps: list[int]
    members: list[Member]

    def applies(self, folds: int, updates: int) -> bool:
        """Whether runs of today, with so many folds and updates, are runs of the same kind."""
        today = (PROTOCOL, folds, kept_steps(updates), SEEDS)
        return (self.protocol, self.folds, self.steps, len(self.members)) == today


def kept_steps(updates: int) -> list[int]:
    """About `KEPT` log-spaced numbers of updates from 0 to `updates`, or all of them where they are fewer."""
    spaced = (sorted({0, *(round(updates ** (i / n)) for i in range(n + 1))}) for n in itertools.count(KEPT))
    return next(kept for kept in spaced if len(kept) >= min(KEPT, updates + 1))
