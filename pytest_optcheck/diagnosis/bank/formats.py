"""Numbers of fewer bits: arrays rounded to them, and back in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_optcheck.oracles.muon import to_bfloat16

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_optcheck.oracles.base import Array


def to_float16(values: Array) -> Array:
    """`values` rounded to the nearest number of 11 significant bits, by way of float32; infinity above 65504."""
    with np.errstate(over="ignore"):
        return to_float32(values).astype(np.float16).astype(np.float64)


def to_float32(values: Array) -> Array:
    """`values` rounded to the nearest number of 24 significant bits."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float32).astype(np.float64)


FORMATS: Mapping[str, Callable[[Array], Array]] = {
    "bfloat16": to_bfloat16,
    "float16": to_float16,
    "float32": to_float32,
}
"""By name, narrowest first."""
