from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch
from toys import Bowl, Descent, TwoGroups

from pytest_optcheck.conditions import Conditions
from pytest_optcheck.curves import Failure, Needs
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.random import RandomState
    from torch import Tensor

    from pytest_optcheck.workloads.base import Arrays, Tensors

BOWL = Bowl()
JITTERED = Conditions(jitter=0)


class Fails(Descent):
    """Does something at one update, before the tensors move."""

    at = 3

    def step(self) -> None:
        if self.updates + 1 == self.at:
            self.fail()
        super().step()

    def fail(self) -> None:
        raise ValueError("first line\nsecond line")


class FailsAtOnce(Fails):
    at = 1


class Writes(Fails):
    """Writes a number into the first tensor."""

    number: ClassVar[float] = math.nan

    def fail(self) -> None:
        with torch.no_grad():
            self.parameters[0].fill_(self.number)


class WritesInf(Writes):
    number = math.inf


class Refuses(Descent):
    """Cannot be built."""

    def __init__(self, params: Iterable[Any]) -> None:
        super().__init__(params)
        raise TypeError("no")


class WithClosure(Descent):
    """Evaluates the closure twice for each update, as line searches do."""

    def step(self, closure: Callable[[], Tensor]) -> None:  # type: ignore[override] # torch's optimizers differ so too
        self.losses = [float(closure().detach()), float(closure().detach())]
        super().step()


class NeverAsks(Descent):
    """Takes the closure and leaves it alone."""

    def step(self, closure: Callable[[], Tensor]) -> None:  # type: ignore[override] # see WithClosure
        del closure
        super().step()


class KeepsTensors(Descent):
    """Leaves the gradients of its last update where the test finds them."""

    last: ClassVar[list[Tensor | None]] = []

    def step(self) -> None:
        type(self).last = [parameter.grad for parameter in self.parameters]
        for parameter in self.parameters:
            if parameter.grad is not None and parameter.grad.is_sparse:
                parameter.grad = parameter.grad.to_dense()
        super().step()


def test_a_run_has_the_loss_before_every_update_and_after_the_last() -> None:
    run = train(Descent, BOWL, Conditions())
    assert len(run.losses) == BOWL.steps + 1
    assert run.failure is None
    assert (run.dtype, run.device) == ("float64", "cpu")


def test_the_first_loss_knows_nothing_of_the_optimizer() -> None:
    slow, fast = (train(lambda p, lr=lr: Descent(p, lr), BOWL, Conditions()) for lr in (0.01, 0.2))  # type: ignore[misc] # bound in the loop
    assert slow.losses[0] == fast.losses[0] == float(BOWL.problem(torch.float64).backward(0))
    assert slow.losses[1] != fast.losses[1]


def test_the_losses_are_those_of_gradient_descent() -> None:
    problem = BOWL.problem(torch.float64)
    expected = []
    for step in range(BOWL.steps):
        for parameter in problem.parameters.values():
            parameter.grad = None
        expected.append(float(problem.backward(step)))
        with torch.no_grad():
            for parameter in problem.parameters.values():
                assert parameter.grad is not None
                parameter.sub_(0.1 * parameter.grad)
    expected.append(problem.final_loss())
    run = train(Descent, BOWL, Conditions())
    assert run.losses == pytest.approx(expected, rel=1e-14)
    for name, parameter in problem.parameters.items():
        assert run.norms[name][BOWL.steps] == pytest.approx(float(parameter.detach().norm()), rel=1e-14)


def test_norms_are_kept_for_every_tensor_at_the_norm_steps() -> None:
    run = train(Descent, BOWL, Conditions())
    assert {name: list(norms) for name, norms in run.norms.items()} == {
        "vector": [1, 2, 3, 4, 6],
        "matrix": [1, 2, 3, 4, 6],
    }


@pytest.mark.parametrize("steps", [1, 3])
def test_the_number_of_steps_can_be_chosen(steps: int) -> None:
    run = train(Descent, BOWL, Conditions(steps=steps))
    whole = train(Descent, BOWL, Conditions())
    assert len(run.losses) == steps + 1
    assert run.losses[:-1] == whole.losses[:steps]
    assert run.norms["vector"].keys() == {step for step in whole.norms["vector"] if step <= steps}


@pytest.mark.parametrize(
    "conditions", [Conditions(), Conditions("float32"), JITTERED, replace(JITTERED, ulps=256.0, dtype="float32")]
)
def test_two_trainings_are_the_same_bits(conditions: Conditions) -> None:
    first, second = (train(lambda p: torch.optim.Adam(p, lr=0.1), TwoGroups(), conditions) for _ in range(2))
    assert first.losses == second.losses
    assert first.norms == second.norms


