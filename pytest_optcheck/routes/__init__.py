"""Routes by name: ways of running the same algorithm that must land on the same curve.

Listing the names imports nothing; looking one up imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from pytest_optcheck.curves import PLAIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_optcheck.routes.base import Route

BUILTIN: Mapping[str, str] = {
    "foreach": "flags:Foreach",
    "fused": "flags:Fused",
    "capturable": "flags:Capturable",
    "differentiable": "flags:Differentiable",
    "tensor_lr": "flags:TensorLr",
    "maximize": "flags:Maximize",
    "closure": "steps:WithClosure",
    "set_to_none_false": "steps:SetToNoneFalse",
    "accumulated": "steps:Accumulated",
    "scaled": "steps:Scaled",
    "sparse": "steps:Sparse",
    "compiled": "steps:Compiled",
    "resume": "restarts:Resume",
    "resume_float32_state": "restarts:ResumeFloat32State",
    "older_state": "restarts:OlderState",
    "deepcopy": "restarts:DeepCopy",
    "pickle": "restarts:Pickle",
    "split_groups": "groupings:SplitGroups",
    "add_group_late": "groupings:AddGroupLate",
    "reordered": "groupings:Reordered",
    "noncontiguous": "tensors:NonContiguous",
    "channels_last": "tensors:ChannelsLast",
    "complex": "tensors:Complex",
    "bfloat16": "tensors:BFloat16",
    "mixed_dtypes": "tensors:MixedDtypes",
}
"""Route name -> ``module:Class`` in this package."""

NAMES: tuple[str, ...] = tuple(BUILTIN)
"""Every route but the plain one."""

QUICK = frozenset({"resume", "foreach"})
"""Where mistakes are most often found, and cheap."""

OWN_CURVE = frozenset({"resume_float32_state", "bfloat16", "mixed_dtypes"})
"""Routes that compute in fewer bits, where rounding alone may lead elsewhere: each is judged by its own curve only."""

SCHEDULED = frozenset({"resume", "deepcopy", "pickle", "tensor_lr", "closure", "scaled"})
"""Routes that a schedule may get wrong; the others are the optimizer's own, and are checked without it."""

SLOW = frozenset({"compiled"})
"""Routes that take seconds a case; the profile ``full`` has them."""


def load(name: str) -> Route:
    """A fresh instance of the route: it serves one training."""
    from pytest_optcheck.routes.base import Route

    if name == PLAIN:
        return Route()
    module, _, cls = BUILTIN[name].partition(":")
    route: Route = getattr(importlib.import_module(f"{__name__}.{module}"), cls)()
    return route
