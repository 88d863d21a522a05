from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from guarded import ROUTES, Faster, Forgets, Plain, asked, case, only, plain_golden, written
from msgspec import structs

from pytest_optcheck.cases import Case, Scope
from pytest_optcheck.curves import DTYPES
from pytest_optcheck.format import Departure, Golden, UnreadableGoldenError
from pytest_optcheck.goldens import Goldens
from pytest_optcheck.specs import parse
from pytest_optcheck.targets import Target
from pytest_optcheck.updating import update

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def golden() -> Golden:
    return plain_golden()


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
    with pytest.raises(UnreadableGoldenError):
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
