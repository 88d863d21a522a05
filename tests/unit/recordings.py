"""Recordings of small optimizers, and how trainings are judged by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from toys import Bowl, Descent, toy

from pytest_optcheck import judge
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.recorder import Recording, record
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    from pytest_optcheck.format import Golden


Fields: TypeAlias = Any
"""Fields of a recording, or of the conditions of a training."""

BOWL = Bowl()


class NarrowInside(Descent):
    """Computes its update in bfloat16."""

    def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        parameter.add_(gradient.bfloat16().to(parameter.dtype), alpha=-lr)


class Overturns(Descent):
    """Holds a decision that one ulp hardly ever overturns, and a storm always: 50 ulps beside its threshold."""

    def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        rounded = (torch.ones(256, dtype=parameter.dtype) * 1.0).min()
        threshold = 1.0 - 50.0 * torch.finfo(parameter.dtype).eps
        super().update(parameter, gradient, lr if float(rounded) > threshold else 0.9 * lr)


class Forgets(torch.optim.SGD):
    """Heavy-ball momentum whose buffers a loaded state dict does not bring back."""

    def __init__(self, params: Iterable[Any]) -> None:
        super().__init__(params, lr=0.1, momentum=0.9)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "state": {}})


class Remembers(Forgets):
    """The mended one."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        torch.optim.SGD.load_state_dict(self, state_dict)


def recorded(build: Callable[[Iterable[Any]], Any], workload: Bowl = BOWL, **what: Fields) -> Golden:
    return record(Recording(toy(build), workload, **what))


def verdict(
    build: Callable[[Iterable[Any]], Any],
    golden: Golden,
    workload: Bowl = BOWL,
    **conditions: Fields,
) -> judge.Verdict:
    run = train(build, workload, Conditions(needs=golden.needs, **conditions))
    return judge.judge(run, golden, judge.Policy())


def scheduled(params: Iterable[Any], every: int = 2) -> tuple[Any, list[Any]]:
    optimizer = torch.optim.SGD(params, lr=0.1)
    return optimizer, [torch.optim.lr_scheduler.StepLR(optimizer, every, 0.5)]