def test_a_drawing_optimizer_is_seeded() -> None:
    class Draws(Descent):
        def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
            parameter.sub_(lr * gradient * torch.rand_like(gradient))

    torch.rand(3)
    first = train(Draws, BOWL, Conditions())
    torch.rand(5)
    assert train(Draws, BOWL, Conditions()).losses == first.losses


def test_times_are_taken() -> None:
    run = train(Descent, BOWL, Conditions())
    assert 0.0 < run.step_s < run.train_s
    assert 0.0 < run.model_s < run.train_s - run.step_s


def test_the_time_in_a_closure_is_the_model_s_not_the_step_s() -> None:
    class Slow(Bowl):
        name = "slow"
        steps = 2

        def loss(self, params: Tensors, batch: Tensors) -> Tensor:
            time.sleep(0.02)
            return super().loss(params, batch)

    run = train(WithClosure, Slow(), Conditions(needs=Needs(closure=True)))
    assert run.model_s > 4 * 0.02
    assert run.step_s < 0.04


def test_float32_trains_in_float32() -> None:
    kept: list[torch.dtype] = []

    class Looks(Descent):
        def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
            kept.extend((parameter.dtype, gradient.dtype))
            super().update(parameter, gradient, lr)

    run = train(Looks, BOWL, Conditions("float32"))
    assert set(kept) == {torch.float32}
    assert run.dtype == "float32"
    exact = train(Descent, BOWL, Conditions()).losses
    assert run.losses == pytest.approx(exact, rel=1e-5)
    assert run.losses != exact


def test_an_exception_in_a_step_is_kept_with_its_update() -> None:
    run = train(Fails, BOWL, Conditions())
    assert run.failure == Failure(3, "raised", "ValueError: first line")
    assert run.losses == train(Descent, BOWL, Conditions()).losses[:3]
    assert list(run.norms["vector"]) == [1, 2]


def test_an_exception_in_the_first_step_is_kept_with_its_update() -> None:
    run = train(FailsAtOnce, BOWL, Conditions())
    assert run.failure == Failure(1, "raised", "ValueError: first line")
    assert len(run.losses) == 1


def test_an_exception_in_the_constructor_is_kept_as_update_0() -> None:
    run = train(Refuses, BOWL, Conditions())
    assert run.failure == Failure(0, "raised", "TypeError: no")
    assert run.losses == ()
    assert run.norms == {"vector": {}, "matrix": {}}


def test_an_exception_in_zero_grad_is_kept_with_its_update() -> None:
    class NoZeroGrad(Descent):
        def zero_grad(self) -> None:
            raise NotImplementedError("no zero_grad")

    run = train(NoZeroGrad, BOWL, Conditions())
    assert run.failure == Failure(1, "raised", "NotImplementedError: no zero_grad")


@pytest.mark.parametrize("nothing", [None, 3, "optimizer"])
def test_what_is_no_optimizer_is_kept_as_a_failure(nothing: object) -> None:
    run = train(lambda _: nothing, BOWL, Conditions())
    assert run.failure is not None
    assert run.failure.kind == "raised"


def test_an_interrupt_is_not_swallowed() -> None:
    class Interrupted(Fails):
        def fail(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Interrupted, BOWL, Conditions())


@pytest.mark.parametrize(("optimizer", "word"), [(Writes, "nan"), (WritesInf, "inf")])
def test_a_tensor_that_is_not_finite_ends_the_training_and_is_kept(optimizer: type[Writes], word: str) -> None:
    run = train(optimizer, BOWL, Conditions())
    assert run.failure == Failure(3, "non-finite", f"the norm of vector is {word}")
    assert len(run.losses) == 3
    assert str(run.norms["vector"][3]) == word
    assert list(run.norms["vector"]) == [1, 2, 3]


class LateWrites(Writes):
    at = 5  # no step whose norms are kept


@pytest.mark.parametrize(("number", "word"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "inf"), (1e200, "inf")])
def test_a_loss_that_is_not_finite_ends_the_training_and_is_kept(number: float, word: str) -> None:
    class Last(LateWrites):
        pass

    Last.number = number
    run = train(Last, BOWL, Conditions())
    assert run.failure == Failure(5, "non-finite", f"the loss is {word}")
    assert len(run.losses) == 6
    assert str(run.losses[-1]) == word


def test_a_final_loss_that_is_not_finite_is_a_failure() -> None:
    class EndsBadly(LateWrites):
        number = 7e153  # its norm is finite, the loss over all data is not
        at = BOWL.steps

    run = train(EndsBadly, BOWL, Conditions())
    assert run.failure == Failure(6, "non-finite", "the loss is inf")
    assert len(run.losses) == BOWL.steps + 1


