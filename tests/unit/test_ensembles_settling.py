from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from interpreter import imported
from msgspec import structs
from seeded import Line, Sides, descent
from test_settings import settings
from toys import Bowl, toy

from pytest_optcheck.cases import Case, Result
from pytest_optcheck.checking import bare, check
from pytest_optcheck.convergence import SCREEN, SEEDS
from pytest_optcheck.curves import Needs
from pytest_optcheck.ensembles.settling import FULL, held
from pytest_optcheck.goldens import Goldens
from pytest_optcheck.recorder import Recording, record

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_optcheck.ensembles.figures import Ensemble
    from pytest_optcheck.format import Golden
    from pytest_optcheck.settings import Settings
    from pytest_optcheck.workloads.base import Workload

KNOWN = {"line": "seeded:Line", "sides": "seeded:Sides", "bowl": "toys:Bowl"}


@functools.cache
def golden(workload: type[Workload] = Line, *, ensemble: bool = True) -> Golden:
    """Of gradient descent at a rate of 0.1."""
    return record(Recording(toy(descent()), workload(), ensemble=ensemble))


def asked(tmp_path: Path, ensembles: tuple[str, ...] = ("line",), **fields: Any) -> Settings:  # noqa: ANN401 - fields of the settings
    return settings(known=KNOWN, curves=tmp_path, ensembles=ensembles, **fields)


def case(build: Any, workload: str = "line", dtype: Any = "float64", **fields: Any) -> Case:  # noqa: ANN401 - fields of a case
    return Case(toy(build), workload, dtype, "select", **fields)


BUILDS = 2
"""Optimizers that a check makes beside those of seeds: one to look at, one to train."""


class Counted:
    """A factory that counts the optimizers that it made."""

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.made = 0

    def __call__(self, params: Iterable[Any]) -> torch.optim.Optimizer:
        self.made += 1
        return torch.optim.SGD(params, lr=self.lr)


def answered(result: Result) -> tuple[str, list[str]]:
    """The verdict, and the reference models whose ensembles were asked."""
    return result.verdict.kind, list(result.convergence)


@pytest.mark.parametrize(
    ("lr", "kind", "dtype"),
    [
        (0.05, "regression", "float64"),
        (0.05, "regression", "float32"),
        (0.15, "improved", "float64"),
        (0.1001, "changed", "float64"),
        (0.1, "match", "float32"),
    ],
)
def test_a_change_is_called_by_what_its_seeds_say(tmp_path: Path, lr: float, kind: str, dtype: str) -> None:
    Goldens(tmp_path).save(golden())
    result = check(case(descent(lr), dtype=dtype), asked(tmp_path))
    assert answered(result) == (kind, [] if kind == "match" else ["line"])
    assert result.select == "select"
    if kind in ("regression", "improved"):
        assert result.convergence["line"]["kind"] == kind
        assert result.convergence["line"]["pairs"] == SEEDS
        assert Result.from_dict(result.as_dict()) == result


def test_the_curve_stays_in_the_verdict(tmp_path: Path) -> None:
    Goldens(tmp_path).save(golden())
    with_seeds = check(case(descent(0.05)), asked(tmp_path)).verdict
    without = check(case(descent(0.05)), asked(tmp_path, ())).verdict
    assert without.kind == "changed"
    assert with_seeds == replace(without, kind="regression")


def test_a_green_case_trains_no_seed(tmp_path: Path) -> None:
    Goldens(tmp_path).save(golden())
    build = Counted(0.1)
    assert check(case(build), asked(tmp_path)).verdict.kind == "match"
    assert build.made == BUILDS


def test_the_seeds_are_trained_once_for_all_cases_of_an_optimizer(tmp_path: Path) -> None:
    store = Goldens(tmp_path)
    store.save(golden())
    store.save(golden(Bowl, ensemble=False))
    build, session = Counted(0.05), asked(tmp_path)
    results = [
        check(case(build, name, dtype), session) for name in ("line", "bowl") for dtype in ("float64", "float32")
    ]
    assert [answered(result) for result in results] == [("regression", ["line"])] * 4
    assert build.made == BUILDS * len(results) + SEEDS


def recorded_elsewhere() -> Ensemble:
    """The same seeds, one of which took another way for a while."""
    ensemble = golden().ensemble
    assert ensemble is not None
    first, *others = ensemble.members
    losses = [*first.losses[:4], 1.001 * first.losses[4], *first.losses[5:]]
    return structs.replace(ensemble, members=[structs.replace(first, losses=losses), *others])


@pytest.mark.parametrize("new", ["session", "code", "golden"])
def test_the_seeds_are_trained_again_in_another_session_for_other_code_or_another_golden(
    tmp_path: Path, new: str
) -> None:
    store = Goldens(tmp_path)
    store.save(golden())
    builds, sessions = [Counted(0.05)] * 2, [asked(tmp_path)] * 2
    if new == "session":
        sessions = [asked(tmp_path), asked(tmp_path)]
    elif new == "code":
        builds = [Counted(0.05), Counted(0.05)]
    first = check(case(builds[0]), sessions[0])
    if new == "golden":
        store.save(structs.replace(golden(), ensemble=recorded_elsewhere()))
    again = check(case(builds[1]), sessions[1])
    assert sum(build.made for build in set(builds)) == 2 * (BUILDS + SEEDS)
    assert first.convergence == again.convergence


def test_the_screen_alone_is_trained_where_it_finds_nothing(tmp_path: Path) -> None:
    Goldens(tmp_path).save(golden())
    build = Counted(0.1001)
    assert check(case(build), asked(tmp_path)).convergence["line"]["pairs"] == SCREEN
    assert build.made == BUILDS + SCREEN


