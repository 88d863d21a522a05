"""One optimizer on one list of tensors: updated under one meter after another, resumed, and taken apart."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pytest_optcheck import building, schedules
from pytest_optcheck.cost.reachable import of_tensor, size, storages
from pytest_optcheck.routes.base import rows_only
from pytest_optcheck.schedules import Schedules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import UntypedStorage

    from pytest_optcheck.building import Assembly
    from pytest_optcheck.cost.lists import TensorList
    from pytest_optcheck.cost.meters import Meter
    from pytest_optcheck.curves import Needs

AnyMeter = TypeVar("AnyMeter", bound="Meter")

PRESENT = 4
"""Of so many rows one is in a sparse gradient: few, or the whole tensor would be no more work."""

LOSS = 1.0
"""What schedulers are told that the loss is, every time: one that waits for a plateau finds it."""


class Subject:
    """An optimizer with its schedulers on some tensors of a list.

    Attributes:
        optimizer: the optimizer.
        schedules: its schedulers, stepped as part of every update.
        device: of the tensors, a torch device as text.
        updates: made so far.
        gradients_held: whether, after any update, the memory of a gradient outlived ``zero_grad``.
    """

    def __init__(
        self, assembly: Assembly, tensors: TensorList, needs: Needs, device: str, names: Sequence[str]
    ) -> None:
        """Build the optimizer.

        Args:
            assembly: builds it.
            tensors: the list; its tensors are made anew, of float32, which every optimizer takes.
            needs: of the optimizer.
            device: of the tensors.
            names: of those that are trained; the others are frozen and not handed over.
        """
        self.device = device
        self.updates = 0
        self.gradients_held = False
        self._made_of = (assembly, tensors, needs, device, names)
        self._tensors, self._names, self._needs = tensors, names, needs
        self._problem = tensors.problem(torch.float32, device)
        self._problem.create_graph = needs.create_graph
        self._left: list[Tensor] = []
        for name, parameter in self._problem.parameters.items():
            parameter.requires_grad_(name in names)
        groups = building.plan(tensors, names, needs)
        built = building.build(assembly, self._problem.parameters, groups, needs)
        self.optimizer, made = schedules.split(built)
        _wrap_steps(type(self.optimizer))
        self.schedules = Schedules((*made, *assembly.attach(self.optimizer)))
        if callable(getattr(self.optimizer, "train", None)):
            self.optimizer.train()

    @property
    def parameters(self) -> list[Tensor]:
        """What the optimizer was given."""
        return [self._problem.parameters[name] for name in self._names]

    @property
    def parameter_bytes(self) -> int:
        """Bytes of what it was given."""
        return sum(parameter.untyped_storage().nbytes() for parameter in self.parameters)

    @property
    def state_bytes(self) -> int:
        """Bytes of memory that optimizer and schedulers keep besides what the optimizer was given."""
        return size(self._state())

    def update(self, meter: AnyMeter, *, closure: bool = False) -> AnyMeter:
        """One update, schedulers included.

        Args:
            meter: sees it, but not how the gradients come about.
            closure: give ``step`` a closure although none is needed.

        Returns:
            `meter`.
        """
        step = partial(self.optimizer.step, *self._arguments(meter, closure=closure))
        meter.run([step, partial(self.schedules.step, LOSS)] if self.schedules.schedulers else [step])
        self.updates += 1
        self._clear()
        return meter

    def halve_rates(self) -> None:
        """Give every group half its learning rate, as a scheduler would: a tensor is written into."""
        for group in getattr(self.optimizer, "param_groups", ()):
            lr = group.get("lr")
            if isinstance(lr, Tensor):
                lr.mul_(0.5)
            elif lr is not None:
                group["lr"] = lr * 0.5

    def move(self) -> None:
        """Give every parameter other memory, and never the same twice."""
        for parameter in self.parameters:
            self._left.append(parameter.data)
            parameter.data = parameter.data.clone()

    def resume(self, meter: Meter) -> Subject:
        """Another one that goes on with the state of this one, as if from a file; `meter` sees the optimizer's load."""
        state = pytree.tree_map_only(Tensor, torch.clone, self.optimizer.state_dict())
        fresh = Subject(*self._made_of)
        for new, old in zip(fresh.parameters, self.parameters, strict=True):
            new.data.copy_(old.data)
        meter.run([partial(fresh.optimizer.load_state_dict, state)])
        fresh.schedules.load_state_dict(self.schedules.state_dict())
        fresh.updates = self.updates
        return fresh

    def take_apart(self) -> tuple[str, ...]:
        """Drop everything, and say what is still there; nothing else can be asked of it afterwards.

        Gradients are there if they ever outlived an update.
        """
        watched = {
            "optimizer": _weak([self.optimizer]),
            "schedulers": _weak(self.schedules.schedulers),
            "state": _weak(self._state().values()),
            "parameters": _weak(self._memory(self.parameters).values()),
        }
        del self.optimizer, self.schedules, self._problem, self._left
        alive = [what for what, references in watched.items() if any(found() is not None for found in references)]
        return ("gradients", *alive) if self.gradients_held else tuple(alive)

    def _arguments(self, meter: Meter, *, closure: bool) -> tuple[Callable[[], Tensor], ...]:
        """What ``step`` is given; the gradients are there unless a closure makes them."""

        def evaluate() -> Tensor:
            with meter.aside():
                return self._evaluate()

        if self._needs.evaluated:
            loss = self._evaluate()

            def tell() -> Tensor:
                with meter.aside():
                    return loss

            return (tell,)
        if self._needs.closure or closure:
            if self._needs.primed:
                self._evaluate()
            return (evaluate,)
        if self._needs.create_graph:
            self._evaluate()
        else:
            self._tensors.give(self._problem, self._names, self.updates)
            self._make_sparse()
        return ()

    def _evaluate(self) -> Tensor:
        """The objective of this update, its gradients left with the parameters."""
        if self._needs.create_graph:
            for parameter in self.parameters:
                parameter.grad = None
            with torch.enable_grad():
                loss = self._tensors.backward(self._problem, self.updates % self._tensors.steps)
        else:
            loss = self._tensors.evaluate(self._problem, self._names, self.updates)
        self._make_sparse()
        return loss

    def _make_sparse(self) -> None:
        for parameter in self.parameters if self._needs.sparse else ():
            if parameter.grad is not None and parameter.dim():
                absent = torch.arange(len(parameter.grad), device=parameter.device) % PRESENT != 0
                parameter.grad[absent] = 0.0
                parameter.grad = rows_only(parameter.grad)

    def _clear(self) -> None:
        """Forget the gradients, and see whether that frees them."""
        memory = _weak(self._memory([p.grad for p in self.parameters if p.grad is not None]).values())
        self.optimizer.zero_grad()
        for parameter in self.parameters:
            parameter.grad = None
        self.gradients_held |= any(found() is not None for found in memory)

    def _state(self) -> dict[int, UntypedStorage]:
        """Memory of all that optimizer and schedulers lead to, by address, but for the parameters'."""
        own = self._memory(self.parameters)
        found = storages(self.optimizer, *self.schedules.schedulers)
        return {address: storage for address, storage in found.items() if address not in own}

    @staticmethod
    def _memory(tensors: Iterable[Tensor]) -> dict[int, UntypedStorage]:
        return {storage._cdata: storage for tensor in tensors for storage in of_tensor(tensor)}  # noqa: SLF001 - its address


def _wrap_steps(kind: type) -> None:
    """Have torch wrap the ``step`` of every class that `kind` derives from.

    It does so when the first instance of a class is made, so that a step which calls its parent's would call more
    functions once an optimizer of that class was made.
    """
    for base in kind.__mro__:
        if issubclass(base, torch.optim.Optimizer) and "step" in vars(base) and base is not torch.optim.Optimizer:
            object.__new__(base)._patch_step_function()  # noqa: SLF001 - what its constructor calls


def _weak(values: Iterable[Any]) -> list[weakref.ref[Any]]:
    """Weak references to those of `values` that can have one."""
    found = []
    for value in values:
        try:
            found.append(weakref.ref(value))
        except TypeError:  # a class with slots
            continue
    return found