def test_a_closure_optimizer_gets_a_closure() -> None:
    run = train(WithClosure, BOWL, Conditions(needs=Needs(closure=True)))
    assert run.failure is None
    assert run.losses == train(Descent, BOWL, Conditions()).losses


def test_the_loss_of_an_update_is_that_of_its_first_evaluation() -> None:
    needs = Needs(closure=True)
    run = train(lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3), BOWL, Conditions(needs=needs))
    assert run.failure is None
    assert len(run.losses) == BOWL.steps + 1
    assert run.losses[0] == float(BOWL.problem(torch.float64).backward(0))


def test_an_optimizer_that_exits_is_kept_as_one_that_raises() -> None:
    def exits(params: Iterable[Any]) -> torch.optim.Optimizer:
        raise SystemExit(f"{params} need a package that is not installed")

    failure = train(exits, Bowl(), Conditions()).failure
    assert failure is not None
    assert (failure.step, failure.kind, failure.message[:12]) == (0, "raised", "SystemExit: ")


def test_an_optimizer_that_raises_before_it_asks_for_a_loss_is_kept() -> None:
    run = train(torch.optim.LBFGS, BOWL, Conditions())
    assert run.failure is not None
    assert (run.failure.step, run.failure.kind) == (1, "raised")


def test_an_update_without_an_evaluation_is_a_failure() -> None:
    """Its loss is unknown, and without a failure every later loss would count for the step before."""
    run = train(NeverAsks, BOWL, Conditions(needs=Needs(closure=True)))
    assert run.failure is not None
    assert (run.failure.step, run.failure.kind) == (1, "raised")


def test_a_nan_that_a_closure_meets_is_kept_rather_than_the_exception_it_leads_to() -> None:
    class Gives(WithClosure):
        def step(self, closure: Callable[[], Tensor]) -> None:  # type: ignore[override] # see WithClosure
            if self.updates == 2:
                with torch.no_grad():
                    self.parameters[0].fill_(math.nan)
            if not math.isfinite(float(closure().detach())):
                raise ValueError("not finite")
            super().step(closure)

    run = train(Gives, BOWL, Conditions(needs=Needs(closure=True)))
    assert run.failure == Failure(2, "non-finite", "the loss is nan")


def test_a_frozen_tensor_does_not_move_and_gets_no_gradient() -> None:
    run = train(KeepsTensors, BOWL, Conditions(needs=Needs(frozen=("vector",))))
    initial = float(BOWL.problem(torch.float64).parameters["vector"].detach().norm())
    assert set(run.norms["vector"].values()) == {initial}
    assert len(set(run.norms["matrix"].values())) == 5
    assert len(KeepsTensors.last) == 1


def test_sparse_gradients_are_sparse_with_the_same_numbers() -> None:
    run = train(KeepsTensors, BOWL, Conditions(needs=Needs(sparse=True)))
    assert [gradient is not None and gradient.is_sparse for gradient in KeepsTensors.last] == [True, True]
    assert run.losses == train(Descent, BOWL, Conditions()).losses


def test_the_gradient_of_a_single_number_stays_dense() -> None:
    class WithScalar(Bowl):
        name = "with_scalar"

        def init(self, random: RandomState) -> Arrays:
            return {"scalar": np.asarray(random.uniform()), "rest": random.uniform(-1.0, 1.0, 6)}

    train(KeepsTensors, WithScalar(), Conditions(needs=Needs(sparse=True)))
    assert [gradient is not None and gradient.is_sparse for gradient in KeepsTensors.last] == [False, True]


def halved_every_two(params: Iterable[Any], lr: float = 0.1) -> tuple[Any, list[Any]]:
    """Gradient descent whose learning rate is halved after every second update."""
    optimizer = torch.optim.SGD(params, lr=lr)
    return optimizer, [torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)]


