"""Hooks with which other plugins and conftest files extend optcheck."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pytest


def pytest_optcheck_specs(config: pytest.Config) -> Sequence[str]:
    """More optimizers to check, as lines of the ini setting ``optcheck_optimizers``."""
    raise AssertionError(config)  # a specification is never called


def pytest_optcheck_workloads(config: pytest.Config) -> Mapping[str, str]:
    """More reference models: name -> ``module:Class``.

    The class is a subclass of ``pytest_optcheck.workloads.base.Workload``; its module is imported when the model
    is first trained, never before.
    """
    raise AssertionError(config)  # a specification is never called
