"""An optimizer that is right on every route, and for each route a mutant that is right until it takes that route."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pytest_optcheck.specs import TextSpec
from pytest_optcheck.workloads.base import Arrays, Problem, Tensors, Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.random import RandomState

Group = dict[str, Any]
State = dict[str, Any]

SHAPES = {"matrix": (4, 6), "scalar": (), "vector": (5,), "conv": (2, 3, 2, 2), "late": (3, 2)}
FLAGS = ("foreach", "fused", "capturable", "differentiable", "maximize")
MOMENTUM, MEMORY, EPS = 0.9, 0.95, 1e-3


class Mixed(Workload):
    """Tensors of five ranks to be drawn to targets; an example sees one row of the matrix, and ``late`` idles."""

    name = "mixed"
    steps = 12
    batch_size = 2
    idle: ClassVar[Mapping[str, int]] = {"late": 3}

    def data(self) -> Arrays:
        """Eight targets, and which numbers each has a say in."""
        rows = np.arange(8)[:, None] % 4 == np.arange(24)[None, :] // 6
        seen = np.concatenate([rows, np.ones((8, 36))], axis=1)
        return {"target": np.sin(np.arange(8.0 * 60)).reshape(8, 60), "seen": seen}

    def init(self, random: RandomState) -> Arrays:
        """Uniform in [1, 2]: far from the targets."""
        return {name: np.asarray(random.uniform(1.0, 2.0, shape)) for name, shape in SHAPES.items()}

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Half the squared distance, where it is seen."""
        point = torch.cat([p.reshape(-1) for p in params.values()])
        return 0.5 * (batch["seen"] * (point - batch["target"]).square()).sum(1).mean()

    def backward(self, problem: Problem, step: int) -> Tensor:
        """Without the gradient of what idles."""
        loss = super().backward(problem, step)
        for name, updates in self.idle.items():
            if step < updates:
                problem.parameters[name].grad = None
        return loss


class Rule(torch.optim.Optimizer):
    """Momentum over a running root mean square, with decoupled weight decay: right on every route."""

    def __init__(  # noqa: PLR0913 - a flag for each route that is one
        self,
        params: Iterable[Any],
        lr: float = 0.05,
        weight_decay: float = 0.1,
        *,
        foreach: bool = False,
        fused: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        maximize: bool = False,
    ) -> None:
        flags = dict(zip(FLAGS, (foreach, fused, capturable, differentiable, maximize), strict=True))
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, **flags})

    def __setstate__(self, state: State) -> None:
        super().__setstate__(state)
        self.fill(self.param_groups)

    def fill(self, groups: list[Group]) -> None:
        """Settings that an older state dict lacks."""
        for group in groups:
            for flag in FLAGS:
                group.setdefault(flag, False)

    def load_state_dict(self, state_dict: State) -> None:
        """As torch does it, but the state keeps its own precision where that is more than the parameter's."""
        super().load_state_dict(state_dict)
        params = [p for group in self.param_groups for p in group["params"]]
        indices = [index for group in state_dict["param_groups"] for index in group["params"]]
        for p, index in zip(params, indices, strict=True):
            for key, value in state_dict["state"].get(index, {}).items():
                if key in ("buffer", "square"):
                    self.state[p][key] = self.loaded(p, value)

    def loaded(self, p: Tensor, value: Tensor) -> Tensor:
        """A state tensor out of a file."""
        return value.to(self.width(p)).clone()

    def width(self, p: Tensor) -> torch.dtype:
        """What the state of a parameter is kept in."""
        return torch.promote_types(self.real(p).dtype, torch.float32)

    def real(self, tensor: Tensor) -> Tensor:
        """Complex numbers as pairs."""
        return torch.view_as_real(tensor) if tensor.is_complex() else tensor

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # noqa: ANN401 - torch overloads it
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            with torch.set_grad_enabled(group["differentiable"]):
                self.update(group)
        return loss

    def members(self, group: Group) -> list[Tensor]:
        """Parameters to be updated."""
        return [p for p in group["params"] if p.grad is not None]

    def update(self, group: Group) -> None:
        """All of a group."""
        lr = group["lr"]
        for p in self.members(group):
            gradient = self.real(self.gradient(p, group)).to(self.width(p))
            state = self.state[p]
            self.moments(p, state, gradient)
            correction = 1.0 - MEMORY ** self.count(state, group)
            wide = self.real(p).to(self.width(p))
            kept = wide * (1.0 - lr * self.decay(group))
            direction = state["buffer"] / (state["square"].sqrt() + EPS)
            self.write(self.real(p), kept - self.rate(group, correction) * direction)

    def gradient(self, p: Tensor, group: Group) -> Tensor:
        """Dense, and of what is to be minimised."""
        assert p.grad is not None
        gradient = p.grad.to_dense() if p.grad.is_sparse else p.grad
        return -gradient if group["maximize"] else gradient

    def moments(self, p: Tensor, state: State, gradient: Tensor) -> None:  # noqa: ARG002 - a mutant wants it
        """First and second, the first one opened by the first gradient."""
        if "step" not in state:
            state["step"] = torch.zeros((), dtype=torch.float64)
            state["buffer"] = self.opened(gradient)
            state["square"] = gradient * gradient * (1.0 - MEMORY)
        else:
            state["buffer"] = state["buffer"] * MOMENTUM + gradient
            state["square"] = state["square"] * MEMORY + gradient * gradient * (1.0 - MEMORY)

    def opened(self, gradient: Tensor) -> Tensor:
        """The first buffer."""
        return gradient.clone()

    def count(self, state: State, group: Group) -> float:  # noqa: ARG002 - a mutant wants it
        """Updates of this parameter, this one included."""
        state["step"] += 1
        return float(state["step"])

    def decay(self, group: Group) -> float:
        """The weight decay that is used."""
        return float(group["weight_decay"])

    def rate(self, group: Group, correction: float) -> float | Tensor:
        """The step size."""
        size: float | Tensor = group["lr"] * correction**0.5
        return size

    def write(self, p: Tensor, value: Tensor) -> None:
        """The new value of a parameter."""
        p.copy_(value)


