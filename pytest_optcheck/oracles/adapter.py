"""Any NumPy rule as a torch optimizer, so that it goes through the same training loop as what it is compared with.

Parameters and gradients are converted to float64 before an update; after it parameters and state are rounded to the
dtype of the parameter, which for float64 is no rounding at all.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from pytest_optcheck.errors import OptcheckError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pytest_optcheck.oracles.base import Array, State


class NumpyRule(Protocol):
    """What an update rule must have; its settings are its fields, or the attributes that its constructor sets."""

    def update(self, params: Sequence[Array], grads: Sequence[Array | None], state: Sequence[State]) -> None:
        """One update: `params` and `state` are written in place, see `pytest_optcheck.oracles.base.Rule.update`."""


class NumpyOptimizer(Optimizer):
    """A torch optimizer whose step is a NumPy rule's.

    ``class Momentum(NumpyOptimizer, rule=MyRule): ...`` is an optimizer class that takes parameters and the settings
    of `MyRule`; ``NumpyOptimizer(params, MyRule(lr=0.1))`` is an optimizer with that rule. The settings stand in its
    parameter groups, where a group, or a scheduler, may change them.
    """

    rule_class: ClassVar[Callable[..., NumpyRule] | None] = None

    def __init_subclass__(cls, rule: Callable[..., NumpyRule] | None = None, **others: Any) -> None:  # noqa: ANN401 - object's
        """Give the class the rule's signature, with the parameters in front."""
        super().__init_subclass__(**others)
        if rule is None:
            return
        cls.rule_class = staticmethod(rule)
        params = inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        cls.__signature__ = inspect.Signature([params, *inspect.signature(rule).parameters.values()])  # type: ignore[attr-defined] # read by inspect

    def __init__(
        self,
        params: Iterable[Any],
        rule: NumpyRule | None = None,
        *,
        grouped: Iterable[str] | None = None,
        **settings: Any,  # noqa: ANN401 - the rule's
    ) -> None:
        """Make the optimizer.

        Args:
            params: parameters or groups of them.
            rule: the rule; a subclass that was declared with one makes its own from `settings`.
            grouped: names of the settings that stand in the groups; all of them where None.
            settings: the rule's.

        Raises:
            OptcheckError: there is no rule, or it is none.
        """
        if rule is None:
            if self.rule_class is None:
                raise OptcheckError(f"{type(self).__name__} needs a rule: NumpyOptimizer(params, MyRule(lr=0.1))")
            rule = type(self).rule_class(**settings)  # type: ignore[misc] # it is not None
        if not callable(getattr(rule, "update", None)):
            raise OptcheckError(f"{rule!r} is no NumPy rule: it has no update(params, grads, state)")
        self.rule = rule
        known = settings_of(rule)
        super().__init__(params, {name: known[name] for name in known if grouped is None or name in set(grouped)})

    def __getstate__(self) -> dict[str, Any]:
        """What is copied and pickled; the base class leaves out what is not its own."""
        return {**super().__getstate__(), "rule": self.rule}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # noqa: ANN401 - what the closure returns
        """One update of every group.

        Returns:
            What `closure` returned, if it was given.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._update(with_settings(self.rule, group), group["params"])
        return loss

    def _update(self, rule: NumpyRule, tensors: Sequence[Tensor]) -> None:
        params = [to_numpy(tensor) for tensor in tensors]
        grads = [None if tensor.grad is None else to_numpy(tensor.grad) for tensor in tensors]
        state = [{name: _unwrapped(value) for name, value in self.state.get(tensor, {}).items()} for tensor in tensors]
        rule.update(params, grads, state)
        for tensor, value, kept in zip(tensors, params, state, strict=True):
            tensor.copy_(torch.from_numpy(value))
            if kept:
                self.state[tensor] = {name: _wrapped(item, tensor) for name, item in kept.items()}


def settings_of(rule: object) -> dict[str, Any]:
    """Name -> value of everything that can be set on `rule`: its fields if it is a dataclass, else its attributes."""
    if dataclasses.is_dataclass(rule):
        return {field.name: getattr(rule, field.name) for field in dataclasses.fields(rule) if field.init}
    return dict(getattr(rule, "__dict__", {}))


def with_settings(rule: NumpyRule, settings: Mapping[str, Any]) -> NumpyRule:
    """`rule` with those of `settings` that are its own; learning rates may be tensors of one element."""
    own = {name: _number(settings[name]) for name in settings_of(rule) if name in settings}
    if dataclasses.is_dataclass(rule) and not isinstance(rule, type):
        changed: NumpyRule = dataclasses.replace(rule, **own)
        return changed
    changed = copy.copy(rule)
    for name, value in own.items():
        setattr(changed, name, value)
    return changed


def to_numpy(tensor: Tensor) -> Array:
    """A float64 copy of the values of `tensor`, which may be sparse, in the order of its dimensions.

    Raises:
        OptcheckError: they are complex.
    """
    if tensor.is_complex():
        raise OptcheckError("a NumPy rule updates real tensors; this one is complex")
    dense = tensor.detach().to_dense() if tensor.is_sparse else tensor.detach()
    return np.array(dense.to("cpu", torch.float64).numpy(), order="C")


def _number(value: Any) -> Any:  # noqa: ANN401 - any setting
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value


def _unwrapped(value: Any) -> Any:  # noqa: ANN401 - anything in the state
    return to_numpy(value) if isinstance(value, Tensor) else value


def _wrapped(value: Any, like: Tensor) -> Any:  # noqa: ANN401 - anything in the state
    """As state dicts have it: arrays as tensors of the parameter's dtype, which is what loading makes of them."""
    if not isinstance(value, (np.ndarray, np.generic)):
        return value
    copied = np.array(value, order="C")  # it may be a view of what the rule goes on with
    return torch.from_numpy(copied).to(like.device, like.dtype)
