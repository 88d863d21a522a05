from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from guarded import SCOPE, Faster, Plain, asked, case, plain_golden
from msgspec import structs
from toys import Bowl, Descent, toy

from pytest_optcheck import judge, selftest
from pytest_optcheck.cases import BREAKS, LR, STATE, SYNC, TENSOR, UNTOUCHED, WAIT, Planted, Result
from pytest_optcheck.cost import gate, sides, versus
from pytest_optcheck.cost.control import NoTimingError
from pytest_optcheck.cost.counting import count
from pytest_optcheck.cost.figures import TEN, version_key
from pytest_optcheck.cost.ratios import Decision
from pytest_optcheck.goldens import Goldens
from pytest_optcheck.judge import Verdict
from pytest_optcheck.recorder import Recording, record

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_optcheck.cost.versus import Company
    from pytest_optcheck.format import Golden

Anything = Any
"""An optimizer, fields of a golden, what a stand-in takes."""


def planted(result: Result) -> Planted:
    assert result.planted is not None
    return result.planted


def told(tmp_path: Path, build: Anything = Plain, golden: Golden | None = None, **how: Anything) -> dict[str, Result]:
    """The answers by break for an optimizer that a golden guards, its own if none is given."""
    guard = golden or (plain_golden() if build is Plain else record(Recording(toy(build), Bowl())))
    Goldens(tmp_path).save(guard)
    asked_for = case(build, None, scope=replace(SCOPE, **how.pop("scope", {})))
    return {planted(result).name: result for result in selftest.check(asked_for, asked(tmp_path, **how))}


def outcomes(found: dict[str, Result]) -> dict[str, str]:
    return {name: planted(result).outcome for name, result in found.items()}


CURVES_CAUGHT = {
    UNTOUCHED: "green",
    LR: "caught",
    TENSOR: "caught",
    STATE: "caught",
    SYNC: "unasked",
    WAIT: "unasked",
}


def test_every_break_of_the_curve_is_caught_and_the_untouched_copy_is_green(tmp_path: Path) -> None:
    found = told(tmp_path)
    assert outcomes(found) == CURVES_CAUGHT
    assert list(found) == list(BREAKS)
    assert found[LR].verdict.first_step == 1
    assert found[STATE].verdict.first_step == 4  # of six updates the third was the last with its velocity
    assert (planted(found[SYNC]).why, planted(found[WAIT]).why) == ("not counted", "not timed")


def test_a_judge_that_passes_everything_is_found_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "judge", lambda *_: Verdict("match"))
    found = told(tmp_path)
    missed = {name for name, result in found.items() if planted(result).outcome == "missed"}
    assert missed == {LR, TENSOR, STATE}
    assert planted(found[LR]).why.startswith("pytest_optcheck.judge.judge is test_selftest.test_a_judge_that_passes")


def test_a_tolerance_without_end_is_found_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge.Policy, "tolerance", lambda *_: float("inf"))
    found = told(tmp_path)
    assert outcomes(found)[LR] == "missed"
    assert "pytest_optcheck.judge.Policy.tolerance is test_selftest." in planted(found[LR]).why


def test_a_verdict_that_is_allowed_is_let_pass(tmp_path: Path) -> None:
    found = told(tmp_path, allow=frozenset({"changed"}))
    assert {planted(found[name]).outcome for name in (LR, TENSOR, STATE)} == {"let pass"}


def test_a_verdict_that_counts_as_passing_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "PASSING", ("match", "incomparable", "changed"))
    assert outcomes(told(tmp_path))[LR] == "missed"


def test_an_envelope_as_wide_as_the_curve_is_missed(tmp_path: Path) -> None:
    golden = plain_golden()
    wide = {
        dtype: structs.replace(
            curve,
            losses=[structs.replace(point, envelope=1e30) for point in curve.losses],
            norms={n: [structs.replace(p, envelope=1e30) for p in points] for n, points in curve.norms.items()},
        )
        for dtype, curve in golden.curves.items()
    }
    assert outcomes(told(tmp_path, golden=structs.replace(golden, curves=wide)))[LR] == "missed"


