"""Every law is broken by one optimizer that keeps all others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch
from route_mutants import AsksTwice, DetachesInDifferentiable, Mixed, Rule, State, spec
from torch import Tensor

from pytest_optcheck import laws
from pytest_optcheck.building import assemble
from pytest_optcheck.cases import Case, Scope
from pytest_optcheck.checking import check
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.curves import PLAIN, Needs, Run
from pytest_optcheck.envelopes import bare_curve
from pytest_optcheck.format import SCHEMA, Golden, Recorded, WorkloadId
from pytest_optcheck.goldens import Goldens
from pytest_optcheck.judge import Policy, Verdict, judge
from pytest_optcheck.laws import watched_updates
from pytest_optcheck.settings import Settings
from pytest_optcheck.training import Training, train

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

MIXED = Mixed()


class HalvesGradients(Rule):
    """gradients_untouched."""

    def update(self, group: dict[str, Any]) -> None:
        super().update(group)
        for p in group["params"]:
            if p.grad is not None and not p.grad.is_sparse:
                p.grad.mul_(0.5)


class DecaysWithoutGradient(Rule):
    """no_gradient_no_move."""

    def update(self, group: dict[str, Any]) -> None:
        super().update(group)
        for p in group["params"]:
            if p.grad is None and p.requires_grad:
                p.mul_(1.0 - group["lr"])


class DecaysFrozen(Rule):
    """frozen_no_move."""

    def update(self, group: dict[str, Any]) -> None:
        super().update(group)
        for p in group["params"]:
            if not p.requires_grad:
                p.mul_(1.0 - group["lr"])


class LeavesScalars(Rule):
    """parameters_move."""

    def members(self, group: dict[str, Any]) -> list[Tensor]:
        return [p for p in super().members(group) if p.dim()]


class KeepsOrigin(Rule):
    """state_moves."""

    def moments(self, p: Tensor, state: State, gradient: Tensor) -> None:
        super().moments(p, state, gradient)
        state.setdefault("origin", p.detach().clone())


class CountsTwice(Rule):
    """steps_counted."""

    def count(self, state: State, group: dict[str, Any]) -> float:
        super().count(state, group)
        return super().count(state, group)


class DecaysRate(Rule):
    """settings_kept."""

    def update(self, group: dict[str, Any]) -> None:
        super().update(group)
        group["lr"] *= 0.999


class DecaysWithoutRate(Rule):
    """lr_zero."""

    def write(self, p: Tensor, value: Tensor) -> None:
        super().write(p, value * 0.999)


class DecaysInInfiniteSteps(Rule):
    """inf_step_skipped."""

    _step_supports_amp_scaling = True

    def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - see Rule
        if not getattr(self, "found_inf", False):
            return super().step(closure)
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                p.mul_(0.999)
        return None

    def gradient(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        return super().gradient(p, group) / (getattr(self, "grad_scale", None) or 1.0)


class ForgetsLoss(Rule):
    """closure_loss."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # noqa: ANN401 - see Rule
        super().step(closure)


class EmptiesLoadedDict(Rule):
    """loaded_dict_untouched."""

    def load_state_dict(self, state_dict: State) -> None:
        super().load_state_dict(state_dict)
        state_dict["state"].clear()


class Note:
    """What no file should hold."""


class Notes(Rule):
    """weights_only."""

    def moments(self, p: Tensor, state: State, gradient: Tensor) -> None:
        super().moments(p, state, gradient)
        state.setdefault("note", self.note())

    def note(self) -> object:
        return Note()


class LosesNotes(Notes):
    """state_kept."""

    def note(self) -> object:
        return 1.0

    def load_state_dict(self, state_dict: State) -> None:
        super().load_state_dict(state_dict)
        for state in self.state.values():
            del state["note"]


class Unrepeatable(Rule):
    """repeats: inside every envelope, but not the same bits."""

    built: ClassVar[int] = 0

    def __init__(self, params: Any, lr: float = 0.05) -> None:  # noqa: ANN401 - as Rule
        type(self).built += 1
        super().__init__(params, lr=lr * (1.0 + 4e-16 * (type(self).built % 2)))


