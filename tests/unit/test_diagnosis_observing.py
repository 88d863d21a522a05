from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from toys import Bowl, Descent, TwoGroups

from pytest_optcheck import workloads
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.curves import Needs
from pytest_optcheck.diagnosis import observing
from pytest_optcheck.diagnosis.observing import STILL, Observation, Track, observe
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from torch import Tensor

    from pytest_optcheck.oracles.base import Array


class Overwrites(Descent):
    """Writes into the gradient it was given."""

    def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        parameter.add_(gradient.neg_(), alpha=lr)


def one(values: list[list[float]], start: list[float]) -> Observation:
    """A tensor and what became of it."""
    track = Track("one", 0, np.array(start), [np.array(start)] * len(values), [np.array(value) for value in values])
    return Observation((track,), len(values))


def test_every_update_is_kept_with_what_the_step_was_given() -> None:
    observed, run = observe(Overwrites, Bowl(), Conditions())
    assert run.losses == train(Overwrites, Bowl(), Conditions()).losses
    assert (observed.updates, [track.name for track in observed.tracks]) == (Bowl.steps, ["vector", "matrix"])
    for track in observed.tracks:
        before = [track.start, *track.values]
        for old, gradient, new in zip(before, track.gradients, track.values, strict=False):
            assert gradient is not None
            np.testing.assert_allclose(new, old - 0.1 * gradient, rtol=0, atol=1e-15)


def test_a_tensor_without_a_gradient_has_none_and_each_belongs_to_its_group() -> None:
    observed, _ = observe(
        lambda params: torch.optim.SGD(params, lr=0.1), workloads.load(workloads.BUILTIN["zoo"]), Conditions(steps=4)
    )
    tracks = {track.name: track for track in observed.tracks}
    assert [gradient is None for gradient in tracks["skips"].gradients] == [True, True, False, False]
    assert (tracks["scalar"].group, tracks["skips"].group, tracks["transposed"].start.shape) == (0, 1, (7, 5))
    assert "empty" not in tracks
    two, _ = observe(Descent, TwoGroups(), Conditions(needs=Needs(one_group=True)))
    assert {track.group for track in two.tracks} == {0}


def test_gradients_computed_within_a_step_are_kept_too() -> None:
    class Asks(torch.optim.SGD):
        def step(self, closure: object = None) -> object:  # type: ignore[override] # a closure is a must here
            assert callable(closure)
            with torch.enable_grad():
                loss = closure()
            super().step()
            return loss

    plain, _ = observe(lambda params: torch.optim.SGD(params, lr=0.1), Bowl(), Conditions())
    asking, _ = observe(lambda params: Asks(params, lr=0.1), Bowl(), Conditions(needs=Needs(closure=True)))
    assert np.array_equal(plain.values, asking.values)
    assert all(gradient is not None for track in asking.tracks for gradient in track.gradients)


def test_of_a_large_net_only_the_first_updates_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "KEPT_NUMBERS", 1)
    monkeypatch.setattr(observing, "LEAST_UPDATES", 2)
    observed, run = observe(Descent, Bowl(), Conditions())
    assert (observed.updates, observed.values.shape, len(run.losses)) == (2, (2, 7), Bowl.steps + 1)


def test_a_training_that_ends_early_is_observed_until_then() -> None:
    class Raises(Descent):
        def step(self) -> None:
            if self.updates == 3:
                raise RuntimeError("no more")
            super().step()

    observed, run = observe(Raises, Bowl(), Conditions())
    assert (observed.updates, run.failure is not None) == (3, True)


def test_a_deviation_is_relative_to_how_far_the_tensor_has_moved_by_then() -> None:
    observed = one([[1.1, 2.0], [3.0, 2.0]], [1.0, 2.0])
    off = np.array([[1.1 + 1e-3, 2.0], [3.0, 2.0 + 1e-3]])
    np.testing.assert_allclose(observed.deviations(off)[:, 0], [1e-2, 5e-4], rtol=1e-9)


def test_of_a_tensor_that_hardly_moves_a_share_of_its_size_counts() -> None:
    observed = one([[1.0 + 1e-9]], [1.0])
    np.testing.assert_allclose(observed.deviations(np.array([[1.0]])), 1e-9 / STILL, rtol=1e-6)


@pytest.mark.parametrize(
    ("seen", "replayed", "deviation"),
    [
        ([np.nan, 2.0], [np.nan, 2.0], 0.0),
        ([np.inf, 2.0], [np.inf, 2.0], 0.0),
        ([np.inf, 2.0], [-np.inf, 2.0], np.inf),
        ([np.nan, 2.0], [1.0, 2.0], np.inf),
        ([1.0, 2.0], [np.nan, 2.0], np.inf),
        ([0.0, 0.0], [0.0, 1.0], np.inf),
    ],
)
def test_numbers_that_are_not_finite_equal_themselves_alone(
    seen: list[float], replayed: list[float], deviation: float
) -> None:
    found = one([seen], [0.0, 0.0]).deviations(np.array([replayed]))[0, 0]
    assert found == deviation or found > 1e300 * (deviation > 0)


def test_the_smallest_tensors_and_the_one_that_is_asked_for_are_picked() -> None:
    sizes = (5, 1, 9, 3)

    def track(size: int) -> Track:
        start: Array = np.zeros(size)
        return Track(str(size), 0, start, [start], [start])

    observed = Observation(tuple(map(track, sizes)), 1)
    assert [track.name for track in observed.smallest(14, always=2).tracks] == ["1", "9", "3"]
    assert [track.name for track in observed.smallest(4, always=1).tracks] == ["1", "3"]
    assert [track.name for track in observed.only([3, 0]).tracks] == ["5", "3"]
