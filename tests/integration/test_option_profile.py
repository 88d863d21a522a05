"""--optcheck-profile and its ini twin optcheck_profile: quick, default and full collect what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from pytest_optcheck import routes
from pytest_optcheck.format import Departure, decode, encode

if TYPE_CHECKING:
    from pathlib import Path

    from sample import Project

PLAIN = ["float64", "float32"]
DEFAULT = [name for name in routes.NAMES if name not in routes.SLOW]
QUICK = [name for name in routes.NAMES if name in routes.QUICK]


def pretend(path: Path) -> None:
    """Make a golden tell that every route was the same, so that only the profile decides what is collected."""
    golden = decode(path.read_text(encoding="utf-8"), path)
    assert golden is not None
    found = {**dict.fromkeys(routes.NAMES, "same"), "closure": Departure(refused="TypeError: no")}
    path.write_text(encode(msgspec.structs.replace(golden, routes=found)), encoding="utf-8")


@pytest.fixture
def everything(recorded: Project) -> Project:
    """One optimizer, whose golden on the bowl tells of every route."""
    recorded.set("routes", None)
    recorded.configure('["toy:Momentum(lr=0.05)"]')
    (recorded.root / "test_marked.py").unlink()
    pretend(recorded.golden("Momentum"))
    return recorded


def routes_of(project: Project, *arguments: str, on: str = "bowl") -> list[str]:
    found = [case.partition("[")[2].rstrip("]").partition("-") for case in project.collected(*arguments)]
    return [route for workload, _, route in found if workload == on]


@pytest.mark.parametrize(
    ("profile", "expected"), [("quick", QUICK), ("default", DEFAULT), ("full", list(routes.NAMES)), (None, DEFAULT)]
)
def test_a_profile_collects_its_routes_on_the_first_model(
    everything: Project, profile: str | None, expected: list[str]
) -> None:
    option = [] if profile is None else [f"--optcheck-profile={profile}"]
    guarded = [name for name in expected if name != "closure"]  # that one was refused
    assert routes_of(everything, *option) == [*PLAIN, *guarded]
    if profile is not None:
        everything.set("profile", f'"{profile}"')
        assert routes_of(everything) == [*PLAIN, *guarded]


def test_the_option_outweighs_the_ini_setting(everything: Project) -> None:
    everything.set("profile", '"quick"')
    assert routes_of(everything, "--optcheck-profile=full") != routes_of(everything)


def test_quick_trains_on_two_models_or_on_the_first_of_those_that_are_listed(everything: Project) -> None:
    everything.configure('["toy:Momentum(lr=0.05) @ linear, mlp, zoo", "toy:Descent(lr=0.1) @ linear, bowl"]')
    assert everything.collected("--optcheck-profile=quick") == [
        "toy:Momentum(lr=0.05)[mlp-float64]",
        "toy:Momentum(lr=0.05)[mlp-float32]",
        "toy:Descent(lr=0.1)[linear-float64]",
        "toy:Descent(lr=0.1)[linear-float32]",
        "toy:Momentum(lr=0.05)[zoo-float64]",
        "toy:Momentum(lr=0.05)[zoo-float32]",
    ]


def test_a_route_that_is_asked_for_by_name_needs_no_profile(everything: Project) -> None:
    assert routes_of(everything, "--optcheck-profile=quick", "--optcheck-route=compiled") == ["compiled"]


@pytest.mark.parametrize(
    ("profile", "missing"), [("quick", ["resume"]), ("default", ["resume", "deepcopy", "split_groups", "bfloat16"])]
)
def test_an_update_records_the_routes_of_the_profile(project: Project, profile: str, missing: list[str]) -> None:
    project.set("routes", None)
    select = ["--optcheck-optimizer", "toy:Momentum(lr=0.05)"]
    project.run("--optcheck-update", f"--optcheck-profile={profile}", *select).assert_outcomes(passed=1, deselected=2)
    held = project.stored("Momentum")["routes"]
    assert set(missing) <= set(held)
    assert (set(held) == {"resume"}) == (profile == "quick")


def test_what_is_recorded_on_a_model_does_not_depend_on_whether_it_was_asked_for(project: Project) -> None:
    """Narrowed to its second model, an optimizer is not checked there as if that were the first."""
    project.set("routes", None)
    project.set("variants", None)
    project.configure('["toy:Momentum(lr=0.05) @ quadratic, bowl"]')
    project.run("--optcheck-update", "--optcheck-workload=bowl").assert_outcomes(passed=2, deselected=1)
    stored = project.stored("Momentum")
    assert (stored["routes"], stored["variants"]) == ({}, [])


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
@pytest.mark.parametrize("option", [["--optcheck-profile=quik"], ["-o", "optcheck_profile=quik"]])
def test_an_unknown_profile_is_a_usage_error_in_one_line(recorded: Project, option: list[str], workers: str) -> None:
    result = recorded.run("--optcheck", workers, *option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: optcheck profile 'quik': expected quick, default, full"])
    assert "Traceback" not in result.stderr.str()