class Switches(Rule):
    """What has an eval mode, and comes back from it exactly."""

    away = False

    def eval(self) -> None:
        """To where the loss is taken."""
        self.away = True
        self.scale(2.0)

    def train(self) -> None:
        """Back, if it was away."""
        if self.away:
            self.scale(self.back)
        self.away = False

    back = 0.5

    @torch.no_grad()
    def scale(self, factor: float) -> None:
        """Move everything."""
        for p in self.param_groups[0]["params"]:
            p.mul_(factor)


class SwitchesRoughly(Switches):
    """switch_exact."""

    back = 0.5 + 1e-15


BREAKERS: Mapping[str, tuple[type[Rule], str]] = {
    "gradients_untouched": (HalvesGradients, PLAIN),
    "no_gradient_no_move": (DecaysWithoutGradient, PLAIN),
    "frozen_no_move": (DecaysFrozen, "reordered"),
    "parameters_move": (LeavesScalars, PLAIN),
    "state_moves": (KeepsOrigin, PLAIN),
    "steps_counted": (CountsTwice, PLAIN),
    "settings_kept": (DecaysRate, PLAIN),
    "lr_zero": (DecaysWithoutRate, PLAIN),
    "closure_once": (AsksTwice, "closure"),
    "closure_loss": (ForgetsLoss, "closure"),
    "history_kept": (DetachesInDifferentiable, "differentiable"),
    "inf_step_skipped": (DecaysInInfiniteSteps, "scaled"),
    "loaded_dict_untouched": (EmptiesLoadedDict, "resume"),
    "state_kept": (LosesNotes, "resume"),
    "weights_only": (Notes, "resume"),
    "switch_exact": (SwitchesRoughly, PLAIN),
    "repeats": (Unrepeatable, PLAIN),
}
"""Law -> who breaks it, and on which route."""

WATCHED = {name: breaker for name, breaker in BREAKERS.items() if name != "repeats"}


def trained(optimizer: type[Rule], route: str, workload: Mixed = MIXED, **conditions: Any) -> Run:  # noqa: ANN401 - of Conditions
    """An optimizer on a route, its laws watched unless the conditions say otherwise."""
    build = assemble(spec(optimizer), route)
    assert build is not None
    run = train(build, workload, Conditions(**{"route": route, "watch": True, **conditions}))
    assert run.failure is None
    return run


def golden(run: Run, broken: Mapping[str, str] | None = None, text: str = "spec") -> Golden:
    """A golden recorded from `run`, with the laws that were broken then."""
    return Golden(
        schema=SCHEMA,
        spec=text,
        workload=WorkloadId(MIXED.name, MIXED.digest, MIXED.steps),
        recorded=Recorded(*[""] * len(Recorded.__struct_fields__)),
        needs=Needs(),
        stochastic=False,
        resolution=None,
        curves={"float64": bare_curve(run)},
        routes={} if run.route == PLAIN else {run.route: "same"},
        broken={run.route: dict(broken)} if broken else {},
    )


def checked(optimizer: type[Rule], curves: Path) -> Verdict:
    """The whole way: the golden of the right optimizer is stored, and this one is checked against it."""
    Goldens(curves).save(golden(trained(Rule, PLAIN), text=spec(optimizer).text))
    settings = Settings(
        targets=(),
        known={MIXED.name: f"{Mixed.__module__}:Mixed"},
        workloads=(MIXED.name,),
        only=(),
        device="cpu",
        curves=curves,
        update=frozenset(),
        reason="",
        allow=frozenset(),
        diverging=frozenset(),
        marked=True,
    )
    return check(Case(spec(optimizer), MIXED.name, "float64", "select", scope=Scope(twice=True)), settings).verdict


def test_every_law_has_a_breaker() -> None:
    assert BREAKERS.keys() == set(laws.NAMES)
    assert len(laws.NAMES) == len(BREAKERS)


