"""Reference models by name. Listing the names imports nothing; looking one up imports torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from pytest_optcheck.errors import FOREIGN, OptcheckError, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_optcheck.workloads.base import Workload

BUILTIN: Mapping[str, str] = {
    "zoo": "pytest_optcheck.workloads.zoo:Zoo",
    "quadratic": "pytest_optcheck.workloads.convex:Quadratic",
    "quadratic_ill": "pytest_optcheck.workloads.convex:IllConditionedQuadratic",
    "quartic": "pytest_optcheck.workloads.penalties:Quartic",
    "linear": "pytest_optcheck.workloads.convex:Linear",
    "logistic": "pytest_optcheck.workloads.penalties:Logistic",
    "gcn": "pytest_optcheck.workloads.graphs:Gcn",
    "finetune": "pytest_optcheck.workloads.finetune:Finetune",
    "embedding": "pytest_optcheck.workloads.embedding:Embedding",
    "mlp": "pytest_optcheck.workloads.networks:Mlp",
    "transformer": "pytest_optcheck.workloads.sequences:Transformer",
    "lstm": "pytest_optcheck.workloads.sequences:Lstm",
    "digits_cnn": "pytest_optcheck.workloads.networks:DigitsCnn",
}
"""Workload name -> ``module:Class``, cheapest first."""

_instances: dict[str, Workload] = {}  # a digest takes a moment: once a process is enough


def load(target: str) -> Workload:
    """The workload that ``module:Class`` names; the same instance every time.

    Raises:
        OptcheckError: it does not import, or is not a `Workload` class.
    """
    from pytest_optcheck.workloads.base import Workload

    if target not in _instances:
        module, _, name = target.partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
        except FOREIGN as error:  # an import runs foreign code: anything may come out
            raise OptcheckError(f"workload {target!r} does not import ({one_line(error)})") from error
        if not (isinstance(found, type) and issubclass(found, Workload)):
            raise OptcheckError(f"workload {target!r} is not a subclass of pytest_optcheck.workloads.base.Workload")
        try:
            _instances[target] = found()
        except FOREIGN as error:
            raise OptcheckError(f"workload {target!r} cannot be made ({one_line(error)})") from error
    return _instances[target]
