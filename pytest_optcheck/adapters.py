"""Wrappers and two-step rules in the form that the training loop drives: ``zero_grad()``, ``step()``, state dicts.

For the Python-factory form of a marked test; ``docs/wrappers.md`` has a worked example of each. An adapter passes
everything that it does not change on to what it is put around, so groups, state and settings are the real ones.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Closure = Callable[[], Any]


class Adapter:
    """Passes every attribute that it has not itself on to `wrapped`; can be copied and pickled with it."""

    def __init__(self, wrapped: Any) -> None:  # noqa: ANN401 - optimizers are what behaves like one
        """Put the adapter around an optimizer or a wrapper."""
        self.wrapped = wrapped

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever it is there
        """The attribute of `wrapped`."""
        if name == "wrapped" or name.startswith("__"):  # asked while a copy is made, before there is anything to ask
            raise AttributeError(name)
        return getattr(self.wrapped, name)


class Completed(Adapter):
    """A wrapper that leaves things out, as many a lookahead does: what it has not is taken from its base optimizer.

    ``Completed(Lookahead(base), base)``. A state dict is of the wrapper alone if it has its own, and of the base
    alone if it has none; a wrapper that forgets its slow weights there is found out by the resume route.
    """

    def __init__(self, wrapped: Any, base: Any) -> None:  # noqa: ANN401 - see Adapter
        """Put the adapter around `wrapped`, which itself is around `base`."""
        super().__init__(wrapped)
        self.base = base

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - see Adapter
        """The attribute of the wrapper, or else of its base optimizer."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in {"wrapped", "base"} or name.startswith("__"):
                raise
            return getattr(self.base, name)


class TwoStep(Adapter):
    """``first_step()``, gradients anew, ``second_step()``, as sharpness-aware minimisation has it, in one ``step``.

    Foret et al. 2021, algorithm 1: the gradient at the weights moves them to the worst point near by; the gradient
    there is what the base optimizer then uses at the weights.
    """

    def step(self, closure: Closure) -> Any:  # noqa: ANN401 - what the closure returns
        """Both steps; `closure` is called once at the weights and once where the first step has led.

        Returns:
            The loss at the weights.
        """
        with torch.enable_grad():
            loss = closure()
        self.wrapped.first_step()
        with torch.enable_grad():
            closure()
        self.wrapped.second_step()
        return loss


class Switched(Adapter):
    """Gives ``train()`` and ``eval()`` to what switches between weights to train and to evaluate by other names.

    ``Switched(Averaged(params), train="restore", evaluate="apply_average")``. Schedule-free optimizers that have
    the two methods need no adapter: training happens after ``train()``, the final loss is taken after ``eval()``.
    """

    def __init__(self, wrapped: Any, *, train: str, evaluate: str) -> None:  # noqa: ANN401 - see Adapter
        """Put the adapter around `wrapped`.

        Args:
            wrapped: starts with the weights to train in place.
            train: name of its method that puts the weights to train in place.
            evaluate: name of its method that puts the weights to evaluate in place.
        """
        super().__init__(wrapped)
        self.names = {True: train, False: evaluate}
        self.training = True

    def train(self) -> None:
        """Put the weights to train in place, unless they are."""
        self._switch(training=True)

    def eval(self) -> None:
        """Put the weights to evaluate in place, unless they are."""
        self._switch(training=False)

    def _switch(self, *, training: bool) -> None:
        if training != self.training:
            getattr(self.wrapped, self.names[training])()
            self.training = training


class OnGradients(Adapter):
    """Lets a function change the gradients before every step, as gradient centralisation and clipping do.

    ``OnGradients(SGD(params, lr=0.1), centralise)``. The function gets a copy of each gradient, and what it returns
    is used, or the copy if it returns None; afterwards the gradients are as the model left them.
    """

    def __init__(self, wrapped: Any, change: Callable[[Tensor], Tensor | None]) -> None:  # noqa: ANN401 - see Adapter
        """Put the adapter around an optimizer."""
        super().__init__(wrapped)
        self.change = change

    def step(self, closure: Closure | None = None) -> Any:  # noqa: ANN401 - what the closure returns
        """One step with changed gradients; under a closure they are changed after each of its calls."""
        kept: list[tuple[Tensor, Tensor]] = []

        def changed(closure: Closure) -> Any:  # noqa: ANN401 - see above
            loss = closure()
            kept[:] = self._change()
            return loss

        if closure is None:
            kept[:] = self._change()
        arguments = () if closure is None else (partial(changed, closure),)
        try:
            return self.wrapped.step(*arguments)
        finally:
            for parameter, gradient in kept:
                parameter.grad = gradient

    @torch.no_grad()
    def _change(self) -> list[tuple[Tensor, Tensor]]:
        """Put changed gradients in place; parameters with the gradients that they had."""
        kept = []
        for group in self.wrapped.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    kept.append((parameter, parameter.grad))
                    gradient = parameter.grad.clone()
                    returned = self.change(gradient)
                    parameter.grad = gradient if returned is None else returned
        return kept


def centralise(gradient: Tensor) -> Tensor:
    """`gradient` less its mean over all dimensions but the first, if it has two or more (Yong et al. 2020, eq. 1)."""
    if gradient.dim() < 2:  # noqa: PLR2004 - a vector has no columns to centre
        return gradient
    return gradient - gradient.mean(dim=tuple(range(1, gradient.dim())), keepdim=True)
