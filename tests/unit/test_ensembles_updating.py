"""How ensembles come into goldens, and that they stay there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from guarded import only, written
from msgspec import structs
from seeded import Line, descent
from test_ensembles_settling import asked, case, golden
from toys import toy

from pytest_optcheck.cases import Case, Scope
from pytest_optcheck.convergence import SEEDS
from pytest_optcheck.curves import DTYPES
from pytest_optcheck.goldens import Goldens
from pytest_optcheck.settings import UPDATES
from pytest_optcheck.specs import parse
from pytest_optcheck.updating import update

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_optcheck.cases import Result
    from pytest_optcheck.format import Golden


def updated(
    tmp_path: Path,
    mode: str = "missing",
    ensembles: tuple[str, ...] = ("line",),
    scope: Scope | None = None,
    build: Any = None,  # noqa: ANN401 - a factory
    **fields: Any,  # noqa: ANN401 - of the settings
) -> list[Result]:
    settings = asked(tmp_path, ensembles, update=UPDATES[mode], **fields)
    return update(case(build or descent(), dtype=None, scope=scope or Scope(DTYPES)), settings)


def bare() -> Golden:
    return structs.replace(golden(), ensemble=None)


@pytest.mark.parametrize(
    ("ensembles", "scope", "kept"),
    [(("line",), Scope(DTYPES), True), (("bowl",), Scope(DTYPES), False), (("line",), Scope(ensemble=False), False)],
)
def test_seeds_are_trained_for_the_models_they_are_configured_for(
    tmp_path: Path, ensembles: tuple[str, ...], scope: Scope, kept: bool
) -> None:
    new = written(only(updated(tmp_path, ensembles=ensembles, scope=scope)), tmp_path)
    assert (new.ensemble is not None) == kept
    if new.ensemble is not None:
        assert new.ensemble == golden().ensemble


def test_missing_seeds_are_added_and_nothing_else(tmp_path: Path) -> None:
    Goldens(tmp_path).save(bare())
    result = only(updated(tmp_path))
    assert result.effect == f"{SEEDS} seeds trained"
    assert written(result, tmp_path) == golden()


def test_seeds_of_another_kind_are_trained_anew(tmp_path: Path) -> None:
    ensemble = golden().ensemble
    assert ensemble is not None
    Goldens(tmp_path).save(structs.replace(golden(), ensemble=structs.replace(ensemble, folds=7)))
    assert written(only(updated(tmp_path)), tmp_path) == golden()


@pytest.mark.parametrize(
    ("mode", "fields"),
    [("changed", {}), ("stale", {}), ("missing", {"ensembles": ()}), ("missing", {"routes": ("resume",)})],
)
def test_seeds_are_added_where_what_is_missing_is_asked_for(tmp_path: Path, mode: str, fields: dict[str, Any]) -> None:
    Goldens(tmp_path).save(bare())
    assert only(updated(tmp_path, mode, **fields)).golden is None


def test_seeds_are_never_added_from_code_that_changed(tmp_path: Path) -> None:
    Goldens(tmp_path).save(bare())
    result = only(updated(tmp_path, build=descent(0.05)))
    assert (result.golden, result.verdict.kind) == (None, "changed")


def test_a_golden_that_has_its_seeds_is_left_alone(tmp_path: Path) -> None:
    Goldens(tmp_path).save(golden())
    assert only(updated(tmp_path, "all")).golden is None


@pytest.mark.parametrize("ensembles", [("line",), ()])
def test_a_change_that_is_accepted_keeps_seeds_of_its_own(tmp_path: Path, ensembles: tuple[str, ...]) -> None:
    """What the old golden guarded the new one guards too, though it was not asked for."""
    Goldens(tmp_path).save(golden())
    result = only(updated(tmp_path, "changed", ensembles=ensembles, build=descent(0.05)))
    new = written(result, tmp_path)
    assert new.ensemble is not None
    assert new.ensemble.applies(Line.folds, Line.steps)
    assert new.ensemble != golden().ensemble
    assert ("regression" in result.effect) == bool(ensembles)


def test_seeds_stay_where_routes_alone_are_measured_anew(tmp_path: Path) -> None:
    Goldens(tmp_path).save(golden())
    new = written(only(updated(tmp_path, scope=Scope(DTYPES, ("deepcopy",)))), tmp_path)
    assert new == structs.replace(golden(), routes={"deepcopy": "same"})


def test_variants_keep_no_seeds(tmp_path: Path) -> None:
    listed = asked(tmp_path, update=UPDATES["missing"], variants=("momentum=0.5",))
    varied = Case(
        parse("torch.optim:SGD(lr=0.1)"), "line", None, "", scope=Scope(DTYPES[:1], varied=True, guarded=True)
    )
    base, variant = update(varied, listed)
    assert written(base, tmp_path).ensemble is not None
    assert written(variant, tmp_path).ensemble is None


def test_a_factory_has_seeds_as_text_has(tmp_path: Path) -> None:
    by_name = update(case(descent(), dtype=None), asked(tmp_path, update=UPDATES["missing"]))
    assert toy(descent()).text == written(only(by_name), tmp_path).spec
    assert written(only(by_name), tmp_path).ensemble == golden().ensemble