@pytest.mark.parametrize("route", sorted({route for _, route in BREAKERS.values()}))
def test_the_right_optimizer_keeps_every_law(route: str) -> None:
    assert trained(Rule, route).broken == {}


@pytest.mark.parametrize("law", WATCHED)
def test_a_law_is_broken_by_its_breaker_and_no_other_is(law: str) -> None:
    breaker, route = WATCHED[law]
    assert set(trained(breaker, route).broken) == {law}


@pytest.mark.parametrize("law", WATCHED)
def test_a_law_that_is_newly_broken_is_lost_by_name(law: str) -> None:
    run = trained(*WATCHED[law])
    verdict = judge(run, golden(run), Policy())
    assert verdict.kind == "lost"
    assert verdict.note == f"law {law}: {run.broken[law]}"


@pytest.mark.parametrize("law", WATCHED)
def test_a_law_that_was_broken_when_recorded_is_not_held_against_it(law: str) -> None:
    run = trained(*WATCHED[law])
    assert judge(run, golden(run, {law: "then"}), Policy()).kind == "match"


@pytest.mark.parametrize("law", WATCHED)
def test_a_law_that_was_broken_elsewhere_is_held_against_it(law: str) -> None:
    run = trained(*WATCHED[law])
    other = next(name for name in laws.NAMES if name != law)
    assert judge(run, golden(run, {other: "then"}), Policy()).kind == "lost"


def test_runs_that_differ_in_their_last_bits_are_lost_by_name(tmp_path: Path) -> None:
    verdict = checked(Unrepeatable, tmp_path)
    assert verdict.kind == "lost"
    assert verdict.note == "law repeats: two runs of the same code differ"


@pytest.mark.parametrize(("optimizer", "kind"), [(Rule, "match"), (HalvesGradients, "lost"), (KeepsOrigin, "lost")])
def test_laws_are_watched_in_a_check(optimizer: type[Rule], kind: str, tmp_path: Path) -> None:
    assert checked(optimizer, tmp_path).kind == kind


@pytest.mark.parametrize("law", ["gradients_untouched", "no_gradient_no_move", "parameters_move", "lr_zero"])
def test_nothing_is_watched_unless_it_is_asked_for(law: str) -> None:
    assert trained(*WATCHED[law], watch=False).broken == {}


@pytest.mark.parametrize(
    "law",
    [
        "closure_once",
        "closure_loss",
        "history_kept",
        "inf_step_skipped",
        "loaded_dict_untouched",
        "state_kept",
        "weights_only",
    ],
)
def test_what_a_route_checks_itself_is_always_watched(law: str) -> None:
    assert set(trained(*WATCHED[law], watch=False).broken) == {law}


@pytest.mark.parametrize(
    ("told", "kept"),
    [(lambda loss: loss, True), (float, True), (lambda loss: (loss, 1), False), (lambda loss: loss.expand(2), False)],
    ids=["tensor", "number", "pair", "two"],
)
def test_a_loss_may_be_returned_as_a_number_and_nothing_else(told: Callable[[Any], Any], kept: bool) -> None:
    class Returns(Rule):
        def step(self, closure: Callable[[], Any] | None = None) -> Any:  # noqa: ANN401 - see Rule
            loss = super().step(closure)
            return None if loss is None else told(loss)

    run = train(Returns, MIXED, Conditions(route="closure"))
    assert set(run.broken) == (set() if kept else {"closure_loss"})


def test_the_first_breach_of_a_law_is_told() -> None:
    how = trained(DecaysWithoutGradient, PLAIN).broken["no_gradient_no_move"]
    assert how == "update 1 moved late, which has no gradient"


def test_the_first_updates_the_middle_and_the_last_are_watched() -> None:
    assert watched_updates(60) == {1, 2, 3, 4, 30, 31, 60}
    assert watched_updates(12) == {1, 2, 3, 4, 6, 7, 12}


