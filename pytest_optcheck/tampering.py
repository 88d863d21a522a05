"""Whether what decides on a break of the self-test is still the plugin's own, or was replaced by somebody."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from pytest_optcheck import judge
from pytest_optcheck.cases import LR, STATE, SYNC, TENSOR, WAIT
from pytest_optcheck.cost import gate, ratios, versus

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

CURVE = ((judge, "judge"), (judge, "deviations"), (judge, "Policy.tolerance"))

JUDGES: Mapping[str, tuple[tuple[ModuleType, str], ...]] = {
    LR: CURVE,
    TENSOR: CURVE,
    STATE: CURVE,
    SYNC: ((gate, "compare"),),
    WAIT: ((versus, "compare"), (ratios, "Inquiry.decision")),
}
"""What decides, by break."""


def replaced(name: str) -> str:
    """What stands in the place of the plugin's own functions that decide on the break `name`; empty where they do."""
    return ", ".join(filter(None, (_replaced(module, function) for module, function in JUDGES[name])))


def _replaced(module: ModuleType, name: str) -> str:
    found: Any = attrgetter(name)(module)
    home, called = getattr(found, "__module__", "?"), getattr(found, "__qualname__", repr(found))
    if (home, called) == (module.__name__, name):
        return ""
    return f"{module.__name__}.{name} is {home}.{called}"
