"""--optcheck-optimizer, --optcheck-workload, --optcheck-curves, --optcheck-allow and --optcheck-device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from sample import Project

DESCENT = "p.add_(p.grad, alpha=-group["


def test_an_optimizer_given_by_option_is_checked_alone(recorded: Project) -> None:
    result = recorded.run("--optcheck", "--optcheck-optimizer", "toy:Descent( lr=1e-1 )")
    result.assert_outcomes(passed=2, deselected=3)


def test_a_workload_given_by_option_narrows_everything(recorded: Project) -> None:
    recorded.configure('["toy:Descent(lr=0.1) @ bowl, linear", "toy:Momentum(lr=0.05) @ linear"]')
    result = recorded.run("--optcheck", "--optcheck-workload=bowl")
    result.assert_outcomes(passed=4, deselected=1)
    none_left = recorded.run("--optcheck", "--optcheck-workload=zoo")
    assert none_left.ret == pytest.ExitCode.USAGE_ERROR
    none_left.stderr.fnmatch_lines(["ERROR: --optcheck has nothing to check here*"])


def test_an_unknown_workload_is_a_usage_error_that_lists_the_known_ones(recorded: Project) -> None:
    result = recorded.run("--optcheck", "--optcheck-workload=moon")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: unknown workload 'moon'; known are zoo, *, bowl"])


def test_goldens_may_lie_elsewhere(recorded: Project) -> None:
    (recorded.root / "reference_curves").rename(recorded.root / "elsewhere")
    recorded.run("--optcheck").assert_outcomes(failed=6, deselected=1)
    recorded.run("--optcheck", "--optcheck-curves=elsewhere").assert_outcomes(passed=6, deselected=1)
    recorded.run("--optcheck", "-o", "optcheck_curves=elsewhere").assert_outcomes(passed=6, deselected=1)


def test_an_allowed_verdict_passes_with_a_warning(recorded: Project) -> None:
    recorded.edit("toy.py", DESCENT, "p.add_(p.grad, alpha=-1.0001 * group[")
    for option in (["--optcheck-allow=changed"], ["-o", "optcheck_allow=changed"]):
        result = recorded.run("--optcheck", *option)
        result.assert_outcomes(passed=6, deselected=1, warnings=4)
        result.stdout.fnmatch_lines(["*OptcheckWarning: CHANGED: toy:Descent(lr=0.1) is no longer*"])


def test_an_unknown_verdict_to_allow_is_a_usage_error(recorded: Project) -> None:
    result = recorded.run("--optcheck", "--optcheck-allow=chnaged")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    known = "known are slower, heavier, improved, changed, regression, diverged, *"
    result.stderr.fnmatch_lines([f"ERROR: unknown verdict 'chnaged' to allow; {known}"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_cuda_where_torch_sees_none_is_a_usage_error(recorded: Project, device: str, workers: str) -> None:
    result = recorded.run("--optcheck", f"--optcheck-device={device}", workers)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: optcheck device '{device}': torch sees no GPU; use cpu or auto"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_auto_takes_what_is_there_and_the_header_names_it(recorded: Project) -> None:
    result = recorded.run("--optcheck", "--optcheck-device=auto")
    result.assert_outcomes(passed=6, deselected=1)
    result.stdout.fnmatch_lines(["optcheck: checking 2 configured optimizers on cpu, *"])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_goldens_from_the_cpu_are_green_on_the_gpu(recorded: Project, workers: str) -> None:
    result = recorded.run("--optcheck", "--optcheck-device=cuda", workers)
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["optcheck: checking 2 configured optimizers on cuda, *"])


def test_an_unknown_device_is_a_usage_error(recorded: Project) -> None:
    result = recorded.run("--optcheck", "--optcheck-device=tpu")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: optcheck device 'tpu': expected cpu, cuda, cuda:N or auto"])
