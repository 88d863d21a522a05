"""A sound optimizer, harmless rewrites of it, and copies that cost more, each in one way, at equal results."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from torch import Tensor


class Sound(torch.optim.Optimizer):
    """Gradient descent with momentum, tensor by tensor; each subclass breaks one method of it."""

    def __init__(self, params: Any, lr: float = 0.01, momentum: float = 0.9) -> None:  # noqa: ANN401 - as torch has it
        """Take parameters."""
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - as torch has it
        """Update every tensor that has a gradient."""
        loss = self.evaluate(closure)
        for group in self.param_groups:
            lr = self.rate(group)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.update(parameter, parameter.grad, lr, group["momentum"])
        return loss

    def evaluate(self, closure: Any) -> Any:  # noqa: ANN401 - as torch has it
        """The loss, where it is asked for."""
        if closure is None:
            return None
        with torch.enable_grad():
            return closure()

    def rate(self, group: dict[str, Any]) -> float:
        """The learning rate of a group."""
        return float(group["lr"])

    def buffer(self, parameter: Tensor) -> Tensor:
        """The momentum of a tensor."""
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        return momentum

    def update(self, parameter: Tensor, gradient: Tensor, lr: float, momentum: float) -> None:
        """Move one tensor."""
        buffer = self.buffer(parameter)
        buffer.mul_(momentum).add_(gradient)
        parameter.add_(buffer, alpha=-lr)


class AnotherOrder(Sound):
    """Harmless: the same number of other operations."""

    def update(self, parameter: Tensor, gradient: Tensor, lr: float, momentum: float) -> None:
        """Move one tensor."""
        buffer = self.buffer(parameter)
        buffer.mul_(momentum).sub_(gradient, alpha=-1.0)
        parameter.sub_(buffer, alpha=lr)


class Lerped(Sound):
    """Harmless: one operation in place of two."""

    def update(self, parameter: Tensor, gradient: Tensor, lr: float, momentum: float) -> None:
        """Move one tensor; the momentum is (1 - momentum) times the sound one."""
        buffer = self.buffer(parameter)
        buffer.lerp_(gradient, 1.0 - momentum)
        parameter.add_(buffer, alpha=-lr / (1.0 - momentum))


class ItemPerTensor(Sound):
    """A number read off every tensor."""

    def update(self, parameter: Tensor, gradient: Tensor, lr: float, momentum: float) -> None:
        """Move one tensor."""
        if parameter.numel() and parameter.reshape(-1)[0].item() == float("inf"):
            return
        super().update(parameter, gradient, lr, momentum)


class ListPerTensor(Sound):
    """Numbers read off every tensor, without an operation that would show it."""

    def update(self, parameter: Tensor, gradient: Tensor, lr: float, momentum: float) -> None:
        """Move one tensor."""
        if parameter.tolist() is None:
            return
        super().update(parameter, gradient, lr, momentum)


class EvaluatedTwice(Sound):
    """The objective evaluated twice."""

    def evaluate(self, closure: Any) -> Any:  # noqa: ANN401 - as torch has it
        """The loss, where it is asked for."""
        super().evaluate(closure)
        return super().evaluate(closure)


class Copying(Sound):
    """Copies where memory could be shared."""

    def update(self, parameter: Tensor, gradient: Tensor, lr: float, momentum: float) -> None:
        """Move one tensor."""
        super().update(parameter, gradient.clone(), lr, momentum)


class MoreState(Sound):
    """State that nobody reads."""

    def buffer(self, parameter: Tensor) -> Tensor:
        """The momentum of a tensor."""
        found = super().buffer(parameter)
        self.state[parameter].setdefault("spare", torch.zeros_like(parameter))
        return found


class RateTwice(Sound):
    """The learning rate worked out once per tensor."""

    def update(self, parameter: Tensor, gradient: Tensor, lr: float, momentum: float) -> None:
        """Move one tensor."""
        super().update(parameter, gradient, self.rate(self.param_groups[0]) if lr else lr, momentum)


class RateTensor(Sound):
    """A tensor made whenever the learning rate is another one."""

    def rate(self, group: dict[str, Any]) -> float:
        """The learning rate of a group."""
        if getattr(self, "last", None) != group["lr"]:
            self.last = group["lr"]
            self.kept = torch.full((1,), group["lr"]).mul_(1.0)
        return super().rate(group)


class Together(Sound):
    """All intermediate results alive at once."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - as torch has it
        """Update every tensor that has a gradient."""
        loss = self.evaluate(closure)
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            steps = []
            for parameter in parameters:
                buffer = self.buffer(parameter)
                steps.append(buffer.mul_(group["momentum"]).add_(parameter.grad) * -self.rate(group))
            for parameter, step in zip(parameters, steps, strict=True):
                parameter.add_(step)
        return loss


