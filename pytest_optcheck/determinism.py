"""One thread, fixed seeds, deterministic algorithms for a training; the caller's settings come back after."""

from __future__ import annotations

import contextlib
import os
import random
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SEED = 0
"""What Python's, NumPy's and torch's global streams are seeded with, for optimizers that draw numbers."""


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Run the block with every source of variation that torch lets us hold held, then restore all of it.

    Seeds the global random streams, sets one CPU thread, float32 as default dtype, deterministic algorithms,
    gradients enabled, no TF32 and no cuDNN autotuning.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, when cuBLAS starts
    with contextlib.ExitStack() as stack:
        for restore in _snapshots():
            stack.callback(restore)
        stack.enter_context(torch.random.fork_rng())  # all devices
        stack.enter_context(torch.enable_grad())
        random.seed(SEED)
        np.random.seed(SEED)  # noqa: NPY002 - the global stream is the point: a foreign optimizer may draw from it
        torch.manual_seed(SEED)
        torch.set_num_threads(1)
        torch.set_default_dtype(torch.float32)
        torch.set_deterministic_debug_mode("warn")  # use_deterministic_algorithms() would import the compiler: 1.5 s
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        yield


def _snapshots() -> list[Callable[[], None]]:
    """One restorer for each global setting that `deterministic` changes."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - see deterministic
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    mode = torch.get_deterministic_debug_mode()
    flags = (cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32)

    def restore_flags() -> None:
        cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = flags

    return [
        lambda: random.setstate(python),
        lambda: np.random.set_state(numpy),  # noqa: NPY002 - see deterministic
        lambda: torch.set_num_threads(threads),
        lambda: torch.set_default_dtype(dtype),
        lambda: torch.set_deterministic_debug_mode(mode),
        restore_flags,
    ]
