"""--optcheck: what it runs, what it says, and that nothing happens without it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from pytest_optcheck.format import SCHEMA

if TYPE_CHECKING:
    from sample import Project

DESCENT = "p.add_(p.grad, alpha=-group["  # the line of the sample project that these tests break


def test_without_it_marked_tests_are_skipped_with_a_reason(project: Project) -> None:
    result = project.run("-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*SKIPPED*needs --optcheck*"])


def test_without_it_nothing_is_printed_and_nothing_heavy_is_imported(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import sys

        def pytest_unconfigure():
            print("heavy:", [name for name in ("torch", "numpy", "scipy", "msgspec") if name in sys.modules])
        """
    )
    pytester.makepyfile("def test_nothing(): pass")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:cov")
    result.stdout.fnmatch_lines(["heavy: []"])
    text = "\n".join(line for line in result.stdout.lines if not line.startswith("plugins:"))
    assert "optcheck" not in text


def test_it_runs_the_configured_optimizers_and_the_marked_tests_only(recorded: Project) -> None:
    result = recorded.run("--optcheck")
    result.assert_outcomes(passed=6, deselected=1)
    result.stdout.fnmatch_lines(["optcheck: checking 2 configured optimizers on cpu*", "*= optcheck =*"])
    result.stdout.fnmatch_lines(["6 checked · 6 match · 0 changed · 0 missing *s of it inside optimizer.step()"])


def test_marked_tests_are_looked_for_where_a_setting_says(recorded: Project) -> None:
    recorded.set("testpaths", "[]")
    recorded.run("--optcheck").assert_outcomes(passed=4)
    recorded.run("--optcheck", "-n2").assert_outcomes(passed=4)
    recorded.run("--optcheck", ".").assert_outcomes(passed=6, deselected=1)


def test_matches_are_listed_with_their_resolution_under_v_only(recorded: Project) -> None:
    assert "float64  match" not in recorded.run("--optcheck").stdout.str()
    verbose = recorded.run("--optcheck", "-v")
    verbose.stdout.fnmatch_lines(["*sees lr change of", "*toy:Descent(lr=0.1) *bowl *float64 *match*e-1?"])


def test_a_missing_golden_fails_with_the_command_that_records_it(project: Project) -> None:
    result = project.run("--optcheck")
    result.assert_outcomes(failed=6, deselected=1)
    result.stdout.fnmatch_lines(
        [
            "MISSING: toy:Descent(lr=0.1) has no golden",
            "*pytest --optcheck-update=missing * --optcheck-optimizer 'toy:Descent(lr=0.1)' --optcheck-workload bowl",
        ]
    )
    assert not project.goldens()


def test_a_changed_rule_fails_with_place_size_and_both_commands(recorded: Project) -> None:
    recorded.edit("toy.py", DESCENT, "p.add_(p.grad, alpha=-1.0001 * group[")
    result = recorded.run("--optcheck")
    result.assert_outcomes(failed=4, passed=2, deselected=1)
    result.stdout.fnmatch_lines(
        [
            "CHANGED: toy:Descent(lr=0.1) is no longer the algorithm its golden was recorded from",
            "  on bowl, float64, cpu",
            "  first outside: step 1, by * × envelope (relative deviation *)",
            "  largest:       relative deviation * of the loss at step 8",
            "  left first:    tensor *, seen at step 1",
            "  final loss:    * → *",
            "  reproduce:     pytest --optcheck --optcheck-optimizer 'toy:Descent(lr=0.1)' --optcheck-workload bowl",
            "  accept:        pytest --optcheck-update=changed --optcheck-reason 'why' --optcheck-optimizer *",
        ]
    )
    assert "Traceback" not in result.stdout.str()


def test_failures_stand_in_the_section_and_matches_are_counted(recorded: Project) -> None:
    recorded.edit("toy.py", DESCENT, "p.add_(p.grad, alpha=-1.0001 * group[")
    lines = recorded.run("--optcheck").stdout.lines
    section = lines[next(i for i, line in enumerate(lines) if "= optcheck =" in line) :]
    assert any("toy:Descent(lr=0.1)" in line and "CHANGED" in line for line in section)
    assert not any("toy:Momentum" in line for line in section)
    assert any(line.startswith("6 checked · 2 match · 4 changed · 0 missing") for line in section)


