"""Trainings that never took place: a rule, or a mistaken one, run over gradients drawn here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pytest_optcheck.diagnosis.observing import Observation, Track
from pytest_optcheck.diagnosis.replaying import UNALTERED, replay, rules_of
from pytest_optcheck.oracles.adapter import settings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_optcheck.diagnosis.replaying import Hypothesis, Rules
    from pytest_optcheck.oracles.base import Array, Rule

UPDATES = 14

SHAPES: dict[str, tuple[tuple[int, ...], int, float]] = {
    "scalar": ((), 0, 1.0),
    "vector": ((61,), 0, 1.0),
    "tiny": ((5,), 0, 1e-7),
    "zero": ((3,), 0, 1.0),
    "tall": ((20, 3), 0, 1.0),
    "still": ((3,), 0, 0.0),
    "late": ((2, 2), 1, 1.0),
    "wide": ((3, 4), 1, 1.0),
}
"""Tensor -> shape, parameter group, size of its gradients; ``zero`` starts there."""

ABSENT = {"late": (0, 1)}
"""Updates (from 0) at which a tensor has no gradient."""

MATRICES = ("tall", "late", "wide")


def observation(names: Sequence[str] = tuple(SHAPES)) -> Observation:
    """Gradients and first values; the values after the updates are still to be made."""
    random = np.random.RandomState(7)
    tracks = []
    for name, (shape, group, size) in SHAPES.items():
        start = np.asarray(random.uniform(-1.0, 1.0, shape)) * (name != "zero")
        drift = np.where(random.uniform(size=shape) < 0.5, -0.5, 0.5)
        drawn = [np.asarray(size * (random.uniform(-1.0, 1.0, shape) + drift)) for _ in range(UPDATES)]
        gradients = [None if k in ABSENT.get(name, ()) else gradient for k, gradient in enumerate(drawn)]
        if name in names:
            tracks.append(Track(name, group, start, gradients, [start] * UPDATES))
    return Observation(tuple(tracks), UPDATES)


def rules(rule: Rule, rates: Sequence[Sequence[float]] = ()) -> Rules:
    """For both groups, the second one with settings of its own."""
    return rules_of(rule, list(settings_of(rule)), rates, 2, UPDATES)


def after(observed: Observation, followed: Rules, hypothesis: Hypothesis = UNALTERED) -> Observation:
    """What would have been observed if it had happened."""
    values = replay(observed, followed, hypothesis, observed.updates)
    assert values is not None
    return carrying(observed, values)


def carrying(observed: Observation, values: Array) -> Observation:
    """The observation with other values, given as `Observation.values`."""
    ends = [*observed.offsets[1:], values.shape[1]]
    tracks = [
        replace(track, values=[row[begin:end].reshape(track.start.shape) for row in values])
        for track, begin, end in zip(observed.tracks, observed.offsets, ends, strict=True)
    ]
    return Observation(tuple(tracks), observed.updates)
