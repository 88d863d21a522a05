"""Names of the families, and whose optimizer is declared to belong to one; imports no NumPy, so that settings may."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_optcheck.calls import near
from pytest_optcheck.errors import OptcheckError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FAMILIES = (
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "amsgrad",
    "asgd",
    "gradient_descent",
    "lamb",
    "lars",
    "lion",
    "muon",
    "nadam",
    "radam",
    "rmsprop",
    "rprop",
    "sgd",
    "signsgd",
    "sparse_adam",
)
"""Every family that has a textbook rule, by the name under which an optimizer is declared to belong to it."""

ON = ("zoo", "mlp")
"""The reference models on which an optimizer is compared with its family's rule: one without feedback from the
parameters to the gradients, where a departure is as large as the rule makes it, and a real one."""


def declared(lines: Iterable[str]) -> Mapping[str, str]:
    """``module:Class = family``, or the declared name of a marked test on the left: name -> family.

    Raises:
        OptcheckError: a line has another form, or names no family.
    """
    found: dict[str, str] = {}
    for line in lines:
        whose, equals, family = (part.strip() for part in line.rpartition("="))
        if not equals or not whose or (":" in whose and not re.fullmatch(r"[\w.]+:[\w.]+", whose)):
            raise OptcheckError(f"optcheck_same_as: {line!r}: expected module:Class = family, as mylib:AdamW2 = adamw")
        if family not in FAMILIES:
            known = ", ".join(FAMILIES)
            raise OptcheckError(
                f"optcheck_same_as: {line!r}: no family is called {family!r}; known are {known}{near(family, FAMILIES)}"
            )
        if whose in found:
            raise OptcheckError(f"optcheck_same_as: {whose!r} is declared twice")
        found[whose] = family
    return found
