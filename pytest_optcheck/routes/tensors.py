"""Routes on which the optimizer's tensors have other strides, or numbers of another kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch.nn import Parameter

from pytest_optcheck.routes.base import Mirror, Route
from pytest_optcheck.routes.restarts import Resume

if TYPE_CHECKING:
    from torch import Tensor

    from pytest_optcheck.curves import Needs
    from pytest_optcheck.training import Training
    from pytest_optcheck.workloads.base import Problem, Workload

CONV_DIM = 4
"""Dimensions of a convolution's weight."""


class NonContiguous(Route):
    """Parameters that are every other element of a larger storage, last dimension first; contiguous gradients."""

    def tensors(self, problem: Problem) -> dict[str, Tensor]:
        """Strided parameters in place of the model's own."""
        for name, parameter in problem.parameters.items():
            backwards = parameter.new_empty((*parameter.shape[::-1], 2))[..., 0]
            strided = backwards.permute(tuple(range(parameter.dim()))[::-1]).copy_(parameter.detach())
            problem.parameters[name] = Parameter(strided.detach(), requires_grad=parameter.requires_grad)
        return dict(problem.parameters)

    def gradients(self, training: Training) -> None:
        """Contiguous, as fused backward passes leave them."""
        for tensor in training.tensors.values():
            if tensor.grad is not None:
                tensor.grad = tensor.grad.contiguous()


class ChannelsLast(Route):
    """Weights of convolutions in the memory format ``channels_last``."""

    def suits(self, workload: Workload, needs: Needs) -> bool:
        """Where there are such weights that may be trained."""
        trained = (shape for name, shape in workload.tensor_shapes.items() if name not in needs.frozen)
        return any(len(shape) == CONV_DIM for shape in trained)

    def tensors(self, problem: Problem) -> dict[str, Tensor]:
        """Reformatted parameters in place of the model's own."""
        for name, parameter in problem.parameters.items():
            if parameter.dim() == CONV_DIM:
                formatted = parameter.detach().to(memory_format=torch.channels_last)
                problem.parameters[name] = Parameter(formatted, requires_grad=parameter.requires_grad)
        return dict(problem.parameters)


class Complex(Mirror):
    """Tensors whose last dimension is even as complex ones of half that length; the model sees real pairs."""

    def suits(self, workload: Workload, needs: Needs) -> bool:
        """Where there is such a tensor, and gradients are dense."""
        paired = any(shape and shape[-1] and shape[-1] % 2 == 0 for shape in workload.tensor_shapes.values())
        return paired and not needs.sparse and not needs.create_graph

    def convert(self, name: str, parameter: Tensor) -> Tensor:
        """Pairs of neighbours as complex numbers."""
        del name
        if not parameter.dim() or not parameter.numel() or parameter.shape[-1] % 2:
            return parameter
        pairs = parameter.contiguous().view(*parameter.shape[:-1], -1, 2)
        return torch.view_as_complex(pairs)

    def restore(self, tensor: Tensor, like: Tensor) -> Tensor:
        """Complex numbers as pairs of neighbours."""
        return torch.view_as_real(tensor).reshape(like.shape) if tensor.is_complex() else tensor


class _OtherDtype(Mirror):
    """Some of the optimizer's tensors have another dtype than the model."""

    dtypes: ClassVar[tuple[torch.dtype | None, ...]]
    """Dtype of the first, second, … tensor, then from the first again; None keeps the model's."""

    def suits(self, workload: Workload, needs: Needs) -> bool:
        """A second-order rule needs the model's own tensors."""
        del workload
        return not needs.create_graph

    def tensors(self, problem: Problem) -> dict[str, Tensor]:
        """Converted copies, by position."""
        self.chosen = {name: self.dtypes[i % len(self.dtypes)] for i, name in enumerate(problem.parameters)}
        return super().tensors(problem)

    def convert(self, name: str, parameter: Tensor) -> Tensor:
        """Rounded to the dtype of that tensor."""
        return parameter.to(self.chosen[name] or parameter.dtype)


class BFloat16(_OtherDtype, Resume):
    """Parameters and gradients in bfloat16, resumed in mid-run: what a load does to dtypes shows here."""

    dtypes = (torch.bfloat16,)

    def after(self, training: Training) -> None:
        """The model follows, and the optimizer is restarted."""
        _OtherDtype.after(self, training)
        Resume.after(self, training)


class MixedDtypes(_OtherDtype):
    """Every other tensor in float32."""

    dtypes = (None, torch.float32)
