from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import pytest
import torch
from guarded import Faster, Plain, asked, case, only, plain_golden, written
from msgspec import structs

from pytest_optcheck import costing
from pytest_optcheck.cases import COUNTS, TIMING, Result, Scope
from pytest_optcheck.cost import control, counting, recompiles
from pytest_optcheck.cost.counting import count
from pytest_optcheck.cost.figures import TEN, ZOO, Cost, Timing, version_key
from pytest_optcheck.cost.locks import DeviceLock
from pytest_optcheck.cost.ratios import Decision
from pytest_optcheck.curves import Needs
from pytest_optcheck.goldens import Goldens
from pytest_optcheck.judge import Verdict
from pytest_optcheck.updating import update

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_optcheck.format import Golden

Anything: TypeAlias = Any
"""What an optimizer takes and returns, fields of a case, and what a stand-in takes."""

COUNTED = Scope(counted=(TEN,))
HERE = {"cpu": "this one"}
THERE = {"cpu": "another"}


class Heavier(Plain):
    """Waits for a number in every step, for nothing."""

    @torch.no_grad()
    def step(self, closure: Anything = None) -> Anything:
        self.param_groups[0]["params"][0].sum().item()
        return super().step(closure)


@pytest.fixture(scope="module")
def cost() -> Cost:
    return count(case().spec, Needs(), lists=(TEN,)).cost


@pytest.fixture(scope="module")
def wide_cost() -> Cost:
    return count(case().spec, Needs(), lists=(ZOO, TEN)).cost


@pytest.fixture
def golden(cost: Cost) -> Golden:
    return structs.replace(plain_golden(), costs={version_key(): cost})


def checked(build: Anything, golden: Golden, tmp_path: Path, **fields: Anything) -> Result:
    Goldens(tmp_path).save(golden)
    return only(costing.check(case(build, None, scope=COUNTED, **fields), asked(tmp_path)))


def test_the_same_code_costs_the_same(golden: Golden, tmp_path: Path) -> None:
    found = checked(Plain, golden, tmp_path)
    assert (found.verdict, found.route) == (Verdict("match"), COUNTS)
    assert msgspec.convert(found.cost, Cost) == golden.costs[version_key()]


def test_what_a_step_does_more_is_named(golden: Golden, tmp_path: Path) -> None:
    verdict = checked(Heavier, golden, tmp_path).verdict
    assert verdict.kind == "heavier"
    assert "ten, warm: 0 → 1 syncs" in verdict.details
    assert any("+1 _local_scalar_dense" in line and "+1 sum" in line for line in verdict.details)


def test_what_can_no_longer_be_counted_says_why(golden: Golden, tmp_path: Path) -> None:
    class LoadsNothing(Plain):
        def load_state_dict(self, state_dict: Anything) -> None:
            raise KeyError(len(state_dict))

    verdict = checked(LoadsNothing, golden, tmp_path).verdict
    assert verdict.kind == "heavier"
    assert "ten, resumed: can no longer be counted: KeyError: 2" in verdict.details


def test_what_a_step_does_less_passes_and_is_told(tmp_path: Path) -> None:
    heavier = count(case(Heavier).spec, Needs(), lists=(TEN,)).cost
    verdict = checked(Plain, structs.replace(plain_golden(), costs={version_key(): heavier}), tmp_path).verdict
    assert verdict.kind == "match"
    assert "ten, warm: 1 → 0 syncs" in verdict.details


@pytest.mark.parametrize(
    ("known", "note"),
    [
        ((), "no steps were counted yet, this is"),
        (("torch 1.0, python 3.0",), "steps were counted with torch 1.0, python 3.0, this is"),
    ],
)
def test_counts_of_other_versions_are_not_compared(known: Sequence[str], note: str, cost: Cost, tmp_path: Path) -> None:
    found = checked(Plain, structs.replace(plain_golden(), costs=dict.fromkeys(known, cost)), tmp_path)
    assert found.verdict.kind == "incomparable"
    assert found.verdict.note.startswith(note)
    assert "--optcheck-update=missing" in found.verdict.note


