"""--optcheck-route and its ini twin optcheck_routes; what a departing route says, and that its commands mend it."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest
from sample import FORGETS

if TYPE_CHECKING:
    from sample import Project

MOMENTUM = "toy:Momentum(lr=0.05)"


def test_by_default_every_route_that_a_golden_holds_is_a_case_of_its_own(routed: Project) -> None:
    held: dict[str, str | dict[str, object]] = routed.stored("Momentum")["routes"]
    guarded = [name for name, found in held.items() if found == "same" or "curve" in found]
    assert {"resume", "deepcopy", "split_groups", "bfloat16"} <= set(guarded)
    assert "closure" in held, "it was refused, and that is kept"
    cases = [case for case in routed.collected() if case.startswith(MOMENTUM)]
    assert cases == [f"{MOMENTUM}[bowl-{name}]" for name in ("float64", "float32", *guarded)]


def test_every_route_of_a_fresh_golden_is_green(routed: Project) -> None:
    result = routed.run("--optcheck", "-n2")
    result.assert_outcomes(passed=len(routed.collected()))
    routes = sum(found == "same" or "curve" in found for found in routed.stored("Descent-lr-0.2")["routes"].values())
    assert "test_marked.py::test_descent[bowl-routes]" in routed.collected()
    total = len(routed.collected()) - 1 + routes
    result.stdout.fnmatch_lines([f"{total} checked · {total} match · 0 changed · 0 missing *"])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["resume"],
            [
                "toy:Descent(lr=0.1)[bowl-resume]",
                f"{MOMENTUM}[bowl-resume]",
                "test_marked.py::test_descent[bowl-routes]",
            ],
        ),
        (
            ["float64"],
            [
                "toy:Descent(lr=0.1)[bowl-float64]",
                f"{MOMENTUM}[bowl-float64]",
                "test_marked.py::test_descent[bowl-float64]",
            ],
        ),
        (
            ["deepcopy", "float32"],
            [
                "toy:Descent(lr=0.1)[bowl-float32]",
                "toy:Descent(lr=0.1)[bowl-deepcopy]",
                f"{MOMENTUM}[bowl-float32]",
                f"{MOMENTUM}[bowl-deepcopy]",
                "test_marked.py::test_descent[bowl-float32]",
                "test_marked.py::test_descent[bowl-routes]",
            ],
        ),
    ],
)
def test_routes_that_are_named_are_checked_alone(routed: Project, names: list[str], expected: list[str]) -> None:
    options = [f"--optcheck-route={name}" for name in names]
    assert routed.collected(*options) == expected
    routed.run("--optcheck", *options).assert_outcomes(passed=len(expected), deselected=1)
    routed.set("routes", json.dumps(names))
    assert routed.collected() == expected
    assert routed.collected("--optcheck-route=resume") != expected or names == ["resume"]


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
@pytest.mark.parametrize("option", [["--optcheck-route=resum"], ["-o", "optcheck_routes=float64 resum"]])
def test_an_unknown_route_is_a_usage_error_in_one_line(routed: Project, option: list[str], workers: str) -> None:
    result = routed.run("--optcheck", workers, *option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: unknown route 'resum'; known are float64, float32, foreach, *mixed_dtypes*"])
    assert "Traceback" not in result.stderr.str()


def test_a_route_that_no_golden_holds_is_a_usage_error_with_the_command_that_records_it(recorded: Project) -> None:
    asked = ("--optcheck-optimizer", MOMENTUM, "--optcheck-workload=bowl", "--optcheck-route=resume")
    result = recorded.run("--optcheck", *asked)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    options = f"--optcheck-optimizer '{MOMENTUM}' --optcheck-workload bowl --optcheck-route resume"
    command = f"--optcheck-update=missing {options}"
    assert f"ERROR: no golden holds route resume; record it with pytest {command}" in result.stderr.lines
    recorded.run(*shlex.split(command)).assert_outcomes(passed=1, deselected=2)
    recorded.run("--optcheck", *asked).assert_outcomes(passed=1, deselected=2)


def test_several_routes_that_no_golden_holds_are_all_named(recorded: Project) -> None:
    recorded.edit("test_marked.py", "optcheck", "other")
    result = recorded.run("--optcheck", "--optcheck-route=resume", "--optcheck-route=deepcopy")
    options = "--optcheck-route resume --optcheck-route deepcopy"
    message = f"no golden holds route resume or deepcopy; record it with pytest --optcheck-update=missing {options}"
    assert f"ERROR: {message}" in result.stderr.lines


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_a_route_that_departs_fails_alone_and_is_named(routed: Project, workers: str) -> None:
    routed.append("toy.py", FORGETS)
    cases = len(routed.collected())
    result = routed.run("--optcheck", workers)
    result.assert_outcomes(failed=3, passed=cases - 3, deselected=workers == "-n0")
    result.stdout.fnmatch_lines(
        [
            f"CHANGED: {MOMENTUM} is no longer the algorithm its golden was recorded from",
            "  on bowl, float64, cpu, route resume",
            "  note:          law state_kept: *is gone after the load*",
            "  first outside: step 5, by * × envelope (relative deviation *)",
            f"  reproduce:     pytest --optcheck --optcheck-optimizer '{MOMENTUM}' * --optcheck-route resume",
            "  accept:        pytest --optcheck-update=changed * --optcheck-workload bowl --optcheck-route resume",
        ],
        consecutive=False,
    )
    assert "Traceback" not in result.stdout.str()


def test_the_commands_of_a_departing_route_run_and_mend_it_alone(routed: Project) -> None:
    routed.append("toy.py", FORGETS)
    before, texts = routed.stored("Momentum"), routed.goldens()
    failed = routed.run("--optcheck", "--optcheck-route=resume")
    failed.assert_outcomes(failed=1, passed=2, deselected=1)
    routed.obey(failed, "reproduce").assert_outcomes(failed=1, deselected=2)
    accepted = routed.obey(failed, "accept")
    accepted.assert_outcomes(passed=1, deselected=2)
    accepted.stdout.fnmatch_lines(
        [f"recorded {MOMENTUM} on bowl: routes measured: resume; sees *", "  route resume departs by *"]
    )
    after = routed.stored("Momentum")
    assert [key for key in after if after[key] != before[key]] == ["routes", "broken"]
    assert [name for name, found in after["routes"].items() if found != before["routes"][name]] == ["resume"]
    assert list(after["routes"]["resume"]) == ["deviation", "curve"]
    assert list(after["broken"]) == ["resume"]
    moved = [name for name, text in routed.goldens().items() if text != texts[name]]
    assert len(moved) == 1
    assert "Momentum" in moved[0]
    routed.run("--optcheck", "--optcheck-route=resume").assert_outcomes(passed=3, deselected=1)


def test_a_route_that_was_accepted_departed_fails_when_it_is_mended(routed: Project) -> None:
    whole = (routed.root / "toy.py").read_text(encoding="utf-8")
    routed.append("toy.py", FORGETS)
    routed.run("--optcheck-update=changed", "--optcheck-route=resume").assert_outcomes(passed=3, deselected=1)
    (routed.root / "toy.py").write_text(whole, encoding="utf-8")
    result = routed.run("--optcheck", "--optcheck-route=resume")
    result.assert_outcomes(failed=1, passed=2, deselected=1)
    routed.obey(result, "accept").assert_outcomes(passed=1, deselected=2)
    assert routed.stored("Momentum")["routes"]["resume"] == "same"
    assert routed.stored("Momentum")["broken"] == {}


def test_a_route_that_raises_now_is_lost(routed: Project) -> None:
    routed.append("toy.py", FORGETS.replace("super()", "super().no_such").replace(".load_state_dict({", "({"))
    result = routed.run("--optcheck", "--optcheck-route=resume")
    result.assert_outcomes(failed=1, passed=2, deselected=1)
    result.stdout.fnmatch_lines(
        [f"LOST: {MOMENTUM} no longer does what it did *", "*route resume", "  note:*update 4 raised AttributeError: *"]
    )
    routed.obey(result, "accept").assert_outcomes(passed=1, deselected=2)
    assert list(routed.stored("Momentum")["routes"]["resume"]) == ["refused"]
    assert f"{MOMENTUM}[bowl-resume]" not in routed.collected()


def test_accepting_a_changed_rule_by_the_command_of_one_route_keeps_all_the_others(routed: Project) -> None:
    """The golden is recorded as a whole then: what it guarded before it guards after."""
    before, cases = routed.stored("Momentum"), routed.collected()
    routed.edit("toy.py", "v.mul_(0.9)", "v.mul_(0.8)")
    failed = routed.run("--optcheck", "--optcheck-route=deepcopy")
    failed.assert_outcomes(failed=1, passed=2, deselected=1)
    routed.obey(failed, "accept").assert_outcomes(passed=1, deselected=2)
    after = routed.stored("Momentum")
    assert after["curves"].keys() == before["curves"].keys()
    assert after["routes"].keys() == before["routes"].keys()
    assert routed.collected() == cases
    routed.run("--optcheck").assert_outcomes(passed=len(cases), deselected=1)


def test_a_departing_route_of_a_marked_test_is_named_and_mended_by_its_command(routed: Project) -> None:
    routed.edit("test_marked.py", "toy.Descent(params, lr=0.2)", "toy.Momentum(params, lr=0.2)")
    routed.run("--optcheck-update=changed", "test_marked.py::test_descent").assert_outcomes(passed=1)
    routed.append("toy.py", FORGETS)
    failed = routed.run("--optcheck", "test_marked.py::test_descent")
    failed.assert_outcomes(failed=1, passed=2)
    failed.stdout.fnmatch_lines(["CHANGED: Descent(lr=0.2) is*", "  on bowl, float64, cpu, route resume"])
    routed.obey(failed, "reproduce").assert_outcomes(failed=1, passed=2)
    routed.obey(failed, "accept").assert_outcomes(passed=1)
    routed.run("--optcheck", "test_marked.py::test_descent").assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("marker", "held"),
    [('routes=["resume", "deepcopy"]', ["resume", "deepcopy"]), ("routes=[]", []), ('routes=["capturable"]', [])],
)
def test_a_marked_test_may_name_its_routes(project: Project, marker: str, held: list[str]) -> None:
    project.set("routes", None)
    project.configure("[]")
    project.edit("test_marked.py", 'workloads=["bowl"]', f'workloads=["bowl"], {marker}')
    project.run("--optcheck-update").assert_outcomes(passed=1, deselected=1)
    assert list(project.stored("Descent")["routes"]) == held
    asked = marker != "routes=[]"
    result = project.run("--optcheck", "-rs")
    result.assert_outcomes(passed=2 + bool(held), skipped=asked and not held, deselected=1)
    result.stdout.fnmatch_lines([f"{2 + len(held)} checked · {2 + len(held)} match *"])
    if asked and not held:
        result.stdout.fnmatch_lines(["SKIPPED *no golden of Descent(lr=0.2) on bowl holds a route"])


def test_missing_adds_the_missing_routes_only_and_leaves_every_other_byte(recorded: Project) -> None:
    """The goldens were recorded without routes."""
    before = recorded.goldens()
    assert all(json.loads(text)["routes"] == {} for text in before.values())
    recorded.set("routes", '["float64", "float32", "resume", "deepcopy", "foreach"]')
    result = recorded.run("--optcheck-update=missing")
    result.assert_outcomes(passed=3, deselected=1)
    result.stdout.fnmatch_lines([f"recorded {MOMENTUM} on bowl: routes measured: resume deepcopy; sees *"])
    for name, text in recorded.goldens().items():
        added = '"routes": {\n  "resume": "same",\n  "deepcopy": "same"\n },'
        assert text == before[name].replace('"routes": {},', added)


def test_missing_leaves_a_departed_route_as_it_was_and_failing(recorded: Project) -> None:
    recorded.set("routes", '["resume"]')
    recorded.run("--optcheck-update=missing").assert_outcomes(passed=3, deselected=1)
    recorded.append("toy.py", FORGETS)
    recorded.set("routes", '["resume", "deepcopy"]')
    result = recorded.run("--optcheck-update=missing")
    result.assert_outcomes(failed=1, passed=2, deselected=1)
    result.stdout.fnmatch_lines(["*route resume", "recorded toy:Momentum*: routes measured: deepcopy; *"])
    assert recorded.stored("Momentum")["routes"] == {"resume": "same", "deepcopy": "same"}


def test_missing_never_accepts_a_changed_curve_along_with_a_missing_one(recorded: Project) -> None:
    raw = recorded.stored("Momentum")
    del raw["curves"]["float32"]
    recorded.golden("Momentum").write_text(json.dumps(raw), encoding="utf-8")
    recorded.edit("toy.py", "v.mul_(0.9)", "v.mul_(0.8)")
    before = recorded.goldens()
    result = recorded.run("--optcheck-update=missing")
    result.assert_outcomes(failed=1, passed=2, deselected=1)
    result.stdout.fnmatch_lines([f"CHANGED: {MOMENTUM} *"])
    assert recorded.goldens() == before
    recorded.obey(result, "accept").assert_outcomes(passed=1, deselected=2)
    assert list(recorded.stored("Momentum")["curves"]) == ["float64", "float32"]


def test_a_second_update_of_routes_writes_nothing(routed: Project) -> None:
    before = routed.goldens()
    routed.run("--optcheck-update").assert_outcomes(passed=3, deselected=1)
    assert routed.goldens() == before


def test_a_golden_reads_well_where_routes_are_the_same(routed: Project) -> None:
    lines = routed.golden("Momentum").read_text(encoding="utf-8").splitlines()
    assert {'  "resume": "same",', '  "deepcopy": "same",'} <= set(lines)
    at = lines.index('  "closure": {')
    assert lines[at + 1].startswith('   "refused": "TypeError: ')
    assert lines[at + 2] == "  },"
