"""--optcheck-update: what it records, what it leaves alone, when it refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pytest_optcheck.format import SCHEMA

if TYPE_CHECKING:
    from sample import Project

DESCENT = "p.add_(p.grad, alpha=-group["


def names(texts: dict[str, str]) -> list[str]:
    return [name.split("-")[0] for name in texts]


def test_it_records_what_is_missing_and_says_what_each_golden_sees(project: Project) -> None:
    result = project.run("--optcheck-update", "--optcheck-reason", "first light")
    result.assert_outcomes(passed=3, deselected=1)
    result.stdout.fnmatch_lines(
        ["recorded toy:Descent(lr=0.1) on bowl: final loss *; sees a learning-rate change of *e-1?"]
    )
    result.stdout.fnmatch_lines(["3 checked · 0 match · 0 changed · 0 missing · 3 recorded *"])
    assert names(project.goldens()) == ["Descent", "toy", "toy"]
    for text in project.goldens().values():
        assert json.loads(text)["recorded"]["reason"] == "first light"


def test_a_second_update_writes_nothing(recorded: Project) -> None:
    before = recorded.goldens()
    recorded.run("--optcheck-update").assert_outcomes(passed=3, deselected=1)
    assert recorded.goldens() == before


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_only_what_moved_is_rewritten_and_old_and_new_are_printed(recorded: Project, workers: str) -> None:
    before = recorded.goldens()
    recorded.edit("toy.py", "v.mul_(0.9)", "v.mul_(0.8)")
    result = recorded.run("--optcheck-update", workers)
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        ["recorded toy:Momentum(lr=0.05) on bowl: final loss * → *, changed, from step 2; sees a *"]
    )
    after = recorded.goldens()
    assert [name for name in after if after[name] != before[name]] == [n for n in after if "Momentum" in n]
    recorded.run("--optcheck").assert_outcomes(passed=6, deselected=1)


@pytest.mark.parametrize(("mode", "recorded_one"), [("missing", "Descent"), ("changed", "Momentum"), ("stale", None)])
def test_a_mode_records_its_verdict_alone_and_leaves_the_others_failing(
    recorded: Project, mode: str, recorded_one: str | None
) -> None:
    recorded.golden("toy-Descent").unlink()
    recorded.edit("toy.py", "v.mul_(0.9)", "v.mul_(0.8)")
    before = recorded.goldens()
    result = recorded.run(f"--optcheck-update={mode}")
    after = recorded.goldens()
    moved = [name for name in after if after[name] != before.get(name)]
    assert len(moved) == (recorded_one is not None)
    assert all(recorded_one in name for name in moved if recorded_one)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_stale_goldens_are_recorded_on_the_new_reference_model(recorded: Project) -> None:
    recorded.edit("bowl.py", "steps = 8", "steps = 9")
    result = recorded.run("--optcheck-update=stale")
    result.assert_outcomes(passed=3, deselected=1)
    result.stdout.fnmatch_lines(["recorded toy:Descent(lr=0.1) on bowl: *, stale: *digest*"])
    recorded.run("--optcheck").assert_outcomes(passed=6, deselected=1)


def test_a_golden_that_is_no_good_is_replaced_on_demand(recorded: Project) -> None:
    path = recorded.golden("Momentum")
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[:300], encoding="utf-8")
    recorded.run("--optcheck-update=missing").assert_outcomes(passed=2, failed=1, deselected=1)
    assert path.read_text(encoding="utf-8") == whole[:300]
    recorded.run("--optcheck-update=stale").assert_outcomes(passed=3, deselected=1)
    assert json.loads(path.read_text(encoding="utf-8"))["curves"] == json.loads(whole)["curves"]


def test_a_golden_of_a_newer_schema_is_never_replaced(recorded: Project) -> None:
    path = recorded.golden("Momentum")
    newer = path.read_text(encoding="utf-8").replace(f'"schema": {SCHEMA}', f'"schema": {SCHEMA + 1}')
    path.write_text(newer, encoding="utf-8")
    recorded.run("--optcheck-update").assert_outcomes(passed=2, failed=1, deselected=1)
    assert path.read_text(encoding="utf-8") == newer


def test_under_ci_it_is_refused_unless_forced(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    result = project.run("--optcheck-update")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --optcheck-update is refused under CI*--optcheck-force overrides"])
    assert not project.goldens()
    project.run("--optcheck-update", "--optcheck-force").assert_outcomes(passed=3, deselected=1)


def test_a_directory_that_cannot_be_written_is_a_usage_error(project: Project) -> None:
    (project.root / "file").touch()
    result = project.run("--optcheck-update", "--optcheck-curves=file/curves")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: curve directory *file/curves cannot be written (NotADirectoryError*"])


def test_an_unknown_mode_is_a_usage_error_that_lists_them(project: Project) -> None:
    result = project.run("--optcheck-update=everything")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*invalid choice: 'everything' (choose from *missing*changed*stale*all*"])


def test_two_tests_may_not_record_the_same_golden(project: Project) -> None:
    path = project.root / "test_marked.py"
    again = 'optcheck(lambda params: toy.Descent(params, lr=0.3), name="Descent(lr=0.2)")'
    text = path.read_text(encoding="utf-8")
    path.write_text(f"{text}\n\ndef test_again(optcheck: Checker) -> None:\n    {again}\n", encoding="utf-8")
    result = project.run("--optcheck-update", "-k", "test_", "test_marked.py")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["*::test_descent* and *::test_again* both record Descent(lr=0.2) on bowl; the first was kept*"]
    )
    assert json.loads(project.golden("Descent-lr-0.2").read_text(encoding="utf-8"))["curves"]


def test_a_divergence_is_refused_unless_declared_and_then_guarded(project: Project) -> None:
    project.edit("toy.py", "v.mul_(0.9)", "v.mul_(float('inf') if v.any() else 0.9)")
    refused = project.run("--optcheck-update")
    refused.assert_outcomes(passed=2, failed=1, deselected=1)
    refused.stdout.fnmatch_lines(["not recorded: toy:Momentum(lr=0.05) on bowl in float64: * after update 2; *"])
    declared = ["-o", "optcheck_diverging=toy:Momentum(lr=0.05)"]
    result = project.run("--optcheck-update", *declared)
    result.assert_outcomes(passed=3, deselected=1)
    result.stdout.fnmatch_lines(["*leaves the finite numbers, as declared*"])
    project.run("--optcheck").assert_outcomes(passed=6, deselected=1)
    project.edit("toy.py", "float('inf') if v.any() else 0.9", "0.9")
    mended = project.run("--optcheck")
    mended.assert_outcomes(passed=4, failed=2, deselected=1)
    mended.stdout.fnmatch_lines(["*the golden leaves the finite numbers after update 2, this run does not"])


def test_an_optimizer_that_does_not_repeat_itself_is_recorded_as_stochastic_and_said_so(project: Project) -> None:
    project.edit("toy.py", "import torch\n", "import itertools\n\nimport torch\n\nCOUNT = itertools.count(1)\n")
    project.edit("toy.py", DESCENT, "p.add_(p.grad, alpha=(1 + 1e-3 * (next(COUNT) % 7)) * -group[")
    result = project.run("--optcheck-update", "-k", "toy:Descent")
    result.stdout.fnmatch_lines(["*toy:Descent(lr=0.1)*does not repeat itself (stochastic)*"])
    assert json.loads(project.golden("toy-Descent").read_text(encoding="utf-8"))["stochastic"] is True


def test_a_coarse_golden_is_warned_about(project: Project) -> None:
    project.edit("toy.py", "v.mul_(0.9).add_(p.grad)", "v.mul_(0.9).add_(p.grad.bfloat16())")
    result = project.run("--optcheck-update")
    result.stdout.fnmatch_lines(["*toy:Momentum(lr=0.05) on bowl*", "  warning: coarse; a good golden sees *"])