def test_counts_taken_on_the_cpu_say_nothing_of_another_device(
    golden: Golden, cost: Cost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "count", lambda *_, **__: counting.Counted(cost, {}))
    result = costing.counted(case(scope=COUNTED), asked(tmp_path, "missing", device="cuda:1"), golden)
    assert result.verdict.kind == "incomparable"
    assert f"steps were counted with {version_key()}, this is {version_key()}, cuda;" in result.verdict.note
    both = costing.renewed(golden, result, asked(tmp_path, "missing", device="cuda:1"))
    assert list(both) == [version_key(), version_key("cuda")]


def test_only_the_lists_that_are_asked_for_are_compared(golden: Golden, tmp_path: Path) -> None:
    more = {
        version_key(): Cost({**golden.costs[version_key()].lists, "another": golden.costs[version_key()].lists[TEN]})
    }
    assert checked(Plain, structs.replace(golden, costs=more), tmp_path).verdict.kind == "match"


@pytest.mark.parametrize("scope", [Scope(), COUNTED])
def test_without_counts_to_take_or_a_golden_there_is_nothing_to_say(
    scope: Scope, golden: Golden, tmp_path: Path
) -> None:
    if scope != COUNTED:
        Goldens(tmp_path).save(golden)
    assert costing.check(case(dtype=None, scope=scope), asked(tmp_path)) == []


def test_a_golden_is_recorded_with_its_counts(cost: Cost, tmp_path: Path) -> None:
    result = only(update(case(dtype=None, scope=COUNTED), asked(tmp_path, "missing")))
    assert written(result, tmp_path).costs == {version_key(): cost}


def test_counts_of_this_version_are_added_beside_those_of_others(cost: Cost, tmp_path: Path) -> None:
    old = {"torch 1.0, python 3.0": cost}
    Goldens(tmp_path).save(structs.replace(plain_golden(), costs=old))
    result = only(update(case(dtype=None, scope=COUNTED), asked(tmp_path, "missing")))
    assert result.effect == "steps counted"
    assert written(result, tmp_path) == structs.replace(plain_golden(), costs={**old, version_key(): cost})


def test_counts_that_grew_are_recorded_on_demand_alone(golden: Golden, tmp_path: Path) -> None:
    """Those of other versions, taken of the old code, go."""
    golden = structs.replace(golden, costs={**golden.costs, "torch 1.0, python 3.0": golden.costs[version_key()]})
    Goldens(tmp_path).save(golden)
    heavier = case(Heavier, None, scope=COUNTED)
    refused = only(update(heavier, asked(tmp_path, "missing")))
    assert (refused.verdict.kind, refused.golden) == ("heavier", None)
    accepted = written(only(update(heavier, asked(tmp_path, "changed"))), tmp_path)
    assert list(accepted.costs) == [version_key()]
    assert accepted.costs != golden.costs


def test_counts_that_are_as_they_were_are_left_alone(golden: Golden, tmp_path: Path) -> None:
    Goldens(tmp_path).save(golden)
    result = only(update(case(dtype=None, scope=COUNTED), asked(tmp_path, "all")))
    assert (result.verdict.kind, result.golden) == ("match", None)


def test_accepting_what_was_counted_on_some_lists_loses_none(wide_cost: Cost, tmp_path: Path) -> None:
    Goldens(tmp_path).save(structs.replace(plain_golden(), costs={version_key(): wide_cost}))
    result = only(update(case(Heavier, None, scope=COUNTED), asked(tmp_path, "changed")))
    heavier = count(case(Heavier).spec, Needs(), lists=(ZOO, TEN)).cost
    assert written(result, tmp_path).costs == {version_key(): heavier}


def test_a_list_that_was_not_counted_yet_is_missing(golden: Golden, wide_cost: Cost, tmp_path: Path) -> None:
    Goldens(tmp_path).save(golden)
    wide = case(dtype=None, scope=Scope(counted=(ZOO, TEN)))
    assert only(update(wide, asked(tmp_path, "changed"))).golden is None
    result = only(update(wide, asked(tmp_path, "missing")))
    assert result.effect == "steps counted"
    assert written(result, tmp_path) == structs.replace(golden, costs={version_key(): wide_cost})


