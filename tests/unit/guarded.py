"""A case of a small optimizer that a golden guards, and optimizers that break it in one way each."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from test_settings import settings
from toys import Bowl, toy

from pytest_optcheck.cases import Case, Result, Scope
from pytest_optcheck.curves import DTYPES
from pytest_optcheck.format import Golden, decode
from pytest_optcheck.recorder import Recording, record
from pytest_optcheck.settings import UPDATES, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


ROUTES = ("deepcopy", "resume")

SCOPE = Scope(DTYPES, ROUTES, twice=True)


class Plain(torch.optim.SGD):
    """Heavy-ball momentum."""

    def __init__(self, params: Iterable[Any], lr: float = 0.1) -> None:
        super().__init__(params, lr=lr, momentum=0.9)


class Forgets(Plain):
    """Loses its buffers in a load."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "state": {}})


class Faster(Plain):
    """Another rule."""

    def __init__(self, params: Iterable[Any]) -> None:
        super().__init__(params, lr=0.11)


class FasterInFloat32(Plain):
    """Another rule in float32 alone."""

    def __init__(self, params: Iterable[Any]) -> None:
        held = list(params)
        super().__init__(held, lr=0.1 if held[0].dtype == torch.float64 else 0.11)


def asked(tmp_path: Path, mode: str | None = None, **fields: Any) -> Settings:  # noqa: ANN401 - fields of the settings
    chosen = UPDATES[mode] if mode else frozenset()
    return settings(known={"bowl": "toys:Bowl"}, curves=tmp_path, update=chosen, **fields)


def case(build: Any = Plain, dtype: Any = "float64", **fields: Any) -> Case:  # noqa: ANN401 - fields of a case
    return Case(toy(build), "bowl", dtype, "select", **{"scope": SCOPE, **fields})


def only(results: list[Result]) -> Result:
    (result,) = results
    return result


def written(result: Result, tmp_path: Path) -> Golden:
    found = decode(result.golden or "", tmp_path)
    assert found is not None
    return found


@functools.cache
def plain_golden() -> Golden:
    """The golden of `Plain` with two routes."""
    return record(Recording(toy(Plain), Bowl(), routes=ROUTES))
