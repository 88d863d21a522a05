"""optcheck_variants: settings derived from a signature are recorded and guarded; arguments that do nothing are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sample import Project

DECAY = """

class Decay(Optimizer):
    def __init__(self, params, lr=0.1, weight_decay=0.0, unused=False):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if group["weight_decay"]:
                    p.mul_(1.0 - group["lr"] * group["weight_decay"])
                p.add_(p.grad, alpha=-group["lr"])
"""
BASE, VARIANT = "toy:Decay(lr=0.1)", "toy:Decay(lr=0.1, weight_decay=0.1)"
BROKEN = ("1.0 - group[", "1.0 + group[")  # in the branch that the variant alone reaches


@pytest.fixture
def decay(project: Project) -> Project:
    """One optimizer with an argument that reaches another branch and one that does nothing."""
    (project.root / "test_marked.py").unlink()
    project.append("toy.py", DECAY)
    project.configure(f'["{BASE}"]')
    project.set("routes", None)
    project.set("variants", None)
    return project


@pytest.fixture
def varied(decay: Project) -> Project:
    """The same, recorded."""
    decay.run("--optcheck-update").assert_outcomes(passed=1)
    return decay


def specs(project: Project) -> list[str]:
    return sorted(project.stored(part)["spec"] for part in {name.partition("/")[0] for name in project.goldens()})


def test_an_update_records_variants_as_goldens_of_their_own_and_a_check_collects_them(decay: Project) -> None:
    result = decay.run("--optcheck-update")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [f"recorded {BASE} on bowl: *", f"recorded {VARIANT} on bowl: *", "2 checked * 2 recorded *"]
    )
    assert specs(decay) == [BASE, VARIANT]
    cases = decay.collected()
    assert [case for case in cases if case.startswith(VARIANT)] == [f"{VARIANT}[bowl-resume]"]
    decay.run("--optcheck").assert_outcomes(passed=len(cases))
    for asked in (["--optcheck-route", "float64"], ["--optcheck-profile", "full"]):
        assert f"{VARIANT}[bowl-float64]" in decay.collected(*asked)


def test_an_argument_that_changes_nothing_is_reported_and_kept(decay: Project) -> None:
    result = decay.run("--optcheck-update")
    result.stdout.fnmatch_lines([f"recorded {BASE} on bowl: *", "  arguments that change nothing: unused"])
    stored = [decay.stored(name.partition("/")[0]) for name in decay.goldens()]
    assert {golden["spec"]: golden["dead"] for golden in stored} == {BASE: ["unused"], VARIANT: []}
    assert {golden["spec"]: golden["variants"] for golden in stored} == {BASE: [VARIANT], VARIANT: []}


@pytest.mark.slow
def test_a_bug_in_a_branch_that_only_a_variant_reaches_fails_that_variant_alone(varied: Project) -> None:
    cases = len(varied.collected())
    varied.edit("toy.py", *BROKEN)
    result = varied.run("--optcheck")
    result.assert_outcomes(failed=1, passed=cases - 1)
    result.stdout.fnmatch_lines([f"CHANGED: {VARIANT} is no longer *"])


def test_the_commands_of_a_variant_run_and_mend_it_alone(varied: Project) -> None:
    before, cases = varied.goldens(), varied.collected()
    varied.edit("toy.py", *BROKEN)
    result = varied.run("--optcheck", "-k", "resume]")
    result.assert_outcomes(failed=1, passed=1, deselected=len(cases) - 2)
    varied.obey(result, "reproduce").assert_outcomes(failed=1)
    varied.obey(result, "accept").assert_outcomes(passed=1)
    moved = [name for name, text in varied.goldens().items() if text != before.get(name)]
    assert len(moved) == 1
    assert "weight-decay" in moved[0]
    assert varied.collected() == cases
    varied.run("--optcheck").assert_outcomes(passed=len(cases))


def test_a_variant_that_lost_its_golden_is_missing_and_recorded_by_its_command(varied: Project) -> None:
    varied.golden("weight-decay").unlink()
    result = varied.run("--optcheck", "-k", "float64")
    result.assert_outcomes(failed=1, passed=1, deselected=len(varied.collected()) - 2)
    result.stdout.fnmatch_lines([f"MISSING: {VARIANT} has no golden"])
    varied.obey(result, "record").assert_outcomes(passed=1)
    assert specs(varied) == [BASE, VARIANT]


def test_none_derives_nothing_and_collects_nothing(decay: Project) -> None:
    decay.set("variants", '["none"]')
    result = decay.run("--optcheck-update")
    assert "arguments that change nothing" not in result.stdout.str()
    assert specs(decay) == [BASE]


def test_none_leaves_recorded_variants_alone(varied: Project) -> None:
    before = varied.goldens()
    varied.set("variants", '["none"]')
    assert not [case for case in varied.collected() if case.startswith(VARIANT)]
    varied.run("--optcheck-update").assert_outcomes(passed=1)
    assert varied.goldens() == before


def test_a_list_makes_variants_of_its_own_where_the_constructor_takes_them(decay: Project) -> None:
    decay.set("variants", '["weight_decay=0.25", "momentum=0.9", "weight_decay=0.5, unused=True"]')
    decay.run("--optcheck-update").assert_outcomes(passed=1)
    listed = ["toy:Decay(lr=0.1, unused=True, weight_decay=0.5)", "toy:Decay(lr=0.1, weight_decay=0.25)"]
    assert specs(decay) == [BASE, *listed]
    assert {case.partition("[")[0] for case in decay.collected()} == {BASE, *listed}


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_a_variant_that_is_configured_or_shared_is_recorded_once(decay: Project, workers: str) -> None:
    other = "toy:Decay(lr=0.1, weight_decay=0.1)"
    decay.configure(f'["{BASE}", "{other}", "toy:Decay(lr=0.1, unused=False)"]')
    decay.set("variants", '["weight_decay=0.1", "unused=True, weight_decay=0.3"]')
    decay.run("--optcheck-update", workers).assert_outcomes(passed=3)
    cases = decay.collected()
    assert len(cases) == len(set(cases))
    assert sum(case == f"{other}[bowl-float64]" for case in cases) == 1
    decay.run("--optcheck").assert_outcomes(passed=len(cases))


def test_a_malformed_variant_is_a_usage_error_in_one_line(decay: Project) -> None:
    decay.set("variants", '["weight_decay=heavy"]')
    result = decay.run("--optcheck")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *weight_decay=heavy*"])
    assert "Traceback" not in result.stderr.str()
