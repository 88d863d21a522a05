"""Routes on which gradients arrive, or a step is taken, in another way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pytest_optcheck.laws.base import moved, values
from pytest_optcheck.routes.base import Route, rows_only

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_optcheck.curves import Needs
    from pytest_optcheck.training import Training
    from pytest_optcheck.workloads.base import Workload

INF_UPDATE = 5
"""Number of updates after which `Scaled` injects a step with an infinite gradient."""

SCALE = 2.0**10
"""First scale of `Scaled`: a power of two, so that scaling rounds nothing."""


class WithClosure(Route):
    """``step(closure)`` on an optimizer that could do without; it must call the closure once and return its loss."""

    closure = True

    def suits(self, workload: Workload, needs: Needs) -> bool:
        """Where the closure is not needed anyway."""
        del workload
        return not needs.closure and not needs.evaluated

    def step(self, training: Training, *closure: Callable[[], Tensor]) -> None:
        """One update, the closure's losses kept."""
        losses: list[Tensor] = []

        def kept() -> Tensor:
            with torch.enable_grad():
                losses.append(closure[0]())
            return losses[-1]

        returned = training.optimizer.step(kept)
        update = f"update {training.updates + 1}"
        if len(losses) != 1:
            training.laws.breaks("closure_once", f"{update} called the closure {len(losses)} times")
        elif not _tells(returned, losses[0]):
            training.laws.breaks("closure_loss", f"{update} returned {returned} for a loss of {float(losses[0]):.4g}")


def _tells(returned: object, loss: Tensor) -> bool:
    """Whether what a step returned is `loss`, as a tensor or as a number."""
    single = isinstance(returned, (int, float)) or (isinstance(returned, Tensor) and returned.numel() == 1)
    return single and float(returned) == float(loss)  # type: ignore[arg-type] # `single` says that it is a number


class SetToNoneFalse(Route):
    """``zero_grad(set_to_none=False)``: gradients stay the same tensors and add up from zero."""

    def suits(self, workload: Workload, needs: Needs) -> bool:
        """A sparse gradient is made anew every time."""
        del workload
        return not needs.sparse

    def clear(self, training: Training) -> None:
        """Zeros in place of None."""
        training.optimizer.zero_grad(set_to_none=False)


class Accumulated(Route):
    """Two half batches, their gradients added up; the same batch twice where it cannot be halved."""

    def backward(self, training: Training, step: int) -> Tensor:
        """The mean of both losses; the gradients are those of the mean."""
        problem = training.problem
        losses = []
        for half in (0, 1):
            problem.half = half
            losses.append(problem.backward(step))
        problem.half = None
        for parameter in problem.parameters.values():
            if parameter.grad is not None:
                parameter.grad.mul_(0.5)
        return (losses[0] + losses[1]) / 2


class Scaled(Route):
    """Gradients scaled by ``GradScaler``, every other time unscaled by hand first; one infinite step is injected."""

    scales = True

    def __init__(self) -> None:
        """Nothing is scaled yet."""
        self.scaler: torch.amp.GradScaler | None = None

    def suits(self, workload: Workload, needs: Needs) -> bool:
        """The scaler takes no closure, and scales dense gradients here."""
        del workload
        return not (needs.closure or needs.evaluated or needs.sparse or needs.create_graph)

    def step(self, training: Training, *closure: Callable[[], Tensor]) -> None:
        """The injected step where it is due, then the update."""
        del closure
        if self.scaler is None:
            device = torch.device(training.conditions.device)
            self.scaler = torch.amp.GradScaler(device.type, init_scale=SCALE, growth_interval=1 << 30)
            self.scaler.scale(torch.ones((), device=device))
        if training.updates == INF_UPDATE:
            self._inject(training)
        self._scaled_step(training, unscale=training.updates % 2 == 1)

    def _scaled_step(self, training: Training, *, unscale: bool) -> None:
        scaler = self.scaler
        assert scaler is not None  # noqa: S101 - made above
        scale = scaler.get_scale()
        for tensor in training.tensors.values():
            if tensor.grad is not None:
                tensor.grad.mul_(scale)
        if unscale:
            scaler.unscale_(training.optimizer)
        scaler.step(training.optimizer)
        scaler.update()

    def _inject(self, training: Training) -> None:
        """Steps with one infinite gradient, unscaled by hand and not; neither may move anything."""
        kept = {name: p.grad.clone() for name, p in training.tensors.items() if p.grad is not None}
        before = values(training)
        for unscale in (False, True):
            largest = max(kept, key=lambda name: kept[name].numel())
            gradient = training.tensors[largest].grad
            assert gradient is not None  # noqa: S101 - it is among the kept
            gradient[(0,) * gradient.dim()] = torch.inf
            self._scaled_step(training, unscale=unscale)
            name = moved(training, before)
            if name is not None:
                training.laws.breaks("inf_step_skipped", f"a step with an infinite gradient moved {name}")
            for name, gradient in kept.items():
                training.tensors[name].grad = gradient.clone()


class Sparse(Route):
    """Gradients as sparse tensors of their rows that are not zero."""

    def suits(self, workload: Workload, needs: Needs) -> bool:
        """Where gradients are dense otherwise."""
        del workload
        return not needs.sparse and not needs.create_graph

    def gradients(self, training: Training) -> None:
        """Sparse in the first dimension; a tensor without dimensions has no sparse form."""
        for tensor in training.tensors.values():
            if tensor.grad is not None and tensor.dim():
                tensor.grad = rows_only(tensor.grad)


class Compiled(Route):
    """The step under ``torch.compile``."""

    def __init__(self) -> None:
        """Nothing is compiled yet."""
        self.compiled: Callable[..., object] | None = None

    def suits(self, workload: Workload, needs: Needs) -> bool:
        """A closure trains a model, which is not what is compiled here."""
        del workload
        return not (needs.closure or needs.evaluated or needs.create_graph)

    def step(self, training: Training, *closure: Callable[[], Tensor]) -> None:
        """One update by the compiled step."""
        if self.compiled is None:
            self.compiled = torch.compile(training.optimizer.step)
        self.compiled(*closure)
