"""Optimizers named in another optimizer's arguments, as wrappers take them.

``lib:Lookahead(optimizer='torch.optim:SGD(lr=0.01)')``: where the first parameter is given by name it gets that
optimizer, built on the parameters; everywhere else such a text stands for the class, with what follows it bound.
"""

from __future__ import annotations

import copy
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_optcheck import calls
from pytest_optcheck.errors import OptcheckError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_optcheck.specs import Factory, TextSpec

NAMED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(\(.*\))?")
"""What a text must look like to be taken for an optimizer: ``module:Class`` or ``module:Class(…)``."""


def bind(subject: str, name: str, target: Callable[..., Any], keywords: Mapping[str, Any]) -> Factory:
    """`target` with `keywords` bound, the optimizers that they name put in their place.

    Args:
        subject: whose arguments they are; begins every message.
        name: of the target.
        target: an optimizer class or a factory.
        keywords: literals.

    Raises:
        OptcheckError: the signature of `target` does not take the keywords, or one names what is not there.
    """
    rest = dict(keywords)
    first = first_parameter(target)
    inner: Factory | None = None
    if first is not None and names_optimizer(rest.get(first)):
        inner = _spec(subject, rest.pop(first)).factory()
    calls.check(subject, name, target, rest)
    bound = {keyword: _class(subject, value) if names_optimizer(value) else value for keyword, value in rest.items()}

    def build(params: Iterable[Any]) -> Any:  # noqa: ANN401 - optimizers are what behaves like one
        own = copy.deepcopy(bound)  # an optimizer, or a scheduler, may write into them
        return target(params if inner is None else inner(params), **own)

    return build


def names_optimizer(value: object) -> bool:
    """Whether `value` is text that names an optimizer."""
    return isinstance(value, str) and NAMED.fullmatch(value) is not None


def first_parameter(target: Callable[..., Any]) -> str | None:
    """Name of the first parameter of `target`; None if it has no signature, or none that may be given by name."""
    signature = calls.signature_of(target)
    parameters = list(signature.parameters.values()) if signature is not None else []
    named = parameters[:1] and parameters[0].kind is parameters[0].POSITIONAL_OR_KEYWORD
    return parameters[0].name if named else None


def _class(subject: str, text: str) -> Callable[..., Any]:
    """The class that `text` names, its arguments bound."""
    spec = _spec(subject, text)
    found = calls.find(subject, spec.module, spec.name, "a class or a factory")
    if not spec.keywords:
        return found
    calls.check(subject, spec.name, found, dict(spec.keywords))
    return partial(found, **dict(spec.keywords))


def _spec(subject: str, text: str) -> TextSpec:
    from pytest_optcheck.specs import parse  # which imports this module

    spec = parse(text)
    if spec.schedulers:
        raise OptcheckError(f"{subject}: {text!r} has schedulers; they belong after the outer optimizer")
    return spec