def test_learning_rates_are_kept_from_before_the_first_update_to_twenty_beyond_the_last() -> None:
    (found,) = train(halved_every_two, BOWL, Conditions()).rates
    assert found == tuple(0.1 * 0.5 ** (updates // 2) for updates in range(BOWL.steps + 21))


def test_without_a_scheduler_no_learning_rates_are_kept() -> None:
    assert train(Descent, BOWL, Conditions()).rates == ()


def test_a_scheduler_is_stepped_after_every_update() -> None:
    rates = [0.1 * 0.5 ** (step // 2) for step in range(BOWL.steps)]

    class ByHand(Descent):
        def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
            del lr
            super().update(parameter, gradient, rates[self.updates - 1])

    assert train(halved_every_two, BOWL, Conditions()).losses == train(ByHand, BOWL, Conditions()).losses


def test_the_learning_rate_of_a_later_group_is_left_to_its_scheduler() -> None:
    first, second = train(halved_every_two, TwoGroups(), Conditions()).rates
    assert first == second


def test_a_schedule_that_refuses_to_go_on_ends_the_rates_where_it_does() -> None:
    def factory(params: Iterable[Any]) -> tuple[Any, list[Any]]:
        optimizer = torch.optim.SGD(params, lr=0.1)
        return optimizer, [torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=BOWL.steps + 2)]

    run = train(factory, BOWL, Conditions())
    assert run.failure is None
    assert BOWL.steps + 1 < len(run.rates[0]) < BOWL.steps + 5


def test_a_scheduler_that_raises_is_kept_as_a_failure_of_its_update() -> None:
    def factory(params: Iterable[Any]) -> tuple[Any, list[Any]]:
        optimizer = torch.optim.SGD(params, lr=0.1)
        return optimizer, [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda updates: 1 / (updates - 3))]

    run = train(factory, BOWL, Conditions())
    assert run.failure == Failure(3, "raised", "ZeroDivisionError: division by zero")


def sgd(params: Iterable[Any]) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.1)


def test_laws_are_watched_where_that_is_asked_for() -> None:
    class Writes(Descent):
        def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
            super().update(parameter, gradient, lr)
            gradient.zero_()

    assert train(Writes, BOWL, Conditions()).broken == {}
    assert list(train(Writes, BOWL, Conditions(watch=True)).broken) == ["gradients_untouched"]


@pytest.mark.parametrize("build", [sgd, Descent])
def test_watching_the_laws_does_not_alter_the_curve(build: Callable[[Iterable[Any]], Any]) -> None:
    watched, unwatched = (train(build, TwoGroups(), Conditions(watch=watch)) for watch in (True, False))
    assert (watched.losses, watched.norms) == (unwatched.losses, unwatched.norms)


def test_a_run_names_its_route() -> None:
    assert train(sgd, BOWL, Conditions(route="resume")).route == "resume"


def test_an_optimizer_with_two_modes_is_evaluated_in_the_other_one_at_the_end() -> None:
    modes: list[str] = []

    class Switches(Descent):
        def train(self) -> None:
            modes.append("train")

        def eval(self) -> None:
            modes.append("eval")

    train(Switches, BOWL, Conditions())
    assert modes == ["train", "eval", "train"]


def test_jitter_moves_the_curve_by_rounding_only() -> None:
    plain = train(Descent, BOWL, Conditions())
    jittered = train(Descent, BOWL, JITTERED)
    assert jittered.losses != plain.losses
    assert jittered.losses == pytest.approx(plain.losses, rel=1e-13)
    assert jittered.losses[0] == plain.losses[0]


def test_another_seed_is_another_jitter() -> None:
    assert train(Descent, BOWL, JITTERED).losses != train(Descent, BOWL, Conditions(jitter=1)).losses


def test_a_storm_moves_the_curve_farther() -> None:
    plain = train(Descent, BOWL, Conditions()).losses
    calm, storm = (train(Descent, BOWL, replace(JITTERED, ulps=ulps)).losses for ulps in (1.0, 2.0**20))
    ratios = [abs(s - p) / abs(c - p) for s, c, p in zip(storm, calm, plain, strict=True) if c != p]
    assert max(ratios) > 2.0**17


def test_jitter_reaches_the_results_inside_the_step() -> None:
    """With a gradient of zeros only the update itself can round."""

    class Decays(Descent):
        def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
            del gradient
            parameter.mul_(1.0 - lr)

    plain, jittered = (train(Decays, BOWL, conditions) for conditions in (Conditions(), JITTERED))
    assert plain.norms != jittered.norms


def test_training_leaves_the_caller_s_random_stream_alone() -> None:
    state = torch.get_rng_state()
    train(Fails, BOWL, Conditions())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_a_golden_of_the_cpu_judges_a_training_on_cuda() -> None:
    from pytest_optcheck import judge, workloads
    from pytest_optcheck.recorder import Recording, record
    from pytest_optcheck.specs import parse

    spec = parse("torch.optim:AdamW(lr=0.001, weight_decay=0.1)")
    zoo = workloads.load(workloads.BUILTIN["zoo"])
    golden = record(Recording(spec, zoo))
    run = train(spec.factory(), zoo, Conditions("float64", "cuda", golden.needs))
    verdict = judge.judge(run, golden, judge.Policy())
    assert (run.device, verdict.kind) == ("cuda", "match"), verdict
