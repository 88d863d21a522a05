"""The data sets inside the package: loaded from disk, checked against their SHA-256."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_optcheck.errors import OptcheckError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHA256 = {
    "breast_cancer": "12d0805478d6a175c09337d235a7e61ac48d441f60eaea429e7bf85f7669c286",
    "diabetes": "fc8a039876df93040630bf8cd5aafb812d23427c1454ebdc90fafe8bdde1bc3c",
    "digits": "46baff6bf49e0dc57dfb40a30abc31d750f1c22fb23afbdefde273f6cb3e91e5",
    "karate": "a4dc2257663b92d082d03811601a2be3ff9f77a5b5184c7ffcbcf4f6929e9e0e",
    "pretrained": "7a68a7a8c2793e61217c9a0efd0607649b5959c627ddc99cba65f88c3ae8dfb7",
}
"""Digest of each file under ``data/``; sources and licences stand in ``data/README.md``."""


def load(name: str) -> dict[str, NDArray[Any]]:
    """Arrays of one data set, as its source gives them, by name.

    Most have ``features`` (examples × …) and ``target`` (examples); ``karate`` has ``edges`` (78 × 2) and
    ``faction`` (34), ``pretrained`` has weights.

    Raises:
        OptcheckError: the installed file is not the one that was shipped.
    """
    raw = (files(__package__) / "data" / f"{name}.npz").read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if found != SHA256[name]:
        expected = SHA256[name][:12]
        raise OptcheckError(f"data set {name}: SHA-256 is {found[:12]}…, not {expected}…; reinstall pytest-optcheck")
    with np.load(BytesIO(raw), allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


def breast_cancer() -> dict[str, NDArray[np.float64]]:
    """The breast-cancer data to classify: ``x`` (569 × 30) standardised, ``y`` (569) 0 or 1."""
    raw = load("breast_cancer")
    return {"x": standardised(raw["features"]), "y": raw["target"].astype(np.float64)}


def standardised(values: NDArray[Any]) -> NDArray[np.float64]:
    """Columns with mean 0 and variance 1, rounded to a grid of 2**-20.

    The grid makes the result the same bits on every machine, although the order of a sum is not.
    """
    scaled = (values - values.mean(axis=0)) / values.std(axis=0)
    rounded: NDArray[np.float64] = np.round(scaled * 2.0**20) / 2.0**20
    return rounded
