"""Textbook update rules in NumPy float64, each as an optimizer: ``pytest_optcheck.oracles:Adam(lr=0.001)``.

The optimizers are in `optimizers`, and imported when they are asked for, because they need torch; the rules they run
are in the module of their family (``pytest_optcheck.oracles.adam.Adam``) and need NumPy alone.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ASGD",
    "LAMB",
    "LARS",
    "SGD",
    "AMSGrad",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "GradientDescent",
    "Lion",
    "Muon",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SignSGD",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - an optimizer class
    """The optimizer of that name."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pytest_optcheck.oracles import optimizers

    return getattr(optimizers, name)
