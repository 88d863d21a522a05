"""Optimizer specs: what is under test, as text or as a Python factory.

``module:Class(kw=literal, …)`` is parsed with `ast` and never evaluated; importing waits until the optimizer
is built, so that parsing works where torch must not be imported.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from pytest_optcheck.errors import OptcheckError, one_line

Factory = Callable[[Iterable[Any]], Any]
"""Takes parameters (or parameter groups), returns an optimizer."""


class OptimizerSpec(Protocol):
    """What recording and checking need to know of an optimizer under test."""

    @property
    def text(self) -> str:
        """Canonical text; the golden is stored under it."""

    def factory(self) -> Factory:
        """The callable that builds the optimizer; raises `OptcheckError` if there is none."""


@dataclass(frozen=True, slots=True)
class FactorySpec:
    """A Python factory under the name its test declares."""

    text: str
    build: Factory

    def factory(self) -> Factory:
        """The callable the test handed over."""
        return self.build


@dataclass(frozen=True, slots=True)
class TextSpec:
    """``module:name(keyword=literal, …)``, keywords sorted.

    Attributes:
        module: dotted module name.
        name: a class or a factory in it, dotted if nested.
        keywords: (keyword, value) pairs, sorted; values are Python literals.
    """

    module: str
    name: str
    keywords: tuple[tuple[str, Any], ...] = ()

    @property
    def text(self) -> str:
        """Canonical text: the same optimizer always gives the same text, however it was written."""
        arguments = ", ".join(f"{keyword}={value!r}" for keyword, value in self.keywords)
        return f"{self.module}:{self.name}({arguments})"

    def factory(self) -> Factory:
        """Import the target and bind the keywords to it.

        Raises:
            OptcheckError: the module does not import, the name is not there or not callable, or its
                signature does not take the keywords.
        """
        target = self._target()
        keywords = dict(self.keywords)
        self._check_signature(target, keywords)
        return lambda params: target(params, **keywords)

    def _target(self) -> Callable[..., Any]:
        try:
            found: Any = importlib.import_module(self.module)
        except Exception as error:  # an import runs foreign code: anything may come out
            raise self._unimportable(error) from error
        for part in self.name.split("."):
            try:
                found = getattr(found, part)
            except AttributeError as error:
                missing = f"optimizer {self.text}: {self.module!r} has no {self.name!r}"
                raise OptcheckError(missing + _near(found, part)) from error
            except Exception as error:  # a lazy module imports on first use
                raise self._unimportable(error) from error
        if not callable(found):
            raise OptcheckError(
                f"optimizer {self.text}: {self.name!r} is a {type(found).__name__}, not a class or a factory"
            )
        target: Callable[..., Any] = found
        return target

    def _unimportable(self, error: Exception) -> OptcheckError:
        return OptcheckError(f"optimizer {self.text}: module {self.module!r} does not import ({one_line(error)})")

    def _check_signature(self, target: Callable[..., Any], keywords: dict[str, Any]) -> None:
        try:
            signature = inspect.signature(target)
        except (TypeError, ValueError):  # some C callables have none: calling them will tell
            return
        parameters = list(signature.parameters.values())
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        takes = [p.name for p in parameters[1:] if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        unknown = [] if takes_any else sorted(set(keywords) - set(takes))
        if unknown:
            raise OptcheckError(
                f"optimizer {self.text}: {self.name} takes no {', '.join(map(repr, unknown))}; "
                f"it takes {', '.join(takes) or 'no keywords'}"
            )
        try:
            signature.bind(None, **keywords)
        except TypeError as error:
            raise OptcheckError(f"optimizer {self.text}: {self.name} cannot be called so: {error}") from error


def parse(text: str) -> TextSpec:
    """Read ``module:Class(kw=literal, …)``.

    Raises:
        OptcheckError: the text has another shape, or an argument is not a keyword with a literal.
    """
    module, colon, call = text.strip().partition(":")
    if not colon or not all(part.isidentifier() for part in module.split(".")):
        raise OptcheckError(_shape(text))
    try:
        node = ast.parse(call.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise OptcheckError(_shape(text)) from error
    target, arguments = (node.func, node) if isinstance(node, ast.Call) else (node, None)
    name = ast.unparse(target)
    if not all(part.isidentifier() for part in name.split(".")):
        raise OptcheckError(_shape(text))
    if arguments is None:
        return TextSpec(module, name)
    if arguments.args or any(keyword.arg is None for keyword in arguments.keywords):
        raise OptcheckError(f"optimizer spec {text!r}: arguments must be written keyword=literal")
    keywords = {keyword.arg or "": _literal(text, keyword) for keyword in arguments.keywords}
    if len(keywords) < len(arguments.keywords):
        raise OptcheckError(f"optimizer spec {text!r}: a keyword is written twice")
    return TextSpec(module, name, tuple(sorted(keywords.items())))


def _literal(text: str, keyword: ast.keyword) -> Any:  # noqa: ANN401 - any literal
    try:
        value = ast.literal_eval(keyword.value)
        ordered = not any(isinstance(node, (ast.Set, ast.Call)) for node in ast.walk(keyword.value))
        if ordered and ast.literal_eval(repr(value)) == value:
            return value
    except (TypeError, ValueError):  # no literal at all, or one whose repr is none (1e999 is inf)
        pass
    raise OptcheckError(
        f"optimizer spec {text!r}: {keyword.arg}={ast.unparse(keyword.value)} is not a literal; finite numbers, "
        "strings, True, False, None, tuples, lists and dicts are (a Python factory in a marked test takes anything)"
    )


def _shape(text: str) -> str:
    return f"optimizer spec {text!r}: expected module:Class(keyword=literal, …), as torch.optim:AdamW(lr=0.001)"


def _near(module: object, name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, [known for known in dir(module) if not known.startswith("_")])
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
