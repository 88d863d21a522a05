"""What one training leaves behind, and how far two curves lie apart.

Plain frozen data and arithmetic on Python floats; imports the standard library and msgspec only.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

Dtype = Literal["float64", "float32"]
DTYPES: tuple[Dtype, ...] = ("float64", "float32")
"""The dtypes a reference model is trained in, widest first."""

PLAIN = "plain"
"""The route without a detour: whatever the spec says, and ``zero_grad``, ``backward``, ``step``, in every dtype."""

EPS: Mapping[Dtype, float] = {"float64": 2.0**-52, "float32": 2.0**-23}
"""Machine epsilon: the gap between 1 and the next number of that dtype."""

SCALE_FLOOR = 1e-8
"""A reference value below this share of the largest one is not used as a denominator.

A loss that an optimizer has driven to 1e-20 of its start is rounding noise: relative to itself it moves by
100 %, relative to the start by nothing.
"""

BLIND = 1e30
"""The envelope from where on a jittered run was not finite."""

HORIZON = 1e-3
"""The envelope above which a curve no longer tells implementations apart (its step is the horizon)."""


class Needs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an optimizer turned out to need; found by trying when a golden is recorded, and kept in it.

    Attributes:
        first: what the constructor takes first: parameters, (name, parameter) pairs, or the module.
        closure: ``step`` must be given a closure.
        primed: the gradients must be there already when ``step`` is given that closure.
        evaluated: the gradients must be there already, and ``step`` is given a closure that only returns the loss.
        grouped: parameters must come in groups, even if there is only one.
        flag: a key that every parameter group must have, True for tensors of two and more dimensions.
        process_group: a process group must be initialised, if only of this process.
        steps: updates to make, where the workload's would take too long; 0 for all of them.
        create_graph: gradients must be differentiable (second-order rules).
        sparse: gradients must be sparse.
        one_group: it refuses more than one parameter group.
        frozen: tensors it refuses, by name; they stay at their initial values.
    """

    first: Literal["params", "named", "module"] = "params"
    closure: bool = False
    primed: bool = False
    evaluated: bool = False
    grouped: bool = False
    flag: str = ""
    process_group: bool = False
    steps: int = 0
    create_graph: bool = False
    sparse: bool = False
    one_group: bool = False
    frozen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a training ended early.

    Attributes:
        step: the update during which it happened; 0 means while the optimizer was built.
        kind: ``raised`` for an exception, ``non-finite`` for a NaN or an Inf in the loss or a parameter.
        message: one line.
    """

    step: int
    kind: Literal["raised", "non-finite"]
    message: str


@dataclass(frozen=True, slots=True)
class Run:
    """The record of one training.

    Attributes:
        dtype: of parameters and data, ``float64`` or ``float32``.
        device: a torch device, as text.
        losses: ``losses[k]`` is the loss after ``k`` updates (so ``losses[0]`` knows nothing of the
            optimizer); shorter than steps + 1 where the training failed. The last one is over all data.
        norms: tensor name -> updates made -> L2 norm of that parameter, at `norm_steps`.
        failure: what ended the training early, or None.
        route: how the algorithm was run, `PLAIN` or one of `pytest_optcheck.routes.NAMES`.
        broken: name of a law -> how this run broke it, in one line.
        rates: the learning rate of each parameter group after 0, 1, 2, … updates, beyond the last update too;
            empty without schedulers.
        step_s: seconds inside ``optimizer.step()``.
        model_s: seconds inside the reference model's forward and backward.
        train_s: seconds of the whole training.
    """

    dtype: Dtype
    device: str
    losses: tuple[float, ...]
    norms: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    failure: Failure | None = None
    route: str = PLAIN
    broken: Mapping[str, str] = field(default_factory=dict)
    rates: tuple[tuple[float, ...], ...] = ()
    step_s: float = 0.0
    model_s: float = 0.0
    train_s: float = 0.0


def curve_steps(steps: int) -> tuple[int, ...]:
    """Steps at which a golden keeps the loss: all of 0 to 16, about 48 log-spaced ones, and the last."""
    kept = set(range(min(16, steps) + 1)) | {steps}
    if steps > 16:  # noqa: PLR2004 - the 16 of the docstring
        kept |= {round(16 * (steps / 16) ** (i / 48)) for i in range(49)}
    return tuple(sorted(kept))


def norm_steps(steps: int) -> tuple[int, ...]:
    """Steps at which the norm of every tensor is kept: 1, 2, 3, 4, 6, 8, 12, 16, 24, … and the last."""
    kept = {1, 3, steps}
    power = 2
    while power <= steps:
        kept |= {power, min(power * 3 // 2, steps)}
        power *= 2
    return tuple(sorted(step for step in kept if 0 < step <= steps))


@functools.cache  # asked after every update
def restart_update(steps: int) -> int:
    """The update after which routes restart a training of `steps`: mid-run, and the loss after the next is kept."""
    kept = set(curve_steps(steps))
    return max((update for update in range(1, steps // 2 + 1) if update + 1 in kept), default=1)


def route_steps(steps: int) -> tuple[int, ...]:
    """Of `curve_steps` those that a route's own curve keeps: the start, those of the norms, and about the restart."""
    restart = restart_update(steps)
    return tuple(sorted({0, restart, restart + 1, *norm_steps(steps)} & set(curve_steps(steps))))


def scale(reference: float, largest: float) -> float:
    """What deviations from `reference` are relative to: its magnitude, or `SCALE_FLOOR` of the `largest` one.

    1 where the whole reference curve is zero.
    """
    return max(abs(reference), SCALE_FLOOR * largest) or 1.0


def share(reference: float, largest: float) -> float:
    """Of the `largest` value of a curve, how much `scale` is: above 0, at most 1."""
    return scale(reference, largest) / scale(largest, largest)


def deviation(value: float, reference: float, largest: float) -> float:
    """How far `value` lies from `reference`, relative to it.

    Args:
        value: what was observed; a NaN or an Inf is infinitely far from everything, itself included.
        reference: what was expected, finite.
        largest: the largest magnitude of the reference curve, see `SCALE_FLOOR`.

    Returns:
        |value - reference| / `scale`, dimensionless.
    """
    if not math.isfinite(value):
        return math.inf
    return abs(value - reference) / scale(reference, largest)


def same(run: Run, other: Run) -> bool:
    """Whether two runs are equal, bit for bit."""
    return repr((run.losses, run.norms)) == repr((other.losses, other.norms))  # so a NaN equals itself
