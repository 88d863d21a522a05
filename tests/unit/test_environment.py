from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_optcheck import environment

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("value", ["true", "1", "True", "yes", "woodpecker", " true "])
def test_ci_is_recognised(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CI", value)
    assert environment.in_ci()


@pytest.mark.parametrize("value", ["", " ", "0", "false", "FALSE", "no", " No "])
def test_a_spelling_of_no_is_no_ci(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CI", value)
    assert not environment.in_ci()


def test_without_the_variable_there_is_no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    assert not environment.in_ci()


def test_the_versions_are_those_of_what_a_curve_depends_on() -> None:
    import numpy as np
    import torch

    found = environment.versions()
    assert list(found) == ["optcheck", "torch", "numpy", "python"]
    assert found["torch"] == torch.__version__
    assert found["numpy"] == np.__version__
    assert found["python"] == platform.python_version()


def _reads(text: str) -> Callable[..., str]:
    return lambda *_args, **_keywords: text


def test_the_processor_is_named_as_the_system_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "processor\t: 0\nmodel name\t: Some CPU: 3 GHz \nprocessor\t: 1\nmodel name\t: Other\n"
    monkeypatch.setattr(Path, "read_text", _reads(text))
    assert environment.cpu() == "Some CPU: 3 GHz"


def test_without_a_model_name_the_platform_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", _reads("processor\t: 0\n"))
    monkeypatch.setattr(platform, "processor", lambda: "some platform")
    assert environment.cpu() == "some platform"


def test_where_there_is_no_cpuinfo_the_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_args: object, **_keywords: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert environment.cpu() == "riscv64"