class ForgetsDecayInForeach(Rule):
    """foreach."""

    def decay(self, group: Group) -> float:
        return 0.0 if group["foreach"] else super().decay(group)


class ForgetsCorrectionInFused(Rule):
    """fused."""

    def rate(self, group: Group, correction: float) -> float | Tensor:
        return super().rate(group, 1.0 if group["fused"] else correction)


class FreezesCounterInCapturable(Rule):
    """capturable: the graph holds the counter's value of when it was captured."""

    def count(self, state: State, group: Group) -> float:
        count = super().count(state, group)
        return 1.0 if group["capturable"] else count


class DetachesInDifferentiable(Rule):
    """differentiable: the values are right, their derivatives are not."""

    def write(self, p: Tensor, value: Tensor) -> None:
        super().write(p.detach(), value)


class WritesIntoTensorLr(Rule):
    """tensor_lr: what makes a new number of a number changes a tensor in place."""

    def rate(self, group: Group, correction: float) -> float | Tensor:
        size: float | Tensor = group["lr"]
        size *= correction**0.5
        return size


class OpensWithoutMaximize(Rule):
    """maximize: ignored where the buffer is opened."""

    def gradient(self, p: Tensor, group: Group) -> Tensor:
        gradient = super().gradient(p, group)
        return -gradient if group["maximize"] and not self.state[p] else gradient


class AsksTwice(Rule):
    """closure: called once for the loss, once more for the gradients."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # noqa: ANN401 - see Rule
        if closure is not None:
            closure()
        return super().step(closure)


class AdoptsGradient(Rule):
    """set_to_none_false: the buffer is the gradient itself, which ``zero_grad`` zeroes."""

    def opened(self, gradient: Tensor) -> Tensor:
        return gradient


class TakesIncoming(Rule):
    """accumulated: takes the gradient from a backward hook, which knows only the last half batch."""

    def add_param_group(self, param_group: Group) -> None:
        super().add_param_group(param_group)
        self.incoming: dict[Tensor, Tensor]
        self.__dict__.setdefault("incoming", {})
        for p in self.param_groups[-1]["params"]:
            if p.is_leaf and p.requires_grad:
                p.register_hook(functools.partial(self.incoming.__setitem__, p))

    def __setstate__(self, state: State) -> None:
        self.incoming = {}
        super().__setstate__(state)

    def gradient(self, p: Tensor, group: Group) -> Tensor:
        gradient = super().gradient(p, group)
        return self.incoming.get(p, gradient)


class IgnoresFoundInf(Rule):
    """scaled: does the scaler's work itself, all but one half of it."""

    _step_supports_amp_scaling = True

    def gradient(self, p: Tensor, group: Group) -> Tensor:
        gradient, scale = super().gradient(p, group), getattr(self, "grad_scale", None)
        return gradient if scale is None else gradient / scale


class UpdatesPresentRows(Rule):
    """sparse: the buffer of rows without a gradient does not fade."""

    def moments(self, p: Tensor, state: State, gradient: Tensor) -> None:
        old = state.get("buffer")
        super().moments(p, state, gradient)
        if old is not None and p.grad is not None and p.grad.is_sparse:
            absent = torch.ones(len(old), dtype=torch.bool)
            absent[p.grad.coalesce().indices()[0]] = False
            state["buffer"][absent] = old[absent]


class BurnsInCounter(Rule):
    """compiled: the compiler takes the counter for a constant."""

    def count(self, state: State, group: Group) -> float:
        count = super().count(state, group)
        return 1.0 if torch.compiler.is_compiling() else count


class CountsOutsideState(Rule):
    """resume: the counter is no part of the state dict, though of every copy."""

    counted: dict[Tensor, float]

    def __getstate__(self) -> State:
        return {**super().__getstate__(), "counted": self.__dict__.get("counted", {})}

    def count(self, state: State, group: Group) -> float:
        counted = self.__dict__.setdefault("counted", {})
        (p,) = (p for p in group["params"] if self.state.get(p) is state)
        counted[p] = counted.get(p, 0.0) + 1.0
        state["step"] += 1
        return float(counted[p])


