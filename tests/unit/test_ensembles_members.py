from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from seeded import Line, Sides, descent, seeds
from toys import Bowl, Descent

from pytest_optcheck.building import plain
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.convergence import FLOOR, SEEDS
from pytest_optcheck.curves import Needs
from pytest_optcheck.ensembles.figures import PROTOCOL, kept_steps
from pytest_optcheck.ensembles.members import smoothed, steps_to
from pytest_optcheck.specs import parse
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from torch import Tensor

    from pytest_optcheck.workloads.base import Tensors

STEPS = Line.steps


def test_the_reference_is_an_ensemble_of_whole_runs() -> None:
    found = seeds(descent()).reference()
    assert (found.protocol, found.folds, found.steps, len(found.members)) == (PROTOCOL, 4, kept_steps(STEPS), SEEDS)
    assert found.applies(Line.folds, STEPS)
    for member in found.members:
        assert member.ended is None
        assert len(member.losses) == len(found.steps)
        assert set(member.metrics) == {"final_loss", "held_out_loss", "area", "steps_to_target"}
        assert 0.0 < member.metrics["steps_to_target"] <= STEPS


def test_no_two_seeds_are_alike_and_every_one_repeats_itself() -> None:
    trained = seeds(descent())
    reference = trained.reference()
    for key in ("final_loss", "held_out_loss", "area"):
        assert len({member.metrics[key] for member in reference.members}) == SEEDS
    assert trained.again([3, 20], reference) == [reference.members[3], reference.members[20]]


def test_a_member_is_a_float32_training_of_its_seed_with_the_held_out_loss_at_its_end() -> None:
    held: list[dict[str, Tensor]] = []

    def watched(params: Any) -> torch.optim.Optimizer:  # noqa: ANN401 - what an optimizer takes
        slope, height = params
        held.append({"slope": slope, "height": height})
        return torch.optim.SGD([slope, height], lr=0.1)

    reference = seeds(descent()).reference()
    (member,) = seeds(watched).again([5], reference)
    run = train(descent(), Line().seeded(5), Conditions("float32"))
    assert member.losses == [pytest.approx(run.losses[step], rel=1e-8) for step in kept_steps(STEPS)]
    assert member.metrics["final_loss"] == pytest.approx(run.losses[-1], rel=1e-8)
    assert member.metrics["area"] == pytest.approx(np.mean(run.losses[:-1]))
    batch = Line().seeded(5).problem(torch.float32).held_out()
    with torch.no_grad():
        expected = float(Line().loss(held[0], batch))
    assert member.metrics["held_out_loss"] == pytest.approx(expected, rel=1e-8)
    assert {tensor.dtype for tensor in held[0].values()} == {torch.float32}


def test_another_rule_is_compared_with_the_targets_of_the_reference() -> None:
    reference = seeds(descent(0.1)).reference()
    slower = seeds(descent(0.05)).again(range(4), reference)
    for old, new in zip(reference.members, slower, strict=False):
        assert new.target == old.target
        assert new.metrics["steps_to_target"] > old.metrics["steps_to_target"]
        assert new.metrics["final_loss"] > old.metrics["final_loss"]


def test_what_is_never_reached_takes_a_step_more_than_there_are() -> None:
    reference = seeds(descent(0.1)).reference()
    (member,) = seeds(descent(1e-6)).again([0], reference)
    assert member.metrics["steps_to_target"] == STEPS + 1


def test_a_classifier_is_judged_by_what_was_held_out() -> None:
    (member, *_) = seeds(descent(), Sides()).reference().members
    assert {"held_out_loss", "accuracy"} <= set(member.metrics)
    assert member.metrics["accuracy"] in (0.0, 0.25, 0.5, 0.75, 1.0)


def test_without_folds_there_is_no_held_out_loss() -> None:
    found = seeds(descent(0.01), Bowl()).reference()
    assert found.folds == 0
    assert set(found.members[0].metrics) == {"final_loss", "area", "steps_to_target"}


class Raises(Descent):
    """Gives up."""

    def step(self) -> None:
        super().step()
        if self.updates == 5:
            raise ValueError("enough")