@pytest.mark.parametrize(("at", "seen"), [(3, True), (5, False), (7, True), (11, False), (12, True)])
def test_a_single_bad_update_is_seen_where_it_is_watched(at: int, seen: bool) -> None:
    class Once(Rule):
        def update(self, group: dict[str, Any]) -> None:
            super().update(group)
            (first, *_) = group["params"]
            if self.state[first]["step"] == at:
                first.grad.zero_()

    run = train(Once, MIXED, Conditions(watch=True))
    assert ("gradients_untouched" in run.broken) is seen


def test_an_eval_mode_that_is_left_exactly_breaks_no_law() -> None:
    assert trained(Switches, PLAIN).broken == {}


def test_watching_changes_no_curve() -> None:
    quiet, watching = (trained(Rule, PLAIN, watch=watch) for watch in (False, True))
    assert (quiet.losses, quiet.norms) == (watching.losses, watching.norms)


def test_gradients_are_a_closures_own_affair() -> None:
    class Closes(HalvesGradients):
        pass

    run = train(Closes, MIXED, Conditions(watch=True, needs=Needs(closure=True)))
    assert run.broken == {}


def test_a_counter_counts_updates_and_not_calls_of_the_closure() -> None:
    run = train(AsksTwice, MIXED, Conditions(watch=True, needs=Needs(closure=True)))
    assert run.broken == {}


@pytest.mark.parametrize("kind", [int, float, torch.tensor])
def test_a_counter_may_be_a_number_or_a_tensor(kind: Any) -> None:  # noqa: ANN401 - any of the three
    class Numbers(Rule):
        off: ClassVar[int] = 0

        def count(self, state: State, group: dict[str, Any]) -> float:
            count = super().count(state, group)
            state["step"] = kind(float(state["step"]))
            return count

    class Wrong(Numbers):
        def moments(self, p: Tensor, state: State, gradient: Tensor) -> None:
            fresh = "step" not in state
            super().moments(p, state, gradient)
            state["step"] += int(fresh)

    assert train(Numbers, MIXED, Conditions(watch=True)).broken == {}
    wrong = train(Wrong, MIXED, Conditions(watch=True)).broken
    assert wrong == {
        "steps_counted": f"the counter of matrix is {MIXED.steps + 1} after {MIXED.steps} updates with a gradient"
    }


def test_a_counter_of_another_kind_is_none() -> None:
    class Words(Rule):
        def update(self, group: dict[str, Any]) -> None:
            for state in self.state.values():
                state["step"] = torch.tensor(float(state["step"]))
            super().update(group)
            for state in self.state.values():
                state["step"] = str(float(state["step"]))

    assert train(Words, MIXED, Conditions(watch=True)).broken == {}


class Constant(Mixed):
    """The same gradients at every update."""

    def backward(self, problem: Any, step: int) -> Tensor:  # noqa: ANN401 - a Problem
        loss = super().backward(problem, step)
        for parameter in problem.parameters.values():
            if parameter.grad is not None:
                parameter.grad = torch.ones_like(parameter)
        return loss


class KeepsSign(Rule):
    """State that follows the gradients, and does not move where they do not."""

    def moments(self, p: Tensor, state: State, gradient: Tensor) -> None:
        super().moments(p, state, gradient)
        state["previous"] = gradient.clone()


def test_state_may_stay_where_gradients_do() -> None:
    assert trained(KeepsSign, PLAIN, Constant()).broken == {}
    assert trained(KeepsSign, PLAIN).broken == {}


class NoGradients(Mixed):
    """Zero gradients for one tensor."""

    def backward(self, problem: Any, step: int) -> Tensor:  # noqa: ANN401 - a Problem
        loss = super().backward(problem, step)
        problem.parameters["scalar"].grad.zero_()
        return loss


def test_a_parameter_whose_gradients_are_zero_may_stay() -> None:
    assert trained(LeavesScalars, PLAIN, NoGradients()).broken == {}


def test_a_parameter_may_stay_for_a_while() -> None:
    class Late(Rule):
        def members(self, group: dict[str, Any]) -> list[Tensor]:
            self.asked = getattr(self, "asked", 0) + 1
            return [p for p in super().members(group) if p.dim() or self.asked > 5]

    broken = train(Late, MIXED, Conditions(watch=True)).broken
    assert set(broken) == {"steps_counted"}


