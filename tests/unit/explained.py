"""An optimizer of a textbook family, and what may become of it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from test_settings import settings
from toys import Bowl, TwoGroups

from pytest_optcheck.cases import Case, Scope
from pytest_optcheck.recorder import Recording, record
from pytest_optcheck.specs import parse

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_optcheck.format import Golden
    from pytest_optcheck.settings import Settings

ROUTES = ("maximize", "resume")

SPEC = "explained:Ball(lr=0.1)"

SAME_AS = {"explained:Ball": "sgd"}


class Ball(torch.optim.SGD):
    """Heavy-ball momentum."""

    def __init__(
        self, params: Iterable[Any], lr: float = 0.1, momentum: float = 0.9, *, maximize: bool = False
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, maximize=maximize)


class Steeper(Ball):
    """Its learning rate is another by one percent."""

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override] # no closure
        for group in self.param_groups:
            group["lr"] *= 1.01
        super().step()
        for group in self.param_groups:
            group["lr"] /= 1.01


class Forgets(Ball):
    """Loses its velocity in a load."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "state": {}})


class Piles(Ball):
    """Clears no gradients."""

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: ARG002 - torch's signature
        return


class Lighter(Ball):
    """Its default is another."""

    def __init__(
        self, params: Iterable[Any], lr: float = 0.1, momentum: float = 0.8, *, maximize: bool = False
    ) -> None:
        super().__init__(params, lr, momentum, maximize=maximize)


class Coarse(Ball):
    """Another rule in float32 alone."""

    def step(self) -> None:  # type: ignore[override] # no closure
        super().step()
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                if p.dtype == torch.float32:
                    p.mul_(0.99)


class Wanders(Ball):
    """Does what no textbook has."""

    def step(self) -> None:  # type: ignore[override] # no closure
        super().step()
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                p.add_(torch.sin(7.0 * p), alpha=0.01)


@functools.cache
def golden(two: bool = False) -> Golden:
    """That of `Ball`, with its routes; or on the bowl of two groups."""
    workload = TwoGroups() if two else Bowl()
    return record(Recording(parse(SPEC), workload, routes=() if two else ROUTES))


def asked(curves: Path, **fields: Any) -> Settings:  # noqa: ANN401 - fields of the settings
    """Settings under which `Ball` is declared to be gradient descent with momentum."""
    known = {"bowl": "toys:Bowl", "bowl_two_groups": "toys:TwoGroups"}
    return settings(**{"known": known, "curves": curves, "same_as": SAME_AS, **fields})


def case(dtype: Any = "float64", **fields: Any) -> Case:  # noqa: ANN401 - fields of a case
    """One of `Ball`."""
    return Case(parse(SPEC), "bowl", dtype, "select", **{"scope": Scope(routes=ROUTES), **fields})
