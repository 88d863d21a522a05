"""Meters: what a meter is, operations at every depth, Python calls, a device's own count. Exact, and one at a time.

Each meter runs callables and looks at them alone: what a closure does for the reference model is put ``aside``.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch._C._autograd import _disable_profiler_legacy, _enable_profiler_legacy
from torch._C._profiler import ProfilerConfig, ProfilerState, _ExperimentalConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

EVALUATION = "closure"
"""What one evaluation of the objective is counted as; its own operations are the model's."""

ASIDE = "pytest_optcheck aside"
"""What the profiler sees around what is not counted."""

_OWN = globals()
"""Of the functions here, whose calls are not the step's."""


class Meter(Protocol):
    """Looks at callables while they run."""

    def run(self, actions: Sequence[Callable[[], object]]) -> None:
        """Call one after the other under the meter."""

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """Stop looking for a while: for an evaluation of the objective, from inside a callable."""


class Unmetered:
    """Looks at nothing."""

    def run(self, actions: Sequence[Callable[[], object]]) -> None:
        """Call one after the other."""
        for action in actions:
            action()

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """Nothing to stop."""
        return contextlib.nullcontext()


class Kernels:
    """Counts operations at every depth, as the profiler's own observers see them.

    By the profiler's older interface: the newer one prints to the terminal in builds with trace points, and takes six
    times as long to tell what it saw (2,601 operations: 136 ms against 24). On a GPU these are the operations that
    the host starts.

    Attributes:
        counted: by name.
    """

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self.counted: dict[str, int] = {}

    def run(self, actions: Sequence[Callable[[], object]]) -> None:
        """Call one after the other under the profiler."""
        _enable_profiler_legacy(_configuration())
        try:
            for action in actions:
                action()
        finally:
            threads = _disable_profiler_legacy()
        self.counted = ordered(Counter(name for events in threads for name in _begun(events)))

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """Mark what is not to be counted."""
        return torch.autograd.profiler.record_function(ASIDE)


class Calls:
    """Counts calls of Python functions, and where the step runs on the CPU the syncs that dispatch nothing.

    Attributes:
        counted: calls.
        first: those of them in the first action of a run.
        syncs: calls of ``tolist``.
    """

    def __init__(self, device: str = "cpu") -> None:
        """Nothing is counted yet; `device` is that of the step."""
        self._on_cpu = device == "cpu"
        self.counted = 0
        self.first = 0
        self.syncs = 0

    def run(self, actions: Sequence[Callable[[], object]]) -> None:
        """Call one after the other; whoever was profiling goes on afterwards."""
        former = sys.getprofile()
        sys.setprofile(self._event)
        try:
            for action in actions:
                action()
                self.first = self.first or self.counted
        finally:
            if former is None or callable(former):
                sys.setprofile(former)
            else:  # cProfile's own
                former.enable()

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """Stop counting."""
        return Aside(self._look)

    def _look(self, *, on: bool) -> None:
        sys.setprofile(self._event if on else None)

    def _event(self, frame: FrameType, event: str, argument: Any) -> None:  # noqa: ANN401 - depends on the event
        if event == "call":
            self.counted += frame.f_globals is not _OWN
        elif self._on_cpu and event == "c_call" and argument.__name__ == "tolist":
            tensor = getattr(argument, "__self__", None)
            self.syncs += isinstance(tensor, Tensor) and tensor.device.type == "cpu"


class ByDevice:
    """What a device itself counts, an objective that the step evaluates included.

    Attributes:
        counted: by the device; None where it keeps no count.
    """

    def __init__(self, ask: Callable[[Callable[[], object]], int | None]) -> None:
        """`ask` does the work it is given and says what was counted, as `Clock.peak_bytes` and `Clock.syncs` do."""
        self._ask = ask
        self.counted: int | None = None

    def run(self, actions: Sequence[Callable[[], object]]) -> None:
        """Call one after the other as one piece of work."""
        self.counted = self._ask(functools.partial(Unmetered().run, actions))

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """A device does not look away."""
        return contextlib.nullcontext()


class Aside(contextlib.AbstractContextManager[None]):
    """A meter looks away inside the block; a class, because a generator would be seen by it."""

    def __init__(self, look: Callable[..., None]) -> None:
        """`look` takes the keyword ``on``."""
        self._look = look

    def __enter__(self) -> None:
        """Look away."""
        self._look(on=False)

    def __exit__(self, *raised: object) -> None:
        """Look again."""
        self._look(on=True)


@functools.cache
def _configuration() -> ProfilerConfig:
    """No shapes, no memory, no stacks, no flops, no modules: names alone."""
    return ProfilerConfig(ProfilerState.CPU, False, False, False, False, False, _ExperimentalConfig())


def _begun(events: Sequence[Any]) -> Iterator[str]:
    """Names of the operations that one thread began, but for those that were put aside."""
    depth = aside = 0
    for event in events:
        kind = event.kind()
        if kind == "push":
            depth += 1
            name = event.name()
            if not aside and name == ASIDE:
                aside = depth
            elif not aside and event.scope() == 0:  # an operation, not a range that someone named
                yield name.removeprefix("aten::")
        elif kind == "pop":
            if aside == depth:
                aside = 0
            depth -= 1


def ordered(counted: Counter[str]) -> dict[str, int]:
    """By name, without what was not there."""
    return {name: counted[name] for name in sorted(counted) if counted[name]}