class Stateless(torch.optim.SGD):
    """Plain gradient descent."""

    def __init__(self, params: Iterable[Any]) -> None:
        super().__init__(params, lr=0.1)


def test_a_rule_without_state_has_none_to_lose(tmp_path: Path) -> None:
    state = planted(told(tmp_path, Stateless)[STATE])
    assert (state.outcome, state.why) == ("nothing", "no state")


class Counts(Descent):
    """Keeps a tensor that it never uses."""

    def __init__(self, params: Iterable[Any]) -> None:
        super().__init__(params)
        self.state: dict[str, torch.Tensor] = {}

    def step(self) -> None:
        self.state["seen"] = self.state.get("seen", torch.zeros(())) + 1
        super().step()


def test_state_that_reaches_no_parameter_is_no_loss(tmp_path: Path) -> None:
    state = planted(told(tmp_path, Counts)[STATE])
    assert (state.outcome, state.why) == ("nothing", "no effect")


class Slackens(Descent):
    """Keeps a counter to itself, and takes shorter steps as it grows."""

    def step(self) -> None:
        for group in self.param_groups:
            group.setdefault("first", group["lr"])
            group["lr"] = group["first"] / (1 + self.updates)
        super().step()


def test_state_that_is_kept_elsewhere_is_lost_too(tmp_path: Path) -> None:
    assert outcomes(told(tmp_path, Slackens))[STATE] == "caught"


class Rateless(Descent):
    """Gradient descent that keeps its learning rate to itself."""

    def __init__(self, params: Iterable[Any]) -> None:
        super().__init__(params)
        for group in self.param_groups:
            group.pop("lr")

    def step(self) -> None:
        with torch.no_grad():
            for parameter in self.parameters:
                if parameter.grad is not None:
                    self.update(parameter, parameter.grad, 0.1)


def test_a_rule_without_a_learning_rate_says_so(tmp_path: Path) -> None:
    rate = planted(told(tmp_path, Rateless)[LR])
    assert (rate.outcome, rate.why) == ("nothing", "no lr")


@pytest.mark.parametrize(("seen", "how"), [(1e-9, "lr × 1.001"), (0.05, "lr × 1.05")])
def test_a_golden_is_asked_for_no_more_than_it_claims_to_see(seen: float, how: str, tmp_path: Path) -> None:
    rate = planted(told(tmp_path, golden=structs.replace(plain_golden(), resolution=seen))[LR])
    assert (rate.outcome, rate.how) == ("caught", how)


def test_a_golden_that_sees_no_rate_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "judge", lambda *_: Verdict("match"))
    rate = planted(told(tmp_path, golden=structs.replace(plain_golden(), resolution=None))[LR])
    assert (rate.outcome, rate.why) == ("nothing", "golden sees none")


def test_one_that_cannot_be_built_twice_is_not_said_to_be_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden, built = plain_golden(), Plain.__init__

    def refuse(optimizer: Plain, params: Iterable[Any]) -> None:
        groups = list(params)
        if any(tensor.grad is not None for tensor in groups):
            raise RuntimeError("not twice")
        built(optimizer, groups)

    monkeypatch.setattr(Plain, "__init__", refuse)
    state = planted(told(tmp_path, golden=golden)[STATE])
    assert (state.outcome, state.why) == ("cannot tell", "RuntimeError: not twice")


def test_without_a_golden_nothing_is_broken(tmp_path: Path) -> None:
    (only,) = selftest.check(case(dtype=None), asked(tmp_path))
    assert (only.verdict.kind, planted(only).outcome, only.resolution) == ("missing", "red", None)


def test_an_optimizer_that_does_not_match_is_not_broken_any_further(tmp_path: Path) -> None:
    found = told(tmp_path, Faster, plain_golden())
    assert outcomes(found) == {UNTOUCHED: "red"}
    assert found[UNTOUCHED].verdict.kind == "changed"