@pytest.mark.parametrize(("build", "ended"), [(Raises, 5), (descent(1e30), 3)])
def test_a_run_that_raises_or_leaves_the_finite_numbers_says_when(build: Any, ended: int) -> None:  # noqa: ANN401 - a factory
    reference = seeds(descent()).reference()
    (member,) = seeds(build).again([0], reference)
    assert member.ended is not None
    assert member.ended <= ended
    assert (member.metrics, member.target) == ({}, 0.0)
    assert all(map(math.isfinite, member.losses))
    assert member.losses[0] == reference.members[0].losses[0]


class Unbounded(Line):
    """Has no finite loss for what it was not trained on."""

    name = "unbounded"

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        loss = super().loss(params, batch)
        return loss if torch.is_grad_enabled() or len(batch["x"]) == self.final_examples else loss + math.inf


def test_a_held_out_loss_that_is_not_finite_is_no_good_end() -> None:
    (member, *_) = seeds(descent(), Unbounded()).reference().members
    assert (member.ended, member.metrics) == (STEPS, {})
    assert len(member.losses) == len(kept_steps(STEPS))


class Switching(torch.optim.SGD):
    """Holds twice the slope while it trains, as schedule-free rules hold another point."""

    def train(self) -> None:
        self._scale(2.0)

    def eval(self) -> None:
        self._scale(0.5)

    @torch.no_grad()
    def _scale(self, factor: float) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.mul_(factor)


def test_an_optimizer_with_two_modes_is_judged_in_that_of_evaluation() -> None:
    points: list[list[Tensor]] = []

    def still(params: Any) -> Switching:  # noqa: ANN401 - what an optimizer takes
        points.append(list(params))
        return Switching(points[-1], lr=0.0)

    reference = seeds(descent()).reference()
    (member,) = seeds(still).again([0], reference)
    line = Line().seeded(0)
    problem = line.problem(torch.float32)
    with torch.no_grad():
        assert member.metrics["held_out_loss"] == pytest.approx(
            float(line.loss(problem.parameters, problem.held_out())), rel=1e-6
        )


def test_an_optimizer_that_makes_fewer_updates_has_shorter_runs() -> None:
    found = seeds(descent(), needs=Needs(steps=5)).reference()
    assert found.steps == kept_steps(5)
    assert found.applies(Line.folds, 5)


def test_schedulers_are_stepped_along() -> None:
    spec = parse("torch.optim:SGD(lr=0.1) >> ExponentialLR(gamma=0.5)")
    scheduled = replace(seeds(descent()), build=plain(spec)).reference()
    constant = seeds(descent()).reference()
    assert scheduled.members[0].losses[1] == constant.members[0].losses[1]
    assert scheduled.members[0].losses[-1] > constant.members[0].losses[-1]


def test_the_random_streams_of_the_caller_are_left_alone() -> None:
    torch.manual_seed(1)
    random.seed(1)
    before = (torch.get_rng_state().clone(), random.getstate(), torch.get_num_threads())
    seeds(descent()).again([0], seeds(descent()).reference())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), torch.get_num_threads()) == before[1:]


def test_batches_are_averaged_over_a_tenth_of_a_training() -> None:
    assert smoothed([4.0, 3.0, 2.0]) == {0: 4.0, 1: 3.0, 2: 2.0}
    losses = [float(20 - k) for k in range(20)]
    curve = smoothed(losses)
    assert list(curve) == list(range(1, 20))
    assert (curve[1], curve[19]) == (19.5, 1.5)


def test_no_smoothed_loss_lies_below_the_floor() -> None:
    assert smoothed([2.0, 1e-9]) == {0: 2.0, 1: 2.0 * FLOOR}
    assert smoothed([-1.0, -2.0]) == {0: -1.0, 1: -2.0}


@pytest.mark.parametrize(
    ("target", "expected"), [(4.0, 2.0), (5.0, 2.0), (3.0, 2.5), (2.0, 3.0), (1.9, 3.1), (1.0, 4.0), (0.5, 11.0)]
)
def test_steps_to_a_target_are_interpolated(target: float, expected: float) -> None:
    assert steps_to(target, {2: 4.0, 3: 2.0, 4: 1.0}, 10) == pytest.approx(expected)


def test_the_first_time_counts() -> None:
    assert steps_to(1.0, {0: 2.0, 1: 0.0, 2: 3.0, 3: 0.5}, 10) == 0.5
