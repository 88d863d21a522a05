"""What a training asks of the whole process: one thread, fixed seeds, deterministic algorithms, a process group.

The caller's settings come back after.
"""

from __future__ import annotations

import contextlib
import os
import random
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 0
"""What the global random streams are seeded with, for optimizers that draw numbers."""


CUBLAS = "CUBLAS_WORKSPACE_CONFIG"

FLOAT32_UNITS = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")
"""Parts of torch.backends that may be told to compute float32 in fewer bits."""


@contextlib.contextmanager
def deterministic(device: str = "cpu") -> Iterator[None]:
    """Run the block with every source of variation that torch lets us hold held, then restore all of it.

    Seeds the random streams of Python, NumPy, torch on the CPU and on `device`; sets one CPU thread, float32 as
    default dtype, deterministic algorithms, gradients enabled, full float32 precision and no cuDNN autotuning.
    """
    gpus = [torch.device(device).index or 0] if device.startswith("cuda") else []
    with contextlib.ExitStack() as stack:
        if gpus and CUBLAS not in os.environ:  # deterministic matrix products on a GPU ask for it
            os.environ[CUBLAS] = ":4096:8"
            stack.callback(os.environ.pop, CUBLAS, None)
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002 - the global stream is the point
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        stack.callback(torch.set_deterministic_debug_mode, torch.get_deterministic_debug_mode())
        stack.enter_context(torch.random.fork_rng(devices=gpus))
        stack.enter_context(torch.enable_grad())
        for owner, name, value in _flags():
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        random.seed(SEED)
        np.random.seed(SEED)  # noqa: NPY002 - a foreign optimizer may draw from it
        torch.default_generator.manual_seed(SEED)  # torch.manual_seed would reseed GPUs that are not ours
        for gpu in gpus:
            torch.cuda.default_generators[gpu].manual_seed(SEED)
        torch.set_num_threads(1)
        torch.set_default_dtype(torch.float32)
        torch.set_deterministic_debug_mode("warn")  # use_deterministic_algorithms() would import the compiler: 1.5 s
        yield


@contextlib.contextmanager
def process_group(*, needed: bool) -> Iterator[None]:
    """A process group of this process alone, where one is needed and there is none."""
    distributed = torch.distributed
    if not needed or distributed.is_initialized():
        yield
        return
    store = distributed.HashStore()  # type: ignore[attr-defined] # torch exports it and does not say so
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _flags() -> list[tuple[object, str, object]]:
    """Backend settings to hold, as (owner, attribute, value)."""
    backends = torch.backends
    held: list[tuple[object, str, object]] = [(backends.cudnn, "benchmark", False)]
    if hasattr(backends.cuda.matmul, "fp32_precision"):  # torch 2.9 and later; allow_tf32 may not be mixed with it
        return held + [(attrgetter(unit)(backends), "fp32_precision", "ieee") for unit in FLOAT32_UNITS]
    return [*held, (backends.cudnn, "allow_tf32", False), (backends.cuda.matmul, "allow_tf32", False)]
