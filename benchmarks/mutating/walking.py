"""Every place where a module can be altered: a walk over its syntax tree.

What computes nothing is left alone: annotations, docstrings, messages, imports, decorators, warnings, text.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from benchmarks.mutating import operators
from benchmarks.mutating.places import BLOCKS, Alteration, Place, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def alterations(tree: ast.Module, wanted: Callable[[str], bool]) -> Iterator[Alteration]:
    """Every alteration of `tree` inside functions (by dotted name) that are `wanted`; "" is the module level."""
    whole = (1, max((node.end_lineno or 1 for node in tree.body), default=1))
    for found in _block(Place(tree, "body"), Site(lines=whole)):
        if wanted(found.site.function):
            yield found


def matching(function: str, patterns: tuple[str, ...]) -> bool:
    """Whether the dotted name of a function, or of one around it, is one of `patterns`."""
    parts = function.split(".")
    around = [".".join(parts[: count + 1]) for count in range(len(parts))]
    return any(fnmatch(name, pattern) for name in around for pattern in patterns)


def _block(place: Place, site: Site) -> Iterator[Alteration]:
    """Statement after statement; the names that one binds are there for the next."""
    bound = site.bound
    for index, statement in enumerate(getattr(place.owner, place.field)):
        within = replace(site, statement=statement, bound=bound)
        yield from _statement(Place(place.owner, place.field, index), statement, within)
        bound |= _binds(statement)


def _statement(place: Place, statement: ast.stmt, site: Site) -> Iterator[Alteration]:
    if _left_alone(statement):
        return
    if isinstance(statement, ast.FunctionDef):
        yield from _function(statement, site)
    elif isinstance(statement, ast.ClassDef):
        yield from _block(Place(statement, "body"), replace(site, function=_dotted(site, statement.name)))
    elif isinstance(statement, ast.If):
        yield from _branches(statement, site)
    elif isinstance(statement, ast.Raise):
        yield from _dropped(place, statement, replace(site, refusal=True))
    else:
        yield from _plain(place, statement, site)


def _left_alone(statement: ast.stmt) -> bool:
    """Whether it computes nothing."""
    match statement:
        case ast.Expr(ast.Constant()) | ast.Expr(ast.Call(ast.Attribute(ast.Name("warnings")))):
            return True
        case ast.Assign([ast.Attribute(attr="__doc__")]) | ast.If(ast.Name("TYPE_CHECKING")):
            return True
        case ast.AnnAssign(annotation=annotation):
            return "TypeAlias" in ast.unparse(annotation)
        case ast.If(body=body, orelse=orelse):  # decides whether to warn
            return all(_left_alone(inner) for inner in (*body, *orelse))
    return False


def _branches(statement: ast.If, site: Site) -> Iterator[Alteration]:
    refusal = site.refusal or _refuses(statement)
    yield from _tested(Place(statement, "test"), statement.test, replace(site, refusal=refusal))
    text = ast.unparse(statement.test)
    for field, guard in (("body", text), ("orelse", f"not ({text})")):
        yield from _block(Place(statement, field), replace(site, guards=(*site.guards, guard)))


def _plain(place: Place, statement: ast.stmt, site: Site) -> Iterator[Alteration]:
    if isinstance(statement, ast.While):
        yield from _tested(Place(statement, "test"), statement.test, site)
    if isinstance(statement, ast.AugAssign):
        for kind, new in operators.assigned(statement):
            yield _alteration(kind, site, Place(statement, "op"), new, statement)
    if site.function:
        yield from _dropped(place, statement, site)
    yield from _parts(statement, site)
    for field in BLOCKS:
        if getattr(statement, field, None):
            yield from _block(Place(statement, field), site)


def _function(function: ast.FunctionDef, site: Site) -> Iterator[Alteration]:
    if any("overload" in ast.unparse(decorator) for decorator in function.decorator_list):
        return
    arguments = function.args
    body = (function.body[0].lineno, function.body[-1].end_lineno or function.lineno)
    inside = replace(site, function=_dotted(site, function.name), lines=body, guards=(), refusal=False)
    for field in ("defaults", "kw_defaults"):
        for index, default in enumerate(getattr(arguments, field)):
            if default is not None:
                at = Place(arguments, field, index)
                yield from _expression(at, default, replace(inside, default=at))
    given = {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    yield from _block(Place(function, "body"), replace(inside, lines=None, bound=frozenset(given)))


def _refuses(statement: ast.stmt) -> bool:
    """Whether it does nothing but raise, if anything."""
    if isinstance(statement, ast.If):
        return not statement.orelse and all(_refuses(inner) for inner in statement.body)
    return isinstance(statement, ast.Raise)


def _dropped(place: Place, statement: ast.stmt, site: Site) -> Iterator[Alteration]:
    if operators.droppable(statement, site.bound):
        yield _alteration(operators.STATEMENT, site, place, ast.Pass(), statement)


def _tested(place: Place, test: ast.expr, site: Site) -> Iterator[Alteration]:
    """A condition negated, and what is inside it."""
    yield from (_alteration(kind, site, place, new, test) for kind, new in operators.negated(test))
    yield from _expression(place, test, site)


def _expression(place: Place, node: ast.expr, site: Site) -> Iterator[Alteration]:
    """An expression and all that is inside it, unless it is text."""
    if isinstance(node, ast.JoinedStr):
        return
    whole = isinstance(place.owner, ast.Expr)  # dropping the call is dropping the statement
    for kind, new in operators.expressions(node):
        if not (whole and kind == operators.CALL):
            yield _alteration(kind, site, place, new, node)
    yield from _parts(node, site)


def _parts(node: ast.AST, site: Site) -> Iterator[Alteration]:
    """Expressions that are a part of `node`, without its annotations and the types it is cast to."""
    for field, value in ast.iter_fields(node):
        if isinstance(node, ast.stmt) and field in ("annotation", "test"):
            continue
        for index, part in enumerate(value) if isinstance(value, list) else ((None, value),):
            if isinstance(part, ast.expr) and not (index == 0 and _is_cast(node)):
                yield from _expression(Place(node, field, index), part, site)
            elif isinstance(part, (ast.keyword, ast.comprehension, ast.withitem)):
                yield from _parts(part, site)
    for index, condition in enumerate(node.ifs if isinstance(node, ast.comprehension) else ()):
        for kind, new in operators.negated(condition):
            yield _alteration(kind, site, Place(node, "ifs", index), new, condition)


def _is_cast(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "cast"


def _alteration(kind: str, site: Site, place: Place, new: ast.AST, node: ast.expr | ast.stmt) -> Alteration:
    return Alteration(kind, site, place, new, node.lineno, site.lines or (node.lineno, node.end_lineno or node.lineno))


def _binds(statement: ast.stmt) -> frozenset[str]:
    """Names that have a value after `statement`, whichever way it went."""
    targets = [node for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    return frozenset(target.id for target in targets)


def _dotted(site: Site, name: str) -> str:
    return f"{site.function}.{name}" if site.function else name
