"""Where the seconds of a training go: inside the reference model, and inside ``optimizer.step()``."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True)
class Clocks:
    """The seconds of one training so far.

    Attributes:
        model_s: inside forward and backward.
        step_s: inside ``optimizer.step()``, without what a closure spends in the model.
    """

    model_s: float = 0.0
    step_s: float = 0.0

    @contextlib.contextmanager
    def model(self) -> Iterator[None]:
        """Count the block as the model's; a block that raises is not counted."""
        started = time.perf_counter()
        yield
        self.model_s += time.perf_counter() - started

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Count the block as the optimizer's, less what is the model's inside it."""
        model_s, started = self.model_s, time.perf_counter()
        try:
            yield
        finally:
            self.step_s += time.perf_counter() - started - (self.model_s - model_s)