def test_a_parameter_of_few_bits_may_stay() -> None:
    assert trained(LeavesScalars, "bfloat16").broken == {}
    assert trained(LeavesScalars, "complex").broken.keys() == {"parameters_move"}


def test_an_update_with_lr_0_may_not_raise() -> None:
    class Divides(Rule):
        def rate(self, group: dict[str, Any], correction: float) -> float | Tensor:
            return 1.0 / (1.0 / super().rate(group, correction))

    broken = train(Divides, MIXED, Conditions(watch=True)).broken
    assert broken == {"lr_zero": "an update with lr=0 raised ZeroDivisionError: float division by zero"}


def test_an_update_with_lr_0_may_not_make_a_nan() -> None:
    class Divides(Rule):
        def write(self, p: Tensor, value: Tensor) -> None:
            super().write(p, value if self.param_groups[0]["lr"] else value * math.nan)

    assert set(train(Divides, MIXED, Conditions(watch=True)).broken) == {"lr_zero"}


def test_the_update_with_lr_0_leaves_no_trace() -> None:
    made = Training(Rule, MIXED, Conditions(watch=True))
    run = made.run()
    assert len(run.losses) == MIXED.steps + 1
    assert made.optimizer.param_groups[0]["lr"] == 0.0


def test_an_lr_that_is_a_tensor_becomes_a_zero_tensor() -> None:
    made = Training(lambda params: Rule(params, lr=torch.tensor(0.05)), MIXED, Conditions(watch=True))  # type: ignore[arg-type] # as torch
    run = made.run()
    assert run.broken == {}
    assert torch.equal(made.optimizer.param_groups[0]["lr"], torch.tensor(0.0))


def test_an_optimizer_without_a_learning_rate_keeps_the_law_of_it() -> None:
    class NoRate(DecaysWithoutRate):
        def __init__(self, params: Any) -> None:  # noqa: ANN401 - as Rule
            super().__init__(params)
            for group in self.param_groups:
                group["size"] = group.pop("lr")

        def update(self, group: dict[str, Any]) -> None:
            group["lr"] = group["size"]
            super().update(group)
            del group["lr"]

    assert train(NoRate, MIXED, Conditions(watch=True)).broken == {}


class HalvesDecay(Rule):
    """Writes into a setting."""

    def update(self, group: dict[str, Any]) -> None:
        super().update(group)
        group["weight_decay"] *= 0.5


@pytest.mark.parametrize(
    ("optimizer", "broken"), [(Rule, set()), (DecaysRate, {"settings_kept"}), (HalvesDecay, {"settings_kept"})]
)
def test_a_scheduler_may_set_the_learning_rate_and_a_step_may_not(optimizer: type[Rule], broken: set[str]) -> None:
    def build(params: Any) -> Any:  # noqa: ANN401 - see specs.Factory
        made = optimizer(params)
        return made, [torch.optim.lr_scheduler.ExponentialLR(made, 0.9)]

    assert set(train(build, MIXED, Conditions(watch=True)).broken) == broken


def test_a_setting_that_is_written_is_told_with_both_values() -> None:
    how = trained(HalvesDecay, PLAIN).broken["settings_kept"]
    assert how == "group 0 has weight_decay=0.05 after update 1, had 0.1"


def test_laws_hold_for_sparse_gradients() -> None:
    run = train(Rule, MIXED, Conditions(watch=True, needs=Needs(sparse=True)))
    assert run.broken == {}

    class Empties(Rule):
        def update(self, group: dict[str, Any]) -> None:
            super().update(group)
            for p in group["params"]:
                if p.grad is not None and p.grad.is_sparse:
                    p.grad = p.grad * 0.5

    assert set(train(Empties, MIXED, Conditions(watch=True, needs=Needs(sparse=True))).broken) == {
        "gradients_untouched"
    }
