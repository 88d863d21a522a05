from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from msgspec import structs
from test_settings import settings
from toys import Bowl, toy

from pytest_optcheck import checking, goldens, workloads
from pytest_optcheck.checking import Case, Result, Scope, check, check_routes, effect, findings, guarded_routes, update
from pytest_optcheck.curves import DTYPES
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.goldens import Departure, Golden, Goldens, decode
from pytest_optcheck.judge import Verdict
from pytest_optcheck.recorder import Recording, record
from pytest_optcheck.settings import UPDATES, Settings, Target
from pytest_optcheck.specs import parse

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ROUTES = ("deepcopy", "resume")
SCOPE = Scope(DTYPES, ROUTES)


class Plain(torch.optim.SGD):
    """Heavy-ball momentum."""

    def __init__(self, params: Iterable[Any], lr: float = 0.1) -> None:
        super().__init__(params, lr=lr, momentum=0.9)


class Forgets(Plain):
    """Loses its buffers in a load."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "state": {}})


class Faster(Plain):
    """Another rule."""

    def __init__(self, params: Iterable[Any]) -> None:
        super().__init__(params, lr=0.11)


class FasterInFloat32(Plain):
    """Another rule in float32 alone."""

    def __init__(self, params: Iterable[Any]) -> None:
        held = list(params)
        super().__init__(held, lr=0.1 if held[0].dtype == torch.float64 else 0.11)


@pytest.fixture(scope="module")
def golden() -> Golden:
    """The golden of `Plain` with two routes."""
    return record(Recording(toy(Plain), Bowl(), routes=ROUTES))


@pytest.fixture(autouse=True)
def bowl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "load", lambda _target: Bowl())


def asked(tmp_path: Path, mode: str | None = None, **fields: Any) -> Settings:  # noqa: ANN401 - fields of the settings
    chosen = UPDATES[mode] if mode else frozenset()
    return settings(known={"bowl": "toys:Bowl"}, curves=tmp_path, update=chosen, **fields)


def case(build: Any = Plain, dtype: Any = "float64", **fields: Any) -> Case:  # noqa: ANN401 - fields of a case
    return Case(toy(build), "bowl", dtype, "select", **{"scope": SCOPE, **fields})


def only(results: list[Result]) -> Result:
    (result,) = results
    return result


def written(result: Result, tmp_path: Path) -> Golden:
    found = decode(result.golden or "", tmp_path)
    assert found is not None
    return found


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_case_is_judged_in_its_dtype(golden: Golden, tmp_path: Path, dtype: str) -> None:
    Goldens(tmp_path).save(golden)
    result = check(case(dtype=dtype), asked(tmp_path))
    assert (result.verdict.kind, result.dtype, result.route) == ("match", dtype, "plain")
    assert (result.resolution, result.select) == (golden.resolution, "select")
    assert 0.0 < result.step_s < result.train_s
    changed = check(case(FasterInFloat32, dtype), asked(tmp_path))
    assert changed.verdict.kind == ("match" if dtype == "float64" else "changed")


def test_a_case_of_a_route_is_judged_on_that_route(golden: Golden, tmp_path: Path) -> None:
    Goldens(tmp_path).save(golden)
    found = {route: check(case(Forgets, None, route=route), asked(tmp_path)) for route in ROUTES}
    assert {route: (result.verdict.kind, result.route) for route, result in found.items()} == {
        "deepcopy": ("match", "deepcopy"),
        "resume": ("changed", "resume"),
    }


def test_without_a_golden_a_case_is_missing_and_nothing_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "_run", lambda *_: pytest.fail("trained"))
    assert check(case(), asked(tmp_path)).verdict.kind == "missing"


def test_a_route_that_was_not_recorded_is_missing(golden: Golden, tmp_path: Path) -> None:
    Goldens(tmp_path).save(golden)
    verdict = check(case(dtype=None, route="pickle"), asked(tmp_path)).verdict
    assert (verdict.kind, verdict.note) == ("missing", "the golden was recorded without the route pickle")


@pytest.mark.parametrize("text", ["torch.optim:SGDD()", "torch.optim:SGD() >> StepLRR(step_size=3)"])
def test_what_cannot_be_built_is_said_though_there_is_no_golden(tmp_path: Path, text: str) -> None:
    with pytest.raises(OptcheckError, match="did you mean"):
        check(Case(parse(text), "bowl", "float64", ""), asked(tmp_path))


def test_a_constructor_that_no_longer_takes_what_a_route_sets_is_lost(golden: Golden, tmp_path: Path) -> None:
    Goldens(tmp_path).save(structs.replace(golden, routes={"capturable": "same"}))
    verdict = check(case(dtype=None, route="capturable"), asked(tmp_path)).verdict
    assert verdict.kind == "lost"
    assert verdict.note == "the constructor no longer takes what the route capturable sets"


def test_a_dtype_that_the_optimizer_does_not_accept_is_skipped(golden: Golden, tmp_path: Path) -> None:
    Goldens(tmp_path).save(structs.replace(golden, curves={"float32": golden.curves["float32"]}))
    assert check(case(), asked(tmp_path)).skipped == "toy accepts float32 only"
    assert check(case(dtype="float32"), asked(tmp_path)).skipped == ""


def test_a_run_that_does_not_repeat_itself_is_lost_unless_it_never_did(golden: Golden, tmp_path: Path) -> None:
    class Unrepeatable(Plain):
        count = 0

        def step(self) -> None:  # type: ignore[override] # no closure
            type(self).count += 1
            super().step()
            with torch.no_grad():
                group = self.param_groups[0]
                group["params"][0].mul_(1.0 + 1e-14 * group["lr"] * (self.count % 5))

    Goldens(tmp_path).save(golden)
    verdict = check(case(Unrepeatable), asked(tmp_path)).verdict
    assert (verdict.kind, verdict.note) == ("lost", "law repeats: two runs of the same code differ")
    Goldens(tmp_path).save(structs.replace(golden, stochastic=True))
    assert check(case(Unrepeatable), asked(tmp_path)).verdict.kind == "match"


def test_all_routes_of_a_scope_that_the_golden_holds_are_checked(golden: Golden, tmp_path: Path) -> None:
    store = Goldens(tmp_path)
    assert check_routes(case(dtype=None), asked(tmp_path)) == []
    store.save(structs.replace(golden, routes={**golden.routes, "pickle": "same", "closure": Departure(refused="no")}))
    scope = Scope(DTYPES, ("resume", "closure", "pickle", "foreach"))
    found = check_routes(case(Forgets, None, scope=scope), asked(tmp_path))
    assert [(result.route, result.verdict.kind) for result in found] == [("resume", "changed"), ("pickle", "match")]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [(("resume", "closure", "foreach"), ["resume"]), (("deepcopy", "resume"), ["deepcopy", "resume"]), ((), [])],
)
def test_only_routes_with_a_curve_to_judge_by_are_guarded(
    golden: Golden, wanted: tuple[str, ...], expected: list[str]
) -> None:
    held = structs.replace(golden, routes={**golden.routes, "closure": Departure(refused="no")})
    assert guarded_routes(held, wanted) == expected
    assert guarded_routes(None, wanted) == []


def test_an_update_records_a_missing_golden_with_its_scope(tmp_path: Path) -> None:
    result = only(update(case(dtype=None), asked(tmp_path, "missing")))
    new = written(result, tmp_path)
    assert (list(new.curves), list(new.routes)) == (["float64", "float32"], list(ROUTES))
    assert result.resolution == new.resolution


@pytest.mark.parametrize(
    ("build", "mode"), [(Plain, "all"), (Faster, "missing"), (Forgets, "missing"), (Forgets, "stale")]
)
def test_an_update_that_has_nothing_to_record_leaves_the_golden_alone(
    golden: Golden, tmp_path: Path, build: type[Plain], mode: str
) -> None:
    Goldens(tmp_path).save(golden)
    result = only(update(case(build, None), asked(tmp_path, mode)))
    assert result.golden is None
    assert result.verdict.kind == ("match" if build is Plain else "changed")


def test_a_departing_route_alone_is_measured_anew(golden: Golden, tmp_path: Path) -> None:
    Goldens(tmp_path).save(golden)
    result = only(update(case(Forgets, None), asked(tmp_path, "changed")))
    new = written(result, tmp_path)
    assert result.effect == "routes measured: resume"
    assert new.routes["deepcopy"] == "same"
    assert isinstance(new.routes["resume"], Departure)
    assert structs.replace(new, routes=golden.routes, broken=golden.broken) == golden


def test_missing_routes_alone_are_added(golden: Golden, tmp_path: Path) -> None:
    Goldens(tmp_path).save(structs.replace(golden, routes={"resume": "same"}))
    new = written(only(update(case(dtype=None), asked(tmp_path, "missing"))), tmp_path)
    assert new == structs.replace(golden, routes={"resume": "same", "deepcopy": "same"})


def test_adding_a_missing_route_does_not_hide_one_that_departs(golden: Golden, tmp_path: Path) -> None:
    Goldens(tmp_path).save(structs.replace(golden, routes={"resume": "same"}))
    added, failing = update(case(Forgets, None), asked(tmp_path, "missing"))
    assert written(added, tmp_path).routes == {"resume": "same", "deepcopy": "same"}
    assert (failing.route, failing.verdict.kind, failing.golden) == ("resume", "changed", None)


def test_a_changed_curve_is_never_recorded_for_the_sake_of_a_missing_one(golden: Golden, tmp_path: Path) -> None:
    Goldens(tmp_path).save(structs.replace(golden, curves={"float64": golden.curves["float64"]}))
    result = only(update(case(Faster, None), asked(tmp_path, "missing")))
    assert (result.verdict.kind, result.golden) == ("changed", None)
    new = written(only(update(case(Faster, None), asked(tmp_path, "changed"))), tmp_path)
    assert list(new.curves) == ["float64", "float32"]


def test_a_golden_recorded_anew_guards_what_the_old_one_did_though_less_was_asked_for(
    golden: Golden, tmp_path: Path
) -> None:
    kept = structs.replace(golden, variants=("toy(x=1)",), dead=("unused",))
    Goldens(tmp_path).save(kept)
    narrow = case(Faster, None, scope=Scope(("float64",), ("resume",)))
    new = written(only(update(narrow, asked(tmp_path, "changed", routes=("float64", "resume")))), tmp_path)
    assert list(new.curves) == ["float64", "float32"]
    assert set(new.routes) == set(golden.routes)
    assert (new.variants, new.dead) == (kept.variants, kept.dead)
    assert new.curves["float64"] != golden.curves["float64"]


def test_where_routes_alone_are_asked_for_no_curve_is_missing(golden: Golden, tmp_path: Path) -> None:
    Goldens(tmp_path).save(structs.replace(golden, curves={"float64": golden.curves["float64"]}))
    result = only(update(case(Forgets, None), asked(tmp_path, "changed", routes=("resume",))))
    assert result.effect == "routes measured: resume"


def test_an_unreadable_golden_is_replaced_as_stale_and_else_said(golden: Golden, tmp_path: Path) -> None:
    path = Goldens(tmp_path).save(golden)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(goldens.UnreadableGoldenError):
        update(case(dtype=None), asked(tmp_path, "missing"))
    assert written(only(update(case(dtype=None), asked(tmp_path, "stale"))), tmp_path).curves == golden.curves


SGD = parse("torch.optim:SGD(lr=0.1)")
VARIANT = SGD.with_settings(momentum=0.5)
VARIED = Case(SGD, "bowl", None, "select", scope=Scope(DTYPES[:1], (), varied=True, guarded=True))


def test_variants_are_recorded_beside_their_spec(tmp_path: Path) -> None:
    listed = asked(tmp_path, "missing", variants=("momentum=0.5",))
    base, variant = update(VARIED, listed)
    assert written(base, tmp_path).variants == (VARIANT.text,)
    assert (variant.spec, variant.variant, base.variant) == (VARIANT.text, True, False)
    assert list(written(variant, tmp_path).curves) == ["float64"]
    assert "foreach" in written(variant, tmp_path).routes


@pytest.mark.parametrize("scope", [replace(VARIED.scope, guarded=False), replace(VARIED.scope, varied=False)])
def test_variants_that_are_not_guarded_get_no_goldens(tmp_path: Path, scope: Scope) -> None:
    result = only(update(replace(VARIED, scope=scope), asked(tmp_path, "missing", variants=("momentum=0.5",))))
    assert written(result, tmp_path).variants == ()


def test_a_variant_that_is_configured_or_recorded_already_is_an_item_of_its_own(golden: Golden, tmp_path: Path) -> None:
    listed = {"variants": ("momentum=0.5", "momentum=0.25")}
    Goldens(tmp_path).save(structs.replace(golden, spec=SGD.with_settings(momentum=0.25).text))
    result = only(update(VARIED, asked(tmp_path, "missing", targets=(Target(VARIANT, ("bowl",)),), **listed)))
    assert len(written(result, tmp_path).variants) == 2


def test_recording_tells_what_a_maintainer_may_not_know(golden: Golden) -> None:
    curve = golden.curves["float64"]
    telling = structs.replace(
        golden,
        routes={
            "resume": Departure(0.25, curve),
            "scaled": Departure(None, curve),
            "bfloat16": Departure(0.01, curve),
            "closure": Departure(refused="TypeError: no"),
            "pickle": Departure(refused="TypeError: no"),
            "deepcopy": "same",
        },
        broken={"plain": {"lr_zero": "moved a"}, "resume": {"state_kept": "v is gone"}},
        dead=("unused", "idle"),
    )
    assert list(findings(telling)) == [
        "refuses closure, pickle",
        "route resume departs by 2.5e-01",
        "route scaled leaves the finite numbers",
        "law lr_zero is broken on plain: moved a",
        "law state_kept is broken on resume: v is gone",
        "arguments that change nothing: unused, idle",
    ]
    assert list(findings(golden)) == []


def test_the_effect_of_a_recording_is_told_in_old_and_new_figures(golden: Golden) -> None:
    final = golden.curves["float64"].losses[-1].value
    assert effect(None, golden, Verdict("missing", "no golden")) == f"final loss {final:.4g}"
    told = effect(golden, golden, Verdict("changed", "law x: y", first_step=3))
    assert told == f"final loss {final:.4g} → {final:.4g}, changed: law x: y, from step 3"
    stochastic = structs.replace(golden, stochastic=True)
    assert effect(None, stochastic, Verdict("missing")).endswith(", does not repeat itself (stochastic)")


def test_a_result_travels_as_plain_scalars() -> None:
    verdict = Verdict("changed", "note", 1, 2.0, 3.0, math.inf, 2, "a", 1, 0.5, None)
    there = Result(
        "s", "w", "float64", "cpu", "sel", verdict, "resume", findings=("a", "b"), limits=("c",), variant=True
    )
    plain = there.as_dict()
    assert {type(value) for value in plain.values()} <= {str, int, float, bool, dict, tuple, type(None)}
    assert Result.from_dict({**plain, "findings": ["a", "b"], "limits": ["c"]}) == there