@pytest.mark.parametrize("fields", [{"ensembles": ()}, {"ensembles": ("sides",)}], ids=["none", "others"])
def test_where_nothing_is_asked_a_change_stays_one(tmp_path: Path, fields: dict[str, Any]) -> None:
    """A golden without an ensemble of its own asks those that are configured, and here is none of them."""
    stored = golden() if fields != {"ensembles": ("sides",)} else structs.replace(golden(), ensemble=None)
    Goldens(tmp_path).save(stored)
    assert answered(check(case(descent(0.05)), asked(tmp_path, **fields))) == ("changed", [])


def test_a_bare_verdict_asks_no_seeds(tmp_path: Path) -> None:
    Goldens(tmp_path).save(golden())
    build = Counted(0.05)
    assert answered(bare(case(build), asked(tmp_path))) == ("changed", [])
    assert build.made == BUILDS


def test_a_route_is_not_judged_by_seeds_of_the_plain_one(tmp_path: Path) -> None:
    Goldens(tmp_path).save(structs.replace(golden(), routes={"deepcopy": "same"}))
    result = check(case(descent(0.05), dtype=None, route="deepcopy"), asked(tmp_path))
    assert answered(result) == ("changed", [])


def test_what_diverges_needs_no_seeds(tmp_path: Path) -> None:
    Goldens(tmp_path).save(golden())
    assert answered(check(case(descent(1e30)), asked(tmp_path))) == ("diverged", [])


def wide() -> Golden:
    """A golden whose envelope is as wide as a bfloat16 rule's, so that its curves see nothing."""
    curves = {
        dtype: structs.replace(
            curve,
            losses=[structs.replace(point, envelope=10.0) for point in curve.losses],
            norms={name: [structs.replace(p, envelope=10.0) for p in points] for name, points in curve.norms.items()},
        )
        for dtype, curve in golden().curves.items()
    }
    return structs.replace(golden(), curves=curves)


@pytest.mark.parametrize(
    ("profile", "lr", "dtype", "kind"),
    [
        ("default", 0.05, "float32", "match"),
        ("full", 0.05, "float32", "regression"),
        ("full", 0.05, "float64", "match"),
        ("full", 0.15, "float32", "match"),
        ("full", 0.1, "float32", "match"),
    ],
)
def test_the_full_profile_finds_a_regression_inside_the_envelope(
    tmp_path: Path, profile: str, lr: float, dtype: str, kind: str
) -> None:
    Goldens(tmp_path).save(wide())
    result = check(case(descent(lr), dtype=dtype), asked(tmp_path, profile=profile))
    of_seeds = profile == "full" and dtype == "float32"
    assert answered(result) == (kind, ["line"] if of_seeds else [])
    assert result.select == (f"select {FULL}" if kind == "regression" else "select")


def test_the_full_profile_asks_no_other_model_inside_the_envelope(tmp_path: Path) -> None:
    store = Goldens(tmp_path)
    store.save(golden())
    store.save(golden(Bowl, ensemble=False))
    result = check(case(descent(), "bowl", "float32"), asked(tmp_path, profile="full"))
    assert answered(result) == ("match", [])


def test_a_case_without_seeds_asks_every_configured_model_and_the_worst_counts(tmp_path: Path) -> None:
    store = Goldens(tmp_path)
    for stored in (golden(), golden(Sides), golden(Bowl, ensemble=False)):
        store.save(stored)
    result = check(case(descent(0.15), "bowl"), asked(tmp_path, ("line", "sides")))
    kinds = {name: answer["kind"] for name, answer in result.convergence.items()}
    assert list(kinds) == ["line", "sides"]
    assert result.verdict.kind == ("improved" if set(kinds.values()) == {"improved"} else "changed")
    assert answered(check(case(descent(0.15), "bowl"), asked(tmp_path)))[0] == "improved"


@pytest.mark.parametrize("wrong", ["missing", "unreadable", "stale"])
def test_a_golden_that_is_no_good_says_nothing_of_another_case(tmp_path: Path, wrong: str) -> None:
    store = Goldens(tmp_path)
    store.save(golden(Bowl, ensemble=False))
    if wrong == "unreadable":
        store.save(golden()).write_text("{", encoding="utf-8")
    elif wrong == "stale":
        store.save(structs.replace(golden(), workload=structs.replace(golden().workload, digest="another")))
    assert answered(check(case(descent(0.05), "bowl"), asked(tmp_path))) == ("changed", [])


def test_while_goldens_are_written_a_case_asks_its_own_seeds_alone(tmp_path: Path) -> None:
    """Another process may just have recorded the others from the changed code."""
    store = Goldens(tmp_path)
    store.save(golden())
    store.save(golden(Bowl, ensemble=False))
    updating = asked(tmp_path, update=frozenset({"stale"}))
    assert answered(check(case(descent(0.05), "bowl"), updating)) == ("changed", [])
    assert answered(check(case(descent(0.05)), updating)) == ("regression", ["line"])


class OtherFolds(Line):
    """The line, cut otherwise."""

    folds = 8


def test_an_ensemble_is_held_by_the_model_and_updates_that_it_was_trained_with() -> None:
    assert held(golden(), Line()) == golden().ensemble
    assert held(golden(), OtherFolds()) is None
    assert held(golden(Bowl, ensemble=False), Bowl()) is None
    assert held(structs.replace(golden(), needs=Needs(steps=5)), Line()) is None


def test_settling_imports_torch_and_scipy_when_it_trains() -> None:
    assert imported("pytest_optcheck.ensembles.settling", "torch", "numpy", "scipy", "pytest") == []
