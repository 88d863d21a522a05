"""Ways to break an optimizer in memory: one that was built as usual gets an adapter around it, which alters its step.

`BrokenSpec` is a spec of such an optimizer under the name of the real one, so that the real one's golden judges it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from pytest_optcheck import schedules
from pytest_optcheck.adapters import Adapter
from pytest_optcheck.errors import FOREIGN, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from pytest_optcheck.schedules import Attach
    from pytest_optcheck.specs import Factory, OptimizerSpec

Closure = Callable[[], Any]

Rebuild = Callable[[], Any]
"""Builds the optimizer once more, on the same tensors."""


@dataclass(slots=True)
class Trace:
    """What was met while an optimizer was being broken.

    Attributes:
        found: there was something to break.
        trouble: why it could not be broken, in one line; empty where it could.
    """

    found: bool = False
    trouble: str = ""


class Untouched(Adapter):
    """Nothing is broken: what no gate may mind. The others derive from it."""

    def __init__(self, wrapped: Any, rebuild: Rebuild, trace: Trace) -> None:  # noqa: ANN401 - see Adapter
        """Put it around an optimizer.

        Args:
            wrapped: the optimizer.
            rebuild: builds it once more.
            trace: is told what is met.
        """
        super().__init__(wrapped)
        self.rebuild, self.trace = rebuild, trace

    def step(self, *closure: Closure) -> Any:  # noqa: ANN401 - what the optimizer returns
        """One step as it is."""
        return self.wrapped.step(*closure)


class OtherRate(Untouched):
    """The learning rate of every group is multiplied during the step."""

    def __init__(self, wrapped: Any, rebuild: Rebuild, trace: Trace, factor: float) -> None:  # noqa: ANN401 - see Untouched
        """`factor` multiplies it."""
        super().__init__(wrapped, rebuild, trace)
        self.factor = factor

    def step(self, *closure: Closure) -> Any:  # noqa: ANN401 - what the optimizer returns
        """One step under other learning rates, which come back after it: schedulers know nothing of them."""
        kept = [(group, group["lr"]) for group in _groups(self.wrapped) if group.get("lr") is not None]
        self.trace.found |= bool(kept)
        for group, lr in kept:
            group["lr"] = lr * self.factor
        try:
            return super().step(*closure)
        finally:
            for group, lr in kept:
                group["lr"] = lr


class Skips(Untouched):
    """One tensor is not updated: the last of those that the first step moves which moves any."""

    skipped: Tensor | None = None

    def step(self, *closure: Closure) -> Any:  # noqa: ANN401 - what the optimizer returns
        """One step, after which the tensor is where it was."""
        watched = _tensors(self.wrapped) if self.skipped is None else [self.skipped]
        before = [tensor.detach().clone() for tensor in watched]
        returned = super().step(*closure)
        moved = [pair for pair in zip(watched, before, strict=True) if not torch.equal(*pair)]
        if moved:
            self.trace.found = True
            self.skipped, value = moved[-1]
            self.skipped.data.copy_(value)
        return returned


class Forgets(Untouched):
    """In mid-run the optimizer loses its state: another one is built on the same tensors and goes on in its groups."""

    def __init__(self, wrapped: Any, rebuild: Rebuild, trace: Trace, after: int) -> None:  # noqa: ANN401 - see Untouched
        """`after` so many steps."""
        super().__init__(wrapped, rebuild, trace)
        self.after, self.made = after, 0

    def step(self, *closure: Closure) -> Any:  # noqa: ANN401 - what the optimizer returns
        """One step; before one of them the state is lost."""
        if self.made == self.after:
            self._lose()
        self.made += 1
        return super().step(*closure)

    def _lose(self) -> None:
        """Go on with another optimizer, but with the very groups: schedulers hold them, and they have settings."""
        self.trace.found = bool(getattr(self.wrapped, "state", None))
        try:
            fresh = schedules.split(self.rebuild())[0]
            fresh.param_groups[:] = self.wrapped.param_groups
            if callable(getattr(fresh, "train", None)):
                fresh.train()
        except FOREIGN as error:  # foreign code; that it cannot be built twice is nothing that a gate has caught
            self.trace.trouble = one_line(error)
        else:
            self.wrapped = fresh


class Syncs(Untouched):
    """The host waits in every step for a number that it does not need."""

    def step(self, *closure: Closure) -> Any:  # noqa: ANN401 - what the optimizer returns
        """One step, after the sum of a parameter is fetched."""
        for tensor in _tensors(self.wrapped)[:1]:
            self.trace.found = True
            tensor.detach().sum().item()
        return super().step(*closure)


class Waits(Untouched):
    """Every step takes longer."""

    def __init__(self, wrapped: Any, rebuild: Rebuild, trace: Trace, share: float) -> None:  # noqa: ANN401 - see Untouched
        """By this `share` of itself."""
        super().__init__(wrapped, rebuild, trace)
        self.share = share

    def step(self, *closure: Closure) -> Any:  # noqa: ANN401 - what the optimizer returns
        """One step, and then nothing for a while, at full speed: a sleep is longer than most steps."""
        self.trace.found = True
        started_s = time.perf_counter()
        returned = super().step(*closure)
        ended_s = time.perf_counter()
        until_s = ended_s + self.share * (ended_s - started_s)
        while time.perf_counter() < until_s:
            pass
        return returned


@dataclass(frozen=True, slots=True)
class BrokenSpec:
    """A spec whose optimizer is built as usual and then broken.

    Attributes:
        spec: of the optimizer as it is.
        plant: takes the optimizer and what builds it once more, and returns it broken.
    """

    spec: OptimizerSpec
    plant: Callable[[Any, Rebuild], Untouched]

    @property
    def text(self) -> str:
        """That of the optimizer as it is."""
        return self.spec.text

    def factory(self) -> Factory:
        """The callable that builds it and breaks it; raises as that of `spec`."""
        build = self.spec.factory()

        def broken(params: Iterable[Any]) -> Any:  # noqa: ANN401 - optimizers are what behaves like one
            optimizer, made = schedules.split(build(params))
            planted = self.plant(optimizer, partial(build, params))
            return (planted, made) if made else planted

        return broken

    def schedules(self) -> Attach:
        """The callable that builds its schedulers, on the optimizer inside: torch's ask for one of torch's class."""
        attach = self.spec.schedules()
        return lambda optimizer: attach(optimizer.wrapped)


def _groups(optimizer: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - optimizers are what behaves like one
    """Its parameter groups; none where it keeps none."""
    return list(getattr(optimizer, "param_groups", ()))


def _tensors(optimizer: Any) -> list[Tensor]:  # noqa: ANN401 - optimizers are what behaves like one
    """What it updates, in order."""
    return [tensor for group in _groups(optimizer) for tensor in group["params"]]