def test_the_commands_of_a_marked_test_select_it_alone(recorded: Project) -> None:
    recorded.edit("test_marked.py", "lr=0.2)", "lr=0.3)")
    recorded.edit("test_marked.py", 'name="Descent(lr=0.3)"', 'name="Descent(lr=0.2)"')
    before = recorded.goldens()
    result = recorded.run("--optcheck", "test_marked.py::test_descent", "--optcheck-workload", "bowl")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["  accept:*test_marked.py::test_descent --optcheck-workload bowl"])
    update = "--optcheck-update=changed"
    recorded.run(update, "test_marked.py::test_descent", "--optcheck-workload", "bowl").assert_outcomes(passed=1)
    after = recorded.goldens()
    assert [name.split("-")[0] for name in after if after[name] != before[name]] == ["Descent"]
    recorded.run("--optcheck").assert_outcomes(passed=6, deselected=1)


def test_a_step_that_raises_is_lost_and_says_where(recorded: Project) -> None:
    recorded.edit("toy.py", "v.mul_(0.9)", "v.mal_(0.9)")
    result = recorded.run("--optcheck")
    result.assert_outcomes(failed=2, passed=4, deselected=1)
    result.stdout.fnmatch_lines(
        ["LOST: toy:Momentum(lr=0.05) no longer does what it did *", "  note:*update 1 raised AttributeError*mal_*"]
    )
    assert "Traceback" not in result.stdout.str()


def test_a_nan_diverges_and_says_after_which_update(recorded: Project) -> None:
    recorded.edit("toy.py", "v.mul_(0.9)", "v.mul_(float('nan') if v.any() else 0.9)")
    result = recorded.run("--optcheck")
    result.assert_outcomes(failed=2, passed=4, deselected=1)
    result.stdout.fnmatch_lines(["DIVERGED: toy:Momentum(lr=0.05) *", "  note:*nan after update 2"])


def test_an_edited_reference_model_makes_its_goldens_stale(recorded: Project) -> None:
    recorded.edit("bowl.py", "steps = 8", "steps = 9")
    result = recorded.run("--optcheck")
    result.assert_outcomes(failed=6, deselected=1)
    result.stdout.fnmatch_lines(
        ["STALE: toy:Descent*", "*recorded on another bowl (digest *", "*--optcheck-update=stale*"]
    )


def test_the_verdict_stands_in_junit(recorded: Project) -> None:
    recorded.edit("toy.py", DESCENT, "p.add_(p.grad, alpha=-1.0001 * group[")
    recorded.run("--optcheck", "--junit-xml=out.xml")
    cases = list(ET.parse(recorded.root / "out.xml").iter("testcase"))  # noqa: S314 - our own file
    found = [{p.get("name"): p.get("value") for p in case.iter("property")} for case in cases]
    descent = next(
        row for row in found if row["optcheck_spec"] == "toy:Descent(lr=0.1)" and row["optcheck_dtype"] == "float64"
    )
    assert descent["optcheck_verdict"] == "changed"
    assert descent["optcheck_first_step"] == "1"
    assert float(descent["optcheck_envelopes"] or 0) > 1e6
    assert sum(1 for case in cases if case.find("failure") is not None) == 4


@pytest.mark.parametrize(
    ("optimizers", "line"),
    [
        ('["nowhere:Adam()"]', "optimizer nowhere:Adam(): module 'nowhere' does not import*"),
        ('["toy:Descant()"]', "optimizer toy:Descant(): 'toy' has no 'Descant'; did you mean 'Descent'?"),
        ('["toy:Descent(rate=0.1)"]', "optimizer toy:Descent(rate=0.1): Descent takes no 'rate'; it takes lr"),
    ],
)
def test_an_optimizer_that_cannot_be_built_fails_with_one_line(project: Project, optimizers: str, line: str) -> None:
    project.configure(optimizers)
    result = project.run("--optcheck")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([line])
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize(
    ("optimizers", "line"),
    [
        ('["toy:Descent(lr=fast)"]', "ERROR: optimizer spec *lr=fast is not a literal*"),
        ('["toy.Descent"]', "ERROR: optimizer spec 'toy.Descent': expected module:Class(keyword=literal, *"),
        ('["toy:Descent() @ moon"]', "ERROR: unknown workload 'moon'; known are zoo, *bowl"),
        ('["toy:Descent()", "toy:Descent( )"]', "ERROR: optimizer toy:Descent() is configured twice*"),
    ],
)
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_a_malformed_configuration_is_a_usage_error(project: Project, optimizers: str, line: str, workers: str) -> None:
    project.configure(optimizers)
    result = project.run("--optcheck", workers)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([line])
    assert "Traceback" not in result.stderr.str()


