"""Calls written as text: read with `ast`, never evaluated; what they name is imported and checked when it is built.

Shared by optimizer and scheduler specs; imports the standard library only.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from typing import TYPE_CHECKING, Any

from pytest_optcheck.errors import FOREIGN, OptcheckError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Keywords = tuple[tuple[str, Any], ...]
"""(keyword, value) pairs, sorted."""


def written(name: str, keywords: Keywords) -> str:
    """The canonical text of a call."""
    return f"{name}({', '.join(f'{keyword}={value!r}' for keyword, value in keywords)})"


def read(node: ast.expr) -> tuple[str, list[ast.expr], list[ast.keyword]] | None:
    """Dotted name, arguments and keywords of ``name`` or ``name(…)``; None for any other expression."""
    target, args, keywords = (node.func, node.args, node.keywords) if isinstance(node, ast.Call) else (node, [], [])
    name = dotted(target)
    return None if name is None else (name, args, keywords)


def dotted(node: ast.expr) -> str | None:
    """``name`` or ``a.b.name``; None for any other expression."""
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return None if owner is None else f"{owner}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else None


def keyword_values(
    subject: str, args: list[ast.expr], keywords: list[ast.keyword], value: Callable[[str, ast.expr], Any]
) -> Keywords:
    """The keywords of a call, each read by `value`, which takes its name and its node.

    Raises:
        OptcheckError: there are other arguments than keywords, or one is written twice.
    """
    if args or any(keyword.arg is None for keyword in keywords):
        raise OptcheckError(f"{subject}: arguments must be written keyword=literal")
    values = {keyword.arg or "": value(keyword.arg or "", keyword.value) for keyword in keywords}
    if len(values) < len(keywords):
        raise OptcheckError(f"{subject}: a keyword is written twice")
    return tuple(sorted(values.items()))


def literal(subject: str, keyword: str, node: ast.expr, otherwise: str) -> Any:  # noqa: ANN401 - any literal
    """The value of a literal whose text is the same on every run.

    Args:
        subject: whose argument it is; begins the message.
        keyword: the argument's name.
        node: what was written.
        otherwise: how to give what is no literal; ends the message.

    Raises:
        OptcheckError: it is no literal, a set (which has no order) or not finite.
    """
    try:
        value = ast.literal_eval(node)
        ordered = not any(isinstance(part, (ast.Set, ast.Call)) for part in ast.walk(node))
        if ordered and ast.literal_eval(repr(value)) == value:
            return value
    except (TypeError, ValueError):  # no literal at all, or one whose repr is none (1e999 is inf)
        pass
    raise OptcheckError(
        f"{subject}: {keyword}={ast.unparse(node)} is not a literal; finite numbers, strings, True, False, None, "
        f"tuples, lists and dicts are ({otherwise})"
    )


def find(subject: str, module: str, name: str, kind: str) -> Callable[..., Any]:
    """Import `module` and take `name`, dotted if nested, out of it.

    Args:
        subject: who asks; begins every message.
        module: dotted module name.
        name: what is looked for in it.
        kind: what it should be, as ``a class or a factory``.

    Raises:
        OptcheckError: the module does not import, or the name is not there or not callable.
    """
    try:
        found: Any = importlib.import_module(module)
    except FOREIGN as error:  # an import runs foreign code: anything may come out
        raise _unimportable(subject, module, error) from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise OptcheckError(f"{subject}: {module!r} has no {name!r}" + near(part, _public(found))) from error
        except FOREIGN as error:  # a lazy module imports on first use
            raise _unimportable(subject, module, error) from error
    if not callable(found):
        raise OptcheckError(f"{subject}: {name!r} is a {type(found).__name__}, not {kind}")
    target: Callable[..., Any] = found
    return target


def find_dotted(subject: str, name: str, kind: str) -> Callable[..., Any]:
    """Import ``package.module.name``; as `find`, but where the module ends is found out by importing."""
    module = name.rpartition(".")[0]
    while "." in module and not _is_module(module):
        module = module.rpartition(".")[0]
    return find(subject, module, name.removeprefix(f"{module}."), kind)


def keyword_defaults(target: Callable[..., Any], given: str | None = None) -> Mapping[str, Any] | None:
    """Keyword -> default in the signature of `target`, `inspect.Parameter.empty` where there is none.

    The parameter `given`, or the first if that is None, is left out. None if `target` has no signature.
    """
    signature = signature_of(target)
    return None if signature is None else _keyword_defaults(signature, given)


def check(
    subject: str, name: str, target: Callable[..., Any], keywords: Mapping[str, Any], given: str | None = None
) -> None:
    """Refuse `keywords` that the signature of `target` does not take beside the parameter `given` (or the first).

    Raises:
        OptcheckError: it does not; the message says what it takes.
    """
    signature = signature_of(target)
    if signature is None:  # calling it will tell
        return
    takes = _keyword_defaults(signature, given)
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    unknown = [] if takes_any else sorted(set(keywords) - set(takes))
    if unknown:
        raise OptcheckError(
            f"{subject}: {name} takes no {', '.join(map(repr, unknown))}; it takes {', '.join(takes) or 'no keywords'}"
        )
    try:
        signature.bind(*[None] * (given is None), **keywords, **({given: None} if given else {}))
    except TypeError as error:
        raise OptcheckError(f"{subject}: {name} cannot be called so: {error}") from error


def near(name: str, known: Iterable[str]) -> str:
    """The end of a message on an unknown `name`: the known ones that are like it, or nothing."""
    import difflib

    found = difflib.get_close_matches(name, list(known))
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""


def has_keyword(target: Callable[..., Any], keyword: str) -> bool:
    """Whether `target` has a parameter of that name that may be given by keyword."""
    signature = signature_of(target)
    return signature is not None and keyword in _keyword_defaults(signature, "")


def signature_of(target: Callable[..., Any]) -> inspect.Signature | None:
    """The signature of `target`; None if it has none to read."""
    try:
        return inspect.signature(target)
    except (TypeError, ValueError):  # some C callables have none
        return None


def _keyword_defaults(signature: inspect.Signature, given: str | None) -> dict[str, Any]:
    parameters = list(signature.parameters.values())
    rest = parameters[1:] if given is None else [p for p in parameters if p.name != given]
    return {p.name: p.default for p in rest if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _is_module(name: str) -> bool:
    """Whether `name` is a module, be it one that does not import."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        return not f"{name}.".startswith(f"{error.name}.")
    except FOREIGN:  # it is there; whoever imports it next will tell
        return True
    return True


def _unimportable(subject: str, module: str, error: BaseException) -> OptcheckError:
    return OptcheckError(f"{subject}: module {module!r} does not import ({one_line(error)})")


def _public(module: object) -> list[str]:
    return [name for name in dir(module) if not name.startswith("_")]
