"""Optimizer specs: what is under test, as text or as a Python factory.

``module:Class(kw=literal, …) >> Scheduler(kw=value, …)`` is parsed with `ast` and never evaluated; importing waits
until the optimizer is built, so that parsing works where torch must not be imported.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pytest_optcheck import calls, nesting
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.schedules import Attach, SchedulerSpec, attach, read

if TYPE_CHECKING:
    from collections.abc import Mapping

Factory = Callable[[Iterable[Any]], Any]
"""Takes parameters (or parameter groups), returns an optimizer, or a tuple of it and its list of schedulers."""


class OptimizerSpec(Protocol):
    """What recording and checking need to know of an optimizer under test."""

    @property
    def text(self) -> str:
        """Canonical text; the golden is stored under it."""

    def factory(self) -> Factory:
        """The callable that builds the optimizer; raises `OptcheckError` if there is none."""

    def schedules(self) -> Attach:
        """The callable that builds the schedulers named beside it; raises `OptcheckError` if there is none."""


@dataclass(frozen=True, slots=True)
class FactorySpec:
    """A Python factory under the name its test declares."""

    text: str
    build: Factory

    def factory(self) -> Factory:
        """The callable the test handed over."""
        return self.build

    def schedules(self) -> Attach:
        """Nothing: a factory returns its schedulers with the optimizer."""
        return attach(())


@dataclass(frozen=True, slots=True)
class TextSpec:
    """``module:name(keyword=literal, …) >> scheduler >> …``, keywords sorted.

    Attributes:
        module: dotted module name.
        name: a class or a factory in it, dotted if nested.
        keywords: (keyword, value) pairs, sorted; values are Python literals.
        schedulers: each stepped after every update, in this order.
    """

    module: str
    name: str
    keywords: calls.Keywords = field(default=(), hash=False)  # values may be lists
    schedulers: tuple[SchedulerSpec, ...] = ()

    @property
    def text(self) -> str:
        """Canonical text: the same optimizer always gives the same text, however it was written."""
        optimizer = f"{self.module}:{calls.written(self.name, self.keywords)}"
        return " >> ".join([optimizer, *(scheduler.text for scheduler in self.schedulers)])

    def factory(self) -> Factory:
        """Import the target and bind the keywords to it.

        Raises:
            OptcheckError: the module does not import, the name is not there or not callable, or its
                signature does not take the keywords.
        """
        return nesting.bind(self._subject, self.name, self._target(), dict(self.keywords))

    def schedules(self) -> Attach:
        """Import the schedulers and bind their keywords; what is returned builds them for an optimizer.

        Raises:
            OptcheckError: as for the optimizer.
        """
        return attach(self.schedulers)

    def with_settings(self, /, **extra: Any) -> TextSpec:  # noqa: ANN401 - any literal
        """The same optimizer with keywords of its call added or replaced, under the same schedulers."""
        return replace(self, keywords=tuple(sorted({**dict(self.keywords), **extra}.items())))

    def accepts(self) -> Mapping[str, Any] | None:
        """Keyword -> default in the target's signature, `inspect.Parameter.empty` where there is none.

        The first parameter, which takes the parameters to train, is left out. None without a signature.

        Raises:
            OptcheckError: the target is not there.
        """
        return calls.keyword_defaults(self._target())

    @property
    def address(self) -> str:
        """``module:name``, whatever its settings."""
        return f"{self.module}:{self.name}"

    def first_parameter(self) -> str | None:
        """What the target calls its first parameter, which takes what is to be trained; None without a signature.

        Raises:
            OptcheckError: the target is not there.
        """
        return nesting.first_parameter(self._target())

    @property
    def _subject(self) -> str:
        return f"optimizer {self.text}"

    def _target(self) -> Callable[..., Any]:
        return calls.find(self._subject, self.module, self.name, "a class or a factory")


def parse(text: str) -> TextSpec:
    """Read ``module:Class(kw=literal, …)``, followed by ``>> Scheduler(kw=value, …)`` any number of times.

    Raises:
        OptcheckError: the text has another shape, or an argument is not a keyword with a literal.
    """
    subject = f"optimizer spec {text!r}"
    shape = f"{subject}: expected module:Class(keyword=literal, …), as torch.optim:AdamW(lr=0.001)"
    module, colon, rest = text.strip().partition(":")
    if not colon or not all(part.isidentifier() for part in module.split(".")):
        raise OptcheckError(shape)
    try:
        node = ast.parse(rest.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise OptcheckError(shape) from error
    schedulers: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.RShift):
        schedulers.insert(0, node.right)
        node = node.left
    call = calls.read(node)
    if call is None:
        raise OptcheckError(shape)
    name, args, keywords = call
    return TextSpec(
        module,
        name,
        calls.keyword_values(subject, args, keywords, partial(_literal, subject)),
        tuple(read(subject, scheduler) for scheduler in schedulers),
    )


def _literal(subject: str, keyword: str, node: ast.expr) -> Any:  # noqa: ANN401 - any literal
    return calls.literal(subject, keyword, node, "a Python factory in a marked test takes anything")
