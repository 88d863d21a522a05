"""What a route may alter of a training; the plain route alters nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from pytest_optcheck.curves import Needs
    from pytest_optcheck.training import Training
    from pytest_optcheck.workloads.base import Problem, Workload

BYSTANDER = "bystander"
"""Name of a tensor that some routes give to the optimizer beside those of the model: it must never move."""


def rows_only(gradient: Tensor) -> Tensor:
    """A sparse tensor of the rows of `gradient`, which has one dimension or more, that are not all zero."""
    if not gradient.numel():
        return gradient.to_sparse(1)
    rows = gradient.reshape(len(gradient), -1).any(1).nonzero().squeeze(1)  # to_sparse sorts rows by value: ten times
    return torch.sparse_coo_tensor(rows[None], gradient[rows], gradient.shape, is_coalesced=True)


@dataclass(frozen=True, slots=True)
class Group:
    """A parameter group to be.

    Attributes:
        names: of its tensors, in order.
        origin: index of the reference model's group whose settings it has.
        flagged: value of the key that the optimizer needs in every group, if it needs one.
    """

    names: tuple[str, ...]
    origin: int
    flagged: bool = False


class Route:
    """One way of running an algorithm; an instance serves one training.

    Attributes:
        closure: ``step`` is given a closure.
        regroups: the optimizer has other groups than on the plain route, so that a schedule is another one.
        scales: gradients are scaled before the step, and it is the optimizer's affair whether they are so after it.
    """

    closure: ClassVar[bool] = False
    regroups: ClassVar[bool] = False
    scales: ClassVar[bool] = False

    def settings(self, current: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Constructor settings to replace; None where the optimizer has not what the route needs.

        Args:
            current: every setting the constructor takes, with its value now.
        """
        del current
        return {}

    def suits(self, workload: Workload, needs: Needs) -> bool:
        """Whether there is anything to this route on `workload` for an optimizer of these needs."""
        del workload, needs
        return True

    def tensors(self, problem: Problem) -> dict[str, Tensor]:
        """What the optimizer is given for the model's parameters, by name; the parameters themselves here."""
        return dict(problem.parameters)

    def plan(self, groups: Sequence[Group], workload: Workload) -> list[Group]:
        """The parameter groups to start with."""
        del workload
        return list(groups)

    def joins(self, workload: Workload) -> Mapping[str, int]:
        """Tensors that are handed over by ``add_param_group``, each after so many updates."""
        del workload
        return {}

    def clear(self, training: Training) -> None:
        """Drop the gradients of the last update."""
        training.optimizer.zero_grad()

    def backward(self, training: Training, step: int) -> Tensor:
        """The loss before update `step` + 1; leaves the gradients with the model's parameters."""
        return training.problem.backward(step)

    def gradients(self, training: Training) -> None:
        """Hand the gradients over to the optimizer's tensors."""

    def step(self, training: Training, *closure: Callable[[], Tensor]) -> None:
        """One update."""
        training.optimizer.step(*closure)

    def after(self, training: Training) -> None:
        """What happens when an update is done; ``training.updates`` counts it already."""

    def follow(self, training: Training) -> None:
        """Give the model the values that the optimizer's tensors have now."""


class Mirror(Route):
    """The optimizer has tensors of its own, which the model's parameters follow."""

    def convert(self, name: str, parameter: Tensor) -> Tensor:
        """The optimizer's tensor for a parameter, or a gradient as the optimizer shall see it."""
        raise NotImplementedError

    def restore(self, tensor: Tensor, like: Tensor) -> Tensor:
        """Values of the optimizer's tensor as the model sees them."""
        return tensor.to(like.dtype)

    def tensors(self, problem: Problem) -> dict[str, Tensor]:
        """Converted copies; the model starts from what they hold."""
        held = {}
        for name, parameter in problem.parameters.items():
            tensor = self.convert(name, parameter.detach().clone())
            held[name] = tensor.requires_grad_(parameter.requires_grad)
        self._follow(problem, held)
        return held

    def clear(self, training: Training) -> None:
        """Both sides forget."""
        super().clear(training)
        for parameter in training.problem.parameters.values():
            parameter.grad = None

    def backward(self, training: Training, step: int) -> Tensor:
        """The loss at what the optimizer's tensors hold now: a closure may be called in the midst of a step."""
        self._follow(training.problem, training.tensors)
        return super().backward(training, step)

    def gradients(self, training: Training) -> None:
        """Converted copies of the gradients."""
        for name, parameter in training.problem.parameters.items():
            if parameter.grad is not None:
                training.tensors[name].grad = self.convert(name, parameter.grad.clone())

    def after(self, training: Training) -> None:
        """The model follows."""
        self.follow(training)

    def follow(self, training: Training) -> None:
        """Restored values."""
        self._follow(training.problem, training.tensors)

    def _follow(self, problem: Problem, tensors: Mapping[str, Tensor]) -> None:
        for name, parameter in problem.parameters.items():
            parameter.data.copy_(self.restore(tensors[name].detach(), parameter))
