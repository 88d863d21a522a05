"""What a step was measured to cost: plain data, as the golden keeps it.

Imports the standard library and msgspec only.
"""

from __future__ import annotations

import sys
from importlib.metadata import version

import msgspec

LISTS = (ZOO, TEN, MANY) = ("zoo", "ten", "many")
"""The lists of tensors that steps are counted on, see `cost.lists`."""


class Counts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one update cost.

    Attributes:
        ops: dispatched operations by name, as ``mul_.Tensor``; ``closure`` is one evaluation of the objective, whose
            own operations are not counted.
        kernels: operations by name at every depth, so also those on single tensors into which a ``_foreach_`` one
            falls apart; empty where they were not taken.
        calls: Python function calls in the step; 0 where they were not taken.
        schedule_calls: those in the steps of its schedulers.
        syncs: operations whose result the host had to wait for; of a GPU also those that torch's
            synchronisation debug mode warns of.
        new_bytes: bytes of all memory that dispatched operations allocated, freed since or not.
        peak_bytes: the most such memory alive at once, of what the update leaves nothing of; of a GPU, ``warm`` and
            ``scheduled``, the most that its allocator gave out at once beyond what was there before.
    """

    ops: dict[str, int]
    kernels: dict[str, int] = {}
    calls: int = 0
    schedule_calls: int = 0
    syncs: int = 0
    new_bytes: int = 0
    peak_bytes: int = 0


class ListCost(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one optimizer cost on one list of tensors.

    Attributes:
        moments: by moment. ``first``; ``warm``; ``scheduled``, with another learning rate than the update before;
            ``closure``, called with one that is not needed; ``loading``, which is ``load_state_dict`` of fresh
            objects; ``resumed``, their first update after it.
        parameter_bytes: of the tensors handed over.
        tensors: how many were handed over.
        state_bytes: memory kept by the optimizer after the warm update, beyond parameters and gradients.
        grown_bytes: memory gained by updates after the warm one (see `counting.count`); 0 where none were made.
        held: what outlived the last reference to it with the collector off, of ``gradients`` (after
            ``zero_grad``), ``optimizer``, ``schedulers``, ``state`` and ``parameters``.
        recompiles: of a compiled step under changing learning rates; None where nothing was compiled.
    """

    moments: dict[str, Counts]
    parameter_bytes: int
    state_bytes: int
    tensors: int = 0
    grown_bytes: int = 0
    held: tuple[str, ...] = ()
    recompiles: int | None = None


class Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The counted cost of one optimizer.

    Attributes:
        lists: by name of the list of tensors; one that the optimizer refuses is absent.
    """

    lists: dict[str, ListCost]


class Timing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The time of a step against that of a control step, on one machine.

    Attributes:
        fingerprint: of the machine and the versions it was taken with; elsewhere it says nothing.
        ratio: step time ÷ the control's, the median over blocks.
        spread: of the blocks' log ratios.
        blocks: how many there were.
        control_spread: of the log ratios of control against control in the same blocks.
    """

    fingerprint: dict[str, str]
    ratio: float
    spread: float
    blocks: int
    control_spread: float


def version_key(device: str = "cpu") -> str:
    """What counts depend on besides the code under test, as ``torch 2.13, python 3.11``.

    Elsewhere than on the CPU with the type of the device, as ``torch 2.13, python 3.11, cuda``: there torch takes
    other implementations by default.
    """
    torch = ".".join(version("torch").split(".")[:2])
    kind = device.partition(":")[0]
    key = f"torch {torch}, python {sys.version_info.major}.{sys.version_info.minor}"
    return key if kind == "cpu" else f"{key}, {kind}"
