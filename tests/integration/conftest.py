"""The sample project for each test, with goldens where asked for."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import torch._dynamo  # noqa: F401 - in-process runs restore sys.modules, and parts of torch cannot be imported twice
from sample import Project

from pytest_optcheck import recorder, session, suite, updating  # noqa: F401 - ditto
from pytest_optcheck.cost import control  # noqa: F401 - ditto

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A fresh copy, outside CI."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # edits within a second must not meet a cached module
    return Project(pytester)


@pytest.fixture(scope="session")
def recorded_curves(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Project], None]:
    """Gives a project its recorded goldens; they are recorded once a session."""
    return _recording(tmp_path_factory.mktemp("recorded") / "reference_curves")


@pytest.fixture(scope="session")
def routed_curves(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Project], None]:
    """The same with all routes."""
    return _recording(tmp_path_factory.mktemp("routed") / "reference_curves")


def _recording(store: Path) -> Callable[[Project], None]:
    def give(project: Project) -> None:
        if not store.exists():
            project.run("--optcheck-update").assert_outcomes(passed=3)
            shutil.copytree(project.root / "reference_curves", store)
        shutil.copytree(store, project.root / "reference_curves", dirs_exist_ok=True)

    return give


@pytest.fixture
def routed(project: Project, routed_curves: Callable[[Project], None]) -> Project:
    """The sample project under the default profile, with its goldens."""
    project.set("routes", None)
    routed_curves(project)
    return project


@pytest.fixture
def recorded(project: Project, recorded_curves: Callable[[Project], None]) -> Project:
    """The sample project with its goldens."""
    recorded_curves(project)
    return project
