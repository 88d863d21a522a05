from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from guarded import ROUTES, FasterInFloat32, Forgets, Plain, asked, case, plain_golden
from msgspec import structs

from pytest_optcheck import checking
from pytest_optcheck.cases import Case, Scope
from pytest_optcheck.checking import check, check_routes, guarded_routes
from pytest_optcheck.curves import DTYPES
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.format import Departure, Golden
from pytest_optcheck.goldens import Goldens
from pytest_optcheck.specs import parse

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def golden() -> Golden:
    return plain_golden()


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
