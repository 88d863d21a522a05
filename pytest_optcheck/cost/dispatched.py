"""The meter of dispatch: operations by name, syncs, and the memory that operations allocate for their results."""

from __future__ import annotations

import functools
import itertools
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_optcheck.cost.figures import Counts
from pytest_optcheck.cost.meters import EVALUATION, Aside, ordered
from pytest_optcheck.cost.reachable import of_tensor

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Iterator, Sequence

    from torch._ops import OpOverload

WAITED_FOR = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
"""Tags of operations whose result, or its shape, the host has to know before it can go on."""


class Dispatched(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves it untyped
    """Counts operations as they are dispatched, and the memory that they allocate for their results.

    Memory counts from the operation that returns it until its last tensor is gone; what an operation needs inside
    itself, and what is allocated without one, is not seen. Syncs are found by torch's own tags, and are copies from
    another device to the CPU; ``tolist`` on the CPU dispatches nothing (see `Calls`). Where the step runs on another
    device, nobody waits for tensors of the CPU, as step counters are.

    Attributes:
        alive_bytes: memory allocated so far and not yet freed.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled under a meter; telling the compiler so at every operation costs a third."""
        return False

    def __init__(self, device: str = "cpu") -> None:
        """Nothing is counted yet; `device` is that of the step."""
        super().__init__()  # type: ignore[no-untyped-call] # torch leaves it untyped
        self.alive_bytes = 0
        self._looks = True
        self._on_cpu = device == "cpu"
        self._ops: Counter[OpOverload] = Counter()
        self._evaluations = self._syncs = 0
        self._alive: dict[int, _Memory] = {}
        self._changes: list[tuple[int, int]] = []

    def run(self, actions: Sequence[Callable[[], object]]) -> None:
        """Call one after the other under the meter."""
        with self:
            for action in actions:
                action()

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """Count an evaluation, and nothing of what happens in it."""
        self._evaluations += 1
        return Aside(self._look)

    def _look(self, *, on: bool) -> None:
        self._looks = on

    def counts(self) -> Counts:
        """What was counted. Memory is no longer watched then: a `Calls` would count the call that says it is gone."""
        ops = Counter({_name(func): count for func, count in self._ops.items()})
        ops[EVALUATION] = self._evaluations
        new_bytes = sum(change for _, change in self._changes if change > 0)
        peak_bytes = self._transient_peak()
        self._alive.clear()
        return Counts(ordered(ops), syncs=self._syncs, new_bytes=new_bytes, peak_bytes=peak_bytes)

    def _transient_peak(self) -> int:
        """The most memory alive at once of what is gone by now: what stays is the same in whatever order it came."""
        staying = {memory.number for memory in self._alive.values()}
        changes = (change for number, change in self._changes if number not in staying)
        return max(itertools.accumulate(changes), default=0)

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:  # noqa: ANN401 - whatever the operation returns
        """Run the operation, then count it."""
        del types
        result = func(*args, **kwargs) if kwargs else func(*args)
        plan = _plan(func)
        if not (self._looks and plan.counted):
            return result
        self._ops[func] += 1
        if plan.waits is not None and (self._on_cpu or _elsewhere(args)) and plan.waits(args, result):
            self._syncs += 1
        if plan.fresh:
            self._keep(result)
        return result

    def _keep(self, result: object) -> None:
        """Count the memory of `result` until it is gone."""
        for tensor in _tensors(result):
            for storage in of_tensor(tensor):
                address = storage._cdata  # noqa: SLF001 - its address
                if address not in self._alive:
                    memory = _Memory(storage, self._gone)
                    memory.address, memory.number, memory.size = address, len(self._changes), storage.nbytes()
                    self._alive[address] = memory
                    self._changes.append((memory.number, memory.size))
                    self.alive_bytes += memory.size

    def _gone(self, memory: _Memory) -> None:
        del self._alive[memory.address]
        self._changes.append((memory.number, -memory.size))
        self.alive_bytes -= memory.size


class _Memory(weakref.ref[torch.UntypedStorage]):
    """A weak reference that knows, when it dies, what memory that was."""

    __slots__ = ("address", "number", "size")
    address: int
    number: int
    size: int


class _Plan(NamedTuple):
    """What a meter has to know of one operation.

    Attributes:
        counted: whether it is one; the profiler's own marks are not.
        fresh: whether it returns memory of its own, rather than views or what it wrote.
        waits: whether the host waits, from arguments and result; None where it never does.
    """

    counted: bool
    fresh: bool
    waits: Callable[[Sequence[Any], object], bool] | None


@functools.cache
def _plan(func: OpOverload) -> _Plan:
    name = func.overloadpacket.__name__
    fresh = any(returned.alias_info is None for returned in func._schema.returns)  # noqa: SLF001 - says what is fresh
    waits: Callable[[Sequence[Any], object], bool] | None = None
    if name == "index":  # tagged for the sake of its masks
        waits = _takes_mask
    elif any(tag in func.tags for tag in WAITED_FOR):
        waits = _always
    elif name in ("_to_copy", "copy_"):
        waits = _comes_to_host
    return _Plan(func.namespace != "profiler", fresh, waits)


def _elsewhere(args: Sequence[Any]) -> bool:
    """Whether any of the tensors is on another device than the CPU."""
    return any(tensor.device.type != "cpu" for tensor in _tensors(args))


def _always(args: Sequence[Any], result: object) -> bool:
    del args, result
    return True


def _takes_mask(args: Sequence[Any], result: object) -> bool:
    del result
    return any(index.dtype in (torch.bool, torch.uint8) for index in _tensors(args[1]))


def _comes_to_host(args: Sequence[Any], result: object) -> bool:
    source = args[-1] if isinstance(args[-1], Tensor) else args[0]  # copy_(target, source), _to_copy(source)
    return isinstance(result, Tensor) and result.device.type == "cpu" != source.device.type


def _tensors(value: object) -> Iterator[Tensor]:
    """The tensors among arguments or results."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _name(func: OpOverload) -> str:
    """As ``mul_.Tensor``; with its namespace where that is not torch's own."""
    name = func.overloadpacket.__name__
    if func._overloadname != "default":  # noqa: SLF001 - torch's name for it
        name = f"{name}.{func._overloadname}"  # noqa: SLF001 - ditto
    return name if func.namespace == "aten" else f"{func.namespace}::{name}"