def test_a_golden_recorded_anew_keeps_counts_and_times_though_neither_was_asked_for(
    wide_cost: Cost, tmp_path: Path
) -> None:
    """The times are of the old step: better than none, which no check would miss."""
    Goldens(tmp_path).save(structs.replace(plain_golden(), costs={version_key(): wide_cost}, timings=(timing(),)))
    new = written(only(update(case(Faster, None, scope=Scope()), asked(tmp_path, "changed"))), tmp_path)
    assert new.curves != plain_golden().curves
    assert new.costs == {version_key(): count(case(Faster).spec, Needs(), lists=(ZOO, TEN)).cost}
    assert new.timings == (timing(),)


@pytest.fixture
def recompiling(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often each compiled step is compiled again, instead of compiling it."""
    answers: list[int] = []
    monkeypatch.setattr(recompiles, "count", lambda _: answers.pop(0))
    return answers


FULL = Scope(counted=(TEN,), compiled=True)


def compiled(cost: Cost, recompiles: int | None) -> Cost:
    return Cost({TEN: structs.replace(cost.lists[TEN], recompiles=recompiles)})


def test_a_step_that_is_compiled_again_more_often_is_heavier(
    golden: Golden, cost: Cost, tmp_path: Path, recompiling: list[int]
) -> None:
    recompiling += [4]
    Goldens(tmp_path).save(structs.replace(golden, costs={version_key(): compiled(cost, 0)}))
    found = only(costing.check(case(dtype=None, scope=FULL), asked(tmp_path)))
    assert found.verdict == Verdict("heavier", details=("ten: 0 → 4 recompiles under changing learning rates",))


@pytest.mark.parametrize(("known", "scope"), [(None, FULL), (0, COUNTED)])
def test_recompiles_of_one_side_alone_are_not_counted(
    known: int | None, scope: Scope, cost: Cost, tmp_path: Path, recompiling: list[int]
) -> None:
    Goldens(tmp_path).save(structs.replace(plain_golden(), costs={version_key(): compiled(cost, known)}))
    recompiling += [7]
    found = only(costing.check(case(dtype=None, scope=scope), asked(tmp_path)))
    assert (found.verdict, recompiling) == (Verdict("match"), [7])
    assert "recompiles" not in found.cost["lists"][TEN]


def test_a_golden_is_recorded_with_its_recompiles_or_given_them_later(
    golden: Golden, cost: Cost, tmp_path: Path, recompiling: list[int]
) -> None:
    recompiling += [3, 3]
    expected = {version_key(): compiled(cost, 3)}
    full = case(dtype=None, scope=FULL)
    assert written(only(update(full, asked(tmp_path / "new", "missing"))), tmp_path / "new").costs == expected
    Goldens(tmp_path).save(golden)
    assert written(only(update(full, asked(tmp_path, "missing"))), tmp_path).costs == expected


def test_recompiles_that_were_not_counted_again_stay(
    golden: Golden, cost: Cost, tmp_path: Path, recompiling: list[int]
) -> None:
    Goldens(tmp_path).save(structs.replace(golden, costs={version_key(): compiled(cost, 2)}))
    accepted = written(only(update(case(Heavier, None, scope=COUNTED), asked(tmp_path, "changed"))), tmp_path)
    assert accepted.costs[version_key()].lists[TEN].recompiles == 2
    assert recompiling == []


def decided(answer: Anything, reason: str = "") -> control.Comparison:
    return control.Comparison(Decision(answer, reason, 1.31, 1.27, 1.36, 0.01, 0.01, 16), 2.62, 0.1)


def timing(fingerprint: dict[str, str] = HERE, ratio: float = 2.0) -> Timing:
    return Timing(fingerprint, ratio, 0.01, 24, 0.01)


@pytest.mark.parametrize(
    ("found", "kind", "note"),
    [
        (decided("not slower"), "match", ""),
        (
            decided("slower"),
            "slower",
            "a step takes 1.31 × its golden's time (1.27 to 1.36, 16 blocks); 1.10 × is allowed; 2.62 × the control's",
        ),
        (decided("cannot tell", "too much noise"), "incomparable", "step times: cannot tell, too much noise"),
    ],
)
def test_a_time_is_judged_by_its_golden(
    found: control.Comparison, kind: str, note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[Any] = []

    def compare(spec: Anything, needs: Anything, device: str, timings: Sequence[Timing]) -> control.Comparison:
        asked_for.append((spec.text, needs, device, timings))
        return found

    monkeypatch.setattr(control, "compare", compare)
    Goldens(tmp_path).save(structs.replace(plain_golden(), timings=(timing(),)))
    result = costing.timed(case(dtype=None), asked(tmp_path))
    assert (result.verdict.kind, result.verdict.note, result.route) == (kind, note, TIMING)
    assert (result.timing["ratio"], result.timing["to_golden"], result.timing["blocks"]) == (2.62, 1.31, 16)
    assert asked_for == [(case().spec.text, Needs(), "cpu", (timing(),))]


def refuses(*_: object) -> Anything:
    raise control.NoTimingError("the machine is busy")


def test_a_machine_that_cannot_time_answers_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "compare", refuses)
    Goldens(tmp_path).save(structs.replace(plain_golden(), timings=(timing(),)))
    result = costing.timed(case(dtype=None), asked(tmp_path))
    assert result.verdict == Verdict("incomparable", "step times: the machine is busy")
    assert result.timing == {}


@pytest.mark.parametrize("exists", [False, True])
def test_a_time_is_measured_for_a_golden_that_knows_none_of_this_machine(
    exists: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for one that is only now being recorded, of which nothing is known yet."""
    monkeypatch.setattr(control, "against_control", lambda *_: timing())
    monkeypatch.setattr(control, "compare", refuses)
    if exists:
        Goldens(tmp_path).save(structs.replace(plain_golden(), timings=(timing(THERE),)))
    result = costing.timed(case(dtype=None), asked(tmp_path, "missing"))
    assert result.verdict.kind == "match"
    assert result.timing == {"ratio": 2.0, costing.RECORDED: msgspec.to_builtins(timing())}


BROUGHT = Result(
    "s", "w", "float64", "cpu", "", Verdict("match"), TIMING, timing={costing.RECORDED: msgspec.to_builtins(timing())}
)
SLOWER = replace(BROUGHT, verdict=Verdict("slower"))


@pytest.mark.parametrize(
    ("known", "result", "how", "expected"),
    [
        ((), BROUGHT, ("missing", False), (timing(),)),
        ((), BROUGHT, ("changed", False), ()),
        ((), BROUGHT, ("changed", True), (timing(),)),
        ((timing(THERE),), BROUGHT, ("missing", False), (timing(THERE), timing())),
        ((timing(ratio=1.5),), BROUGHT, ("all", False), (timing(ratio=1.5),)),
        ((timing(ratio=1.5), timing(THERE)), SLOWER, ("changed", False), (timing(THERE), timing())),
        ((timing(ratio=1.5),), SLOWER, ("missing", False), (timing(ratio=1.5),)),
        ((timing(ratio=1.5), timing(THERE)), BROUGHT, ("changed", True), (timing(THERE), timing())),
        ((timing(ratio=1.5),), SLOWER, ("stale", True), (timing(ratio=1.5),)),
    ],
)
def test_a_time_is_kept_where_it_is_missing_or_accepted(
    known: tuple[Timing, ...], result: Result, how: tuple[str, bool], expected: tuple[Timing, ...], tmp_path: Path
) -> None:
    golden = structs.replace(plain_golden(), timings=known)
    mode, anew = how
    kept = costing.with_time(golden, result, asked(tmp_path, mode), anew=anew)
    assert kept == structs.replace(golden, timings=expected)


def test_a_real_step_is_timed_or_the_reason_is_said(tmp_path: Path) -> None:
    result = costing.timed(case(dtype=None), asked(tmp_path, "missing"))
    assert result.verdict.kind in ("match", "incomparable")
    assert bool(result.timing) == (result.verdict.kind == "match")
    assert bool(result.verdict.note) == (result.verdict.kind == "incomparable")


def test_cases_share_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[str] = []

    @contextlib.contextmanager
    def shared(lock: DeviceLock) -> Iterator[None]:
        entered.append(lock.device)
        yield
        entered.append("left")

    monkeypatch.setattr(DeviceLock, "shared", shared)
    with costing.sharing("cpu"):
        assert entered == ["cpu"]
    assert entered == ["cpu", "left"]
