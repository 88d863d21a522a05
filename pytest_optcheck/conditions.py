"""How to train, apart from what is trained: dtype, device, route, jitter, what the optimizer needs.

Plain frozen data; imports neither torch nor pytest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_optcheck.curves import PLAIN, Needs

if TYPE_CHECKING:
    from pytest_optcheck.curves import Dtype
    from pytest_optcheck.workloads.base import Workload

NOTHING = Needs()
"""An optimizer in textbook form: dense gradients, any number of groups, ``step()`` without arguments."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """How to train, apart from what is trained.

    Attributes:
        dtype: ``float64`` or ``float32``.
        device: a torch device, as text.
        needs: what the optimizer needs.
        steps: updates to make; None takes the workload's, or the fewer that a slow optimizer has time for.
        lr_factor: multiplies the learning rate of every group.
        jitter: seed of the rounding jitter; None trains without.
        ulps: amplitude of the jitter, in units of the last place.
        route: one of `routes.NAMES`, or the plain one.
        watch: whether the laws are watched.
        optional: what the route ``older_state`` leaves out of a state dict.
    """

    dtype: Dtype = "float64"
    device: str = "cpu"
    needs: Needs = NOTHING
    steps: int | None = None
    lr_factor: float = 1.0
    jitter: int | None = None
    ulps: float = 1.0
    route: str = PLAIN
    watch: bool = False
    optional: tuple[str, ...] = ()

    def updates(self, workload: Workload) -> int:
        """How many updates are made."""
        return (self.needs.steps or workload.steps) if self.steps is None else self.steps
