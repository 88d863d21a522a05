"""The losses that docstrings of reference models claim, and those that are reached."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_optcheck import workloads
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.curves import Needs
from pytest_optcheck.specs import parse
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from pytest_optcheck.workloads.base import Workload

CLAIM = re.compile(r"(\w+\([^()]*\))(?: brings (?:it|the loss) from \S+)? to (\d+\.\d+(?:e-\d+)?)")
"""``SGD(lr=0.1) brings the loss from 0.7 to 0.2, Adam(lr=0.01) to 0.1``."""


def documented(*kinds: type[Workload]) -> list[tuple[str, str, float]]:
    """(workload, optimizer, loss) as the docstrings state them, at least three for each.

    Raises:
        ValueError: a docstring states fewer.
    """
    claims: list[tuple[str, str, float]] = []
    for kind in kinds:
        found = [(kind.name, spec, float(loss)) for spec, loss in CLAIM.findall(" ".join((kind.__doc__ or "").split()))]
        if len(found) < 3:
            raise ValueError(f"{kind.name} documents {len(found)} losses")
        claims += found
    return claims


def reached(workload: str, spec: str) -> float:
    """The last loss of one training in float64."""
    model = workloads.load(workloads.BUILTIN[workload])
    conditions = Conditions(needs=Needs(sparse="Sparse" in spec))
    return train(parse(f"torch.optim:{spec}").factory(), model, conditions).losses[-1]
