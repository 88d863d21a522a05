"""Laws: what must hold in every training, with no golden to compare with.

A law is watched at a few updates of a training that runs anyway. What an optimizer broke when it was recorded
is stored and never held against it; a law that it breaks newly is a failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_optcheck.laws.base import Snapshot, settings, values
from pytest_optcheck.laws.watched import WATCHED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_optcheck.laws.base import Law
    from pytest_optcheck.training import Training

OF_ROUTES: Mapping[str, str] = {
    "closure_once": "step calls the closure once (route closure)",
    "closure_loss": "step returns the loss that the closure returned (route closure)",
    "history_kept": "a step that is said to be differentiable is (route differentiable)",
    "inf_step_skipped": "a step whose gradients are not finite moves nothing (route scaled)",
    "loaded_dict_untouched": "load_state_dict leaves the dict it is given as it is (routes that resume)",
    "state_kept": "keys, shapes, dtypes and devices of the state survive a load (route resume)",
    "weights_only": "a state dict can be loaded with weights_only=True (routes that resume)",
    "switch_exact": "eval() and train() leave every parameter bit for bit as it was (optimizers that have both)",
    "repeats": "two runs are equal, bit for bit (route plain)",
}
"""Laws that a route, or whoever runs one twice, checks itself."""

NAMES: tuple[str, ...] = (*(law.name for law in WATCHED), *OF_ROUTES)
"""Every law."""


def watched_updates(steps: int) -> frozenset[int]:
    """Updates that are watched: 1 to 4, two in mid-run, and the last."""
    return frozenset((1, 2, 3, 4, steps // 2, steps // 2 + 1, steps))


class Laws:
    """The laws over one training, and how it broke them."""

    def __init__(self, steps: int, *, watch: bool) -> None:
        """`watch` turns the laws of `WATCHED` on; the routes' own are always on."""
        self.broken: dict[str, str] = {}
        self._laws = [law() for law in WATCHED] if watch else []
        self._updates = watched_updates(steps) if watch else frozenset()

    def breaks(self, law: str, how: str) -> None:
        """Keep the first breach of each law."""
        self.broken.setdefault(law, how)

    def before(self, training: Training) -> Snapshot | None:
        """Copies, if the update to come is watched."""
        if training.updates + 1 not in self._updates:
            return None
        gradients = {name: p.grad.detach().clone() for name, p in training.tensors.items() if p.grad is not None}
        return Snapshot(values(training), gradients, settings(training))

    def after(self, training: Training, before: Snapshot) -> None:
        """Look at the update that was made."""
        for law in self._laws:
            self._keep(law, law.update(training, before))

    def end(self, training: Training) -> None:
        """Look at the whole."""
        for law in self._laws:
            self._keep(law, law.end(training))

    def _keep(self, law: Law, how: str | None) -> None:
        if how:
            self.breaks(law.name, how)