@pytest.fixture(scope="module")
def counted() -> Golden:
    """A golden with the counts of its steps."""
    costs = {version_key(): count(case().spec, plain_golden().needs, lists=(TEN,)).cost}
    return structs.replace(plain_golden(), costs=costs)


COUNTED = {"counted": ("zoo", TEN)}
"""The golden knows the second alone."""


def test_a_sync_is_heavier_and_the_untouched_copy_is_not(counted: Golden, tmp_path: Path) -> None:
    found = told(tmp_path, golden=counted, scope=COUNTED)
    assert outcomes(found) == {**CURVES_CAUGHT, SYNC: "caught"}
    assert found[SYNC].verdict.kind == "heavier"
    assert found[UNTOUCHED].route == "counts"  # the second of the two that are green


def test_a_gate_that_counts_nothing_is_found_and_named(
    counted: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "compare", lambda *_: gate.Comparison())
    sync = planted(told(tmp_path, golden=counted, scope=COUNTED)[SYNC])
    assert (sync.outcome, sync.why.partition(" is ")[0]) == ("missed", "pytest_optcheck.cost.gate.compare")


def test_a_gate_that_minds_everything_is_not_green(
    counted: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "compare", lambda *_: gate.Comparison(heavier=("more",)))
    assert outcomes(told(tmp_path, golden=counted, scope=COUNTED)) == {UNTOUCHED: "red"}


def test_counts_of_other_versions_cannot_tell(tmp_path: Path) -> None:
    sync = planted(told(tmp_path, scope=COUNTED)[SYNC])
    assert sync.outcome == "cannot tell"
    assert sync.why.startswith("no steps were counted yet")


def decided(answer: Anything, reason: str = "") -> Decision:
    return Decision(answer, reason, 1.2, 1.19, 1.21, 0.01, 0.01, 16)


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        (decided("slower"), ("slower", "caught", "")),
        (decided("not slower"), ("match", "missed", "pytest_optcheck.cost.versus.compare is test_selftest.")),
        (
            decided("cannot tell", "too much noise"),
            ("incomparable", "cannot tell", "step times: cannot tell, too much noise"),
        ),
    ],
)
def test_a_slower_step_is_held_against_an_untouched_one_that_is_there_twice(
    decision: Decision, expected: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, outcome, why = expected
    built = []

    def compare(first: Company, second: Company, watch: Anything) -> Decision:
        for company in (first, second):
            with company() as present:
                for side in present:
                    assert isinstance(side, sides.StepSide)
                    built.append(type(side.make().optimizer).__name__)
        assert watch.name == "cpu"
        return decision

    monkeypatch.setattr(versus, "compare", compare)
    wait = told(tmp_path, scope={"timed": True})[WAIT]
    assert (wait.verdict.kind, planted(wait).outcome) == (kind, outcome)
    assert planted(wait).why.startswith(why)
    assert bool(planted(wait).why) == bool(why)
    assert built == ["Waits", "Untouched", "Untouched"] * 2
    assert wait.timing["ratio"] == 1.2


@pytest.mark.parametrize("error", [NoTimingError("the machine is busy"), sides.RefusedError("the machine is busy")])
def test_a_busy_machine_cannot_tell(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Anything:
        raise error

    monkeypatch.setattr(versus, "compare", refuse)
    wait = planted(told(tmp_path, scope={"timed": True})[WAIT])
    assert (wait.outcome, wait.why) == ("cannot tell", "step times: the machine is busy")


def test_a_real_wait_is_not_missed(tmp_path: Path) -> None:
    assert outcomes(told(tmp_path, scope={"timed": True}))[WAIT] in ("caught", "cannot tell")


def test_what_was_planted_travels_with_the_result(tmp_path: Path) -> None:
    for result in told(tmp_path).values():
        assert Result.from_dict(result.as_dict()) == result
