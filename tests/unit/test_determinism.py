from __future__ import annotations

import os
import random
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from pytest_optcheck.determinism import FLOAT32_UNITS, deterministic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GLOBAL_STREAM: Any = np.random  # what a foreign optimizer may draw from
cudnn = torch.backends.cudnn


class Setting:
    """One global that the block changes: how to read it, and how a caller would have set it."""

    def __init__(self, name: str, read: Callable[[], Any], change: Callable[[], object], inside: object) -> None:
        self.name = name
        self.read = read
        self.change = change
        self.inside = inside


def _draws_of_numpy() -> object:
    return [part.tolist() if isinstance(part, np.ndarray) else part for part in GLOBAL_STREAM.get_state()]


def _precisions() -> object:
    return [attrgetter(unit)(torch.backends).fp32_precision for unit in FLOAT32_UNITS]


def _set_precisions(precision: str) -> None:
    for unit in FLOAT32_UNITS:
        attrgetter(unit)(torch.backends).fp32_precision = precision


SETTINGS = [
    Setting("threads", torch.get_num_threads, lambda: torch.set_num_threads(3), 1),
    Setting(
        "default dtype",
        torch.get_default_dtype,
        lambda: torch.set_default_dtype(torch.float64),
        torch.float32,
    ),
    *[
        Setting(
            f"deterministic algorithms, {mode}",
            torch.get_deterministic_debug_mode,
            lambda mode=mode: torch.set_deterministic_debug_mode(mode),  # type: ignore[misc] # bound in the loop
            1,
        )
        for mode in ("default", "error")
    ],
    *[
        Setting(
            f"cuDNN autotuning, {on}",
            lambda: cudnn.benchmark,
            lambda on=on: setattr(cudnn, "benchmark", on),  # type: ignore[misc] # bound in the loop
            False,
        )
        for on in (True, False)
    ],
    *[
        Setting(
            f"precision of float32 in every unit, {precision}",
            _precisions,
            lambda precision=precision: _set_precisions(precision),  # type: ignore[misc] # bound in the loop
            ["ieee"] * len(FLOAT32_UNITS),
        )
        for precision in ("none", "ieee", "tf32")
    ],
    *[
        Setting(
            f"precision of float32 products, {precision}",
            torch.get_float32_matmul_precision,
            lambda precision=precision: torch.set_float32_matmul_precision(precision),  # type: ignore[misc] # bound in the loop
            None,
        )
        for precision in ("highest", "high", "medium")
    ],
    Setting(
        "precision of float32 products, as the units see it",
        _precisions,
        lambda: torch.set_float32_matmul_precision("medium"),
        ["ieee"] * len(FLOAT32_UNITS),
    ),
    Setting("gradients off", torch.is_grad_enabled, lambda: torch.set_grad_enabled(False), True),
    Setting("gradients on", torch.is_grad_enabled, lambda: torch.set_grad_enabled(True), True),
    Setting("Python's stream", random.getstate, lambda: random.seed(99), None),
    Setting("NumPy's stream", _draws_of_numpy, lambda: GLOBAL_STREAM.seed(99), None),
    Setting("torch's stream", lambda: torch.get_rng_state().tolist(), lambda: torch.manual_seed(99), None),
]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Leave the process as it was, whatever a failing test has done to it."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    mode, benchmark = torch.get_deterministic_debug_mode(), cudnn.benchmark
    python, numpy, stream = random.getstate(), GLOBAL_STREAM.get_state(), torch.get_rng_state()
    grad, precisions = (
        torch.is_grad_enabled(),
        [attrgetter(unit)(torch.backends).fp32_precision for unit in FLOAT32_UNITS],
    )
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)
    torch.set_deterministic_debug_mode(mode)
    cudnn.benchmark = benchmark
    torch.set_float32_matmul_precision("highest")
    for unit, precision in zip(FLOAT32_UNITS, precisions, strict=True):
        attrgetter(unit)(torch.backends).fp32_precision = precision
    random.setstate(python)
    GLOBAL_STREAM.set_state(numpy)
    torch.set_rng_state(stream)
    torch.set_grad_enabled(grad)


def _disturb() -> None:
    """Change and draw everything, as a foreign optimizer may."""
    torch.set_num_threads(2)
    torch.set_default_dtype(torch.float16)
    torch.set_deterministic_debug_mode("default")
    cudnn.benchmark = True
    _set_precisions("tf32")
    random.betavariate(1.0, 1.0)
    GLOBAL_STREAM.rand()
    torch.rand(1)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_the_setting_is_held_inside_and_comes_back(setting: Setting) -> None:
    setting.change()
    before = setting.read()
    with deterministic():
        inside = setting.read()
    assert setting.inside is None or inside == setting.inside
    assert setting.read() == before


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_the_setting_comes_back_when_a_disturbed_block_raises(setting: Setting) -> None:
    setting.change()
    before = setting.read()

    def disturbed() -> None:
        with deterministic():
            _disturb()
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        disturbed()
    assert setting.read() == before


def test_every_block_starts_from_the_same_random_streams() -> None:
    def draws() -> tuple[float, float, float]:
        with deterministic():
            return random.betavariate(1.0, 1.0), float(GLOBAL_STREAM.rand()), float(torch.rand(1))

    first = draws()
    _disturb()
    assert draws() == first


def test_the_block_can_differentiate_though_its_caller_cannot() -> None:
    x = torch.ones(1, requires_grad=True)
    with torch.no_grad(), deterministic():
        assert (2 * x).requires_grad


def test_an_operation_without_a_deterministic_form_warns_rather_than_raises() -> None:
    with deterministic():
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()


def test_blocks_nest() -> None:
    with deterministic():
        torch.rand(1)
        state = torch.get_rng_state()
        with deterministic():
            torch.rand(5)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.get_num_threads() == 1


def test_on_the_cpu_the_environment_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with deterministic():
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("given", "kept"), [(None, ":4096:8"), (":16:8", ":16:8")])
def test_cublas_gets_a_workspace_for_the_block_unless_the_caller_chose_one(
    monkeypatch: pytest.MonkeyPatch, given: str | None, kept: str
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if given is not None:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", given)
    with deterministic("cuda"):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == kept
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == given