class KeepsLoadedWidth(Rule):
    """resume_float32_state: goes on in the precision of the file."""

    def loaded(self, p: Tensor, value: Tensor) -> Tensor:
        del p
        return value.clone()


class FillsNothing(Rule):
    """older_state: what an older state dict lacks stays away."""

    def fill(self, groups: list[Group]) -> None:
        pass


class SharesState(Rule):
    """deepcopy: the copy has its own parameters, but the state of the original."""

    def __deepcopy__(self, memo: dict[int, Any]) -> SharesState:
        other = copy.copy(self)
        other.param_groups = copy.deepcopy(self.param_groups, memo)
        other.state = type(self.state)(dict, {copy.deepcopy(p, memo): state for p, state in self.state.items()})
        return other


class PicklesWithoutDefaults(Rule):
    """pickle: loses what only a later group needs."""

    def __getstate__(self) -> State:
        return {**super().__getstate__(), "defaults": {}}


class DecaysFirstGroup(Rule):
    """split_groups: what is done once for all is done to the first group only."""

    def decay(self, group: Group) -> float:
        return super().decay(group) if group is self.param_groups[0] else 0.0


class ListsMembersOnce(Rule):
    """add_group_late: whoever was there at the first step is updated for ever."""

    def members(self, group: Group) -> list[Tensor]:
        listed = self.__dict__.setdefault("listed", [p for group in self.param_groups for p in group["params"]])
        return [p for p in super().members(group) if any(p is other for other in listed)]


class AsksFirstMember(Rule):
    """reordered: a group whose first parameter has no gradient is left out."""

    def members(self, group: Group) -> list[Tensor]:
        return super().members(group) if group["params"][0].grad is not None else []


class FlattensMatrices(Rule):
    """noncontiguous: writes into a copy where the matrix cannot be viewed as a row."""

    def write(self, p: Tensor, value: Tensor) -> None:
        super().write(*(tensor.reshape(-1) if p.dim() == 2 else tensor for tensor in (p, value)))


class WritesInStorageOrder(Rule):
    """channels_last: takes memory for the order of the indices."""

    def write(self, p: Tensor, value: Tensor) -> None:
        dense = p.is_contiguous() or p.is_contiguous(memory_format=torch.channels_last)
        if p.dim() == 4 and dense:
            p, value = p.as_strided((p.numel(),), (1,)), value.reshape(-1)
        super().write(p, value)


class SquaresComplex(Rule):
    """complex: squares where the squared magnitude is meant."""

    def real(self, tensor: Tensor) -> Tensor:
        return tensor


class CastsLoadedState(Rule):
    """bfloat16: a loaded state has the parameter's dtype, as torch has it."""

    def loaded(self, p: Tensor, value: Tensor) -> Tensor:
        return super().loaded(p, value.to(p.dtype))


class TakesWidthOfFirst(Rule):
    """mixed_dtypes: the first parameter decides for all."""

    def width(self, p: Tensor) -> torch.dtype:
        first: Tensor = self.param_groups[0]["params"][0]
        return torch.promote_types(super().width(p), super().width(first))


MUTANTS: Mapping[str, tuple[type[Rule], frozenset[str]]] = {
    "foreach": (ForgetsDecayInForeach, frozenset()),
    "fused": (ForgetsCorrectionInFused, frozenset()),
    "capturable": (FreezesCounterInCapturable, frozenset()),
    "differentiable": (DetachesInDifferentiable, frozenset()),
    "tensor_lr": (WritesIntoTensorLr, frozenset()),
    "maximize": (OpensWithoutMaximize, frozenset()),
    "closure": (AsksTwice, frozenset()),
    "set_to_none_false": (AdoptsGradient, frozenset()),
    "accumulated": (TakesIncoming, frozenset()),
    "scaled": (IgnoresFoundInf, frozenset()),
    "sparse": (UpdatesPresentRows, frozenset()),
    "compiled": (BurnsInCounter, frozenset()),
    "resume": (CountsOutsideState, frozenset({"resume_float32_state", "older_state", "bfloat16"})),
    "resume_float32_state": (KeepsLoadedWidth, frozenset()),
    "older_state": (FillsNothing, frozenset()),
    "deepcopy": (SharesState, frozenset()),
    "pickle": (PicklesWithoutDefaults, frozenset()),
    "split_groups": (DecaysFirstGroup, frozenset({"add_group_late"})),
    "add_group_late": (ListsMembersOnce, frozenset()),
    "reordered": (AsksFirstMember, frozenset()),
    "noncontiguous": (FlattensMatrices, frozenset()),
    "channels_last": (WritesInStorageOrder, frozenset()),
    "complex": (SquaresComplex, frozenset()),
    "bfloat16": (CastsLoadedState, frozenset()),
    "mixed_dtypes": (TakesWidthOfFirst, frozenset()),
}
"""Route -> its mutant, and the other routes on which that one is wrong too."""


def spec(optimizer: type[Rule]) -> TextSpec:
    """How a user would name it."""
    return TextSpec(optimizer.__module__, optimizer.__qualname__)