class OneByOne(Sound):
    """`Together` without all of them alive at once: the reference that it is to be compared with."""

    def update(self, parameter: Tensor, gradient: Tensor, lr: float, momentum: float) -> None:
        """Move one tensor."""
        parameter.add_(self.buffer(parameter).mul_(momentum).add_(gradient) * -lr)


class History(Sound):
    """Keeps the graph of every update."""

    def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - as torch has it
        """Update every tensor that has a gradient."""
        loss = super().step(closure)
        for group in self.param_groups:
            self.kept = [getattr(self, "kept", [0.0])[0] + (p * p.detach()).exp().sum() for p in group["params"][:1]]
        return loss


class KeyedByAddress(Sound):
    """State found again by where the tensor lies."""

    def __init__(self, params: Any, lr: float = 0.01, momentum: float = 0.9) -> None:  # noqa: ANN401 - as torch has it
        """Take parameters."""
        super().__init__(params, lr, momentum)
        self.buffers: dict[tuple[int, torch.Size], Tensor] = {}

    def buffer(self, parameter: Tensor) -> Tensor:
        """The momentum of a tensor."""
        return self.buffers.setdefault((parameter.data_ptr(), parameter.shape), torch.zeros_like(parameter))


class KeptByTheClass(Sound):
    """State that belongs to the class."""

    buffers: ClassVar[list[Tensor]] = []

    def buffer(self, parameter: Tensor) -> Tensor:
        """The momentum of a tensor."""
        found = super().buffer(parameter)
        if not any(found is kept for kept in self.buffers):
            self.buffers.append(found)
        return found


class Circle(Sound):
    """Refers to itself."""

    def __init__(self, params: Any, lr: float = 0.01, momentum: float = 0.9) -> None:  # noqa: ANN401 - as torch has it
        """Take parameters."""
        super().__init__(params, lr, momentum)
        self.own_step = self.step


class DeepLoading(Sound):
    """Copies the state that it loads."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load."""
        super().load_state_dict(copy.deepcopy(state_dict))


class KeepsGradients(Sound):
    """Refers to the gradients after they were cleared."""

    def update(self, parameter: Tensor, gradient: Tensor, lr: float, momentum: float) -> None:
        """Move one tensor."""
        super().update(parameter, gradient, lr, momentum)
        self.last = gradient


class Warms(Sound):
    """Makes something anew at the first update after a load."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load."""
        super().load_state_dict(state_dict)
        self.loaded = True

    def update(self, parameter: Tensor, gradient: Tensor, lr: float, momentum: float) -> None:
        """Move one tensor."""
        if getattr(self, "loaded", False):
            self.state[parameter]["momentum"] = self.state[parameter]["momentum"].clone()
        super().update(parameter, gradient, lr, momentum)


class SteppedTwice(torch.optim.lr_scheduler.StepLR):
    """A schedule that is evaluated more often than once an update."""

    def get_lr(self) -> Any:  # noqa: ANN401 - as torch has it
        """Evaluate it, three times."""
        super().get_lr()
        super().get_lr()
        return super().get_lr()