def test_an_empty_configuration_is_a_usage_error(project: Project) -> None:
    project.configure("[]")
    (project.root / "test_marked.py").unlink()
    result = project.run("--optcheck")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --optcheck has nothing to check here: list optimizers in*"])


def test_an_empty_configuration_fails_under_xdist(project: Project) -> None:
    project.configure("[]")
    (project.root / "test_marked.py").unlink()
    result = project.run("--optcheck", "-n2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*--optcheck has nothing to check*"])


@pytest.mark.parametrize(
    ("marker", "line"),
    [
        (
            "workload=['bowl']",
            "*test_descent: marker optcheck takes no keyword 'workload'; it takes workloads, routes, diverges",
        ),
        ("workloads=['moon']", "*test_descent: unknown workload 'moon'; known are *"),
        ("workloads='bowl'", "*test_descent: marker optcheck: workloads is 'bowl', expected a list of names"),
        (
            "routes=['resum']",
            "*test_descent: marker optcheck: routes has 'resum', expected 'default' or a list of names; *",
        ),
        ("routes='resume'", "*test_descent: marker optcheck: routes has 'resume', expected 'default' or a list *"),
        ("'bowl'", "*test_descent: marker optcheck takes no positional argument*"),
    ],
)
def test_a_bad_marker_is_a_usage_error(project: Project, marker: str, line: str) -> None:
    project.edit("test_marked.py", 'workloads=["bowl"]', marker)
    result = project.run("--optcheck")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {line}"])


@pytest.mark.parametrize(
    ("marker", "line"),
    [("workload=['bowl']", "*takes no keyword 'workload'; *"), ("routes=['resum']", "*: routes has 'resum', *")],
)
def test_a_bad_marker_is_a_failed_test_under_xdist(project: Project, marker: str, line: str) -> None:
    """A worker cannot end the session with a usage error."""
    project.edit("test_marked.py", 'workloads=["bowl"]', marker)
    result = project.run("--optcheck", "-n2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([line])


def test_a_test_that_never_calls_the_fixture_is_an_error(recorded: Project) -> None:
    recorded.edit("test_marked.py", "optcheck(lambda", "(lambda *_, **__: None)(lambda")
    result = recorded.run("--optcheck", "test_marked.py::test_descent")
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(["*test_descent* takes the optcheck fixture but never calls it"])


def test_a_factory_without_a_name_fails_with_one_line(recorded: Project) -> None:
    recorded.edit("test_marked.py", ', name="Descent(lr=0.2)"', "")
    result = recorded.run("--optcheck", "test_marked.py::test_descent")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["optcheck(factory) needs name='…': the golden is kept under it"])


def test_a_spec_as_text_may_be_checked_by_a_marked_test(recorded: Project) -> None:
    recorded.edit(
        "test_marked.py", 'lambda params: toy.Descent(params, lr=0.2), name="Descent(lr=0.2)"', '"toy:Descent(lr=1e-1)"'
    )
    recorded.run("--optcheck", "test_marked.py::test_descent").assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            f'"schema": {SCHEMA}',
            f'"schema": {SCHEMA + 1}',
            f"*bowl.json: key schema is {SCHEMA + 1}, this plugin reads {SCHEMA}; upgrade pytest-optcheck",
        ),
        ('"steps": 8', '"steps": "8"', "*bowl.json: key workload.steps: Expected `int`, got `str`; re-record it*"),
        ('"stochastic"', '"random"', "*bowl.json: key *; re-record it*"),
        ('"resolution": ', '"resolution": NaN, "x": ', "*bowl.json: key resolution is nan, expected a finite number*"),
    ],
)
def test_a_golden_that_is_no_good_fails_naming_file_and_key(recorded: Project, old: str, new: str, line: str) -> None:
    path = recorded.golden("Momentum")
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    result = recorded.run("--optcheck")
    result.assert_outcomes(failed=2, passed=4, deselected=1)
    result.stdout.fnmatch_lines([line])
    assert "Traceback" not in result.stdout.str()


def test_a_truncated_golden_fails_with_one_line(recorded: Project) -> None:
    path = recorded.golden("Momentum")
    path.write_text(path.read_text(encoding="utf-8")[:300], encoding="utf-8")
    result = recorded.run("--optcheck")
    result.assert_outcomes(failed=2, passed=4, deselected=1)
    result.stdout.fnmatch_lines(["*bowl.json: is not JSON, or is cut off *; re-record it with --optcheck-update*"])
