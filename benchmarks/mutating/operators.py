"""Single alterations of one node of a syntax tree: what a slip of the hand makes of an expression or a statement.

Pure: nodes in, nodes out. Nothing here changes a node in place, and what is yielded shares the parts it keeps.
"""

from __future__ import annotations

import ast
import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

OPERATOR, OPERANDS = "operator", "swapped operands"
CONSTANT, COMPARISON = "constant", "comparison"
CONDITION, CONNECTIVE = "negated condition", "and/or"
ARGUMENTS, CALL, STATEMENT = "swapped arguments", "dropped call", "dropped statement"
KINDS = (OPERATOR, OPERANDS, CONSTANT, COMPARISON, CONDITION, CONNECTIVE, ARGUMENTS, CALL, STATEMENT)
"""Every kind of alteration."""

ARITHMETIC: Mapping[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}

ORDERED = (ast.Sub, ast.Div, ast.Pow, ast.FloorDiv, ast.Mod)
"""Operators whose operands cannot change places."""

BOUNDARIES: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}

OPPOSITES: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
"""Comparisons that are negated by another one; a condition that is one of them is not negated once more."""

NUDGE = 0.01
"""By how much of itself a float constant is changed, and what takes the place of zero: little, but no rounding."""

HELPERS = frozenset({"isinstance", "issubclass", "cast", "getattr", "hasattr", "setattr", "super"})
"""Functions whose arguments are of different kinds: swapped, they only raise."""

COMMUTATIVE = frozenset({"max", "min", "maximum", "minimum"})
"""Functions that give the same for their arguments in any order."""

CONTAINER_METHODS = frozenset(
    {"append", "copy", "elements", "extend", "get", "index", "items", "keys", "move_to_end", "pop", "setdefault"}
    | {"update", "values"}
)
"""Methods of lists and dicts: without the call another kind of thing is left, which only raises."""

MODULES = frozenset({"F", "functools", "hooks", "inspect", "itertools", "math", "self", "torch", "warnings"})
"""Names that are modules, or the instance: what is called on them is no step of a computation on a value."""


def expressions(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """What may stand in the place of `node`, each with its kind."""
    altered = _ALTERED.get(type(node))
    return altered(node) if altered is not None else iter(())


def negated(test: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """The condition that holds where `test` does not; nothing where another alteration makes it already."""
    match test:
        case ast.UnaryOp(ast.Not()) | ast.Constant():
            return
        case ast.Compare(ops=[op]) if type(op) in OPPOSITES:
            return
    yield CONDITION, ast.UnaryOp(ast.Not(), test)


def constants(value: object) -> Iterator[bool | float]:
    """Other numbers, or the other truth value; nothing for text and None."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
        yield value - 1
    elif isinstance(value, float):
        yield value * (1.0 + NUDGE) if value else NUDGE
        yield 0.0 if value else 1.0


def assigned(statement: ast.AugAssign) -> Iterator[tuple[str, ast.operator]]:
    """What may stand in the place of its operator."""
    other = ARITHMETIC.get(type(statement.op))
    if other is not None:
        yield OPERATOR, other()


def droppable(statement: ast.stmt, bound: frozenset[str]) -> bool:
    """Whether a function still makes sense without `statement`.

    The first assignment to a name is not dropped: without it every run ends in a NameError, which any test sees.

    Args:
        statement: one that holds no others.
        bound: local names that have a value before it.
    """
    match statement:
        case ast.Assign(targets=targets):
            return all(names(target) <= bound for target in targets)
        case ast.AnnAssign(target=target, value=value):
            return value is not None and names(target) <= bound
        case ast.AugAssign() | ast.Expr() | ast.Return() | ast.Raise() | ast.Continue() | ast.Break() | ast.Delete():
            return True
    return False


def names(target: ast.expr) -> frozenset[str]:
    """The names that an assignment to `target` binds."""
    stored = (node for node in ast.walk(target) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    return frozenset(node.id for node in stored)


def _binary(node: ast.BinOp) -> Iterator[tuple[str, ast.expr]]:
    if _is_text(node.left) or _is_text(node.right):
        return
    other = ARITHMETIC.get(type(node.op))
    if other is not None:
        yield OPERATOR, ast.BinOp(node.left, other(), node.right)
    if isinstance(node.op, ORDERED) and ast.dump(node.left) != ast.dump(node.right):
        yield OPERANDS, ast.BinOp(node.right, node.op, node.left)


def _unary(node: ast.UnaryOp) -> Iterator[tuple[str, ast.expr]]:
    if not isinstance(node.op, ast.UAdd):
        yield CONDITION if isinstance(node.op, ast.Not) else OPERATOR, node.operand


def _compared(node: ast.Compare) -> Iterator[tuple[str, ast.expr]]:
    for index, op in enumerate(node.ops):
        other = {**BOUNDARIES, **OPPOSITES}[type(op)]()
        yield COMPARISON, ast.Compare(node.left, [*node.ops[:index], other, *node.ops[index + 1 :]], node.comparators)


def _connected(node: ast.BoolOp) -> Iterator[tuple[str, ast.expr]]:
    yield CONNECTIVE, ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)


def _chosen(node: ast.IfExp) -> Iterator[tuple[str, ast.expr]]:
    for kind, test in negated(node.test):
        yield kind, ast.IfExp(test, node.body, node.orelse)


def _constant(node: ast.Constant) -> Iterator[tuple[str, ast.expr]]:
    for value in constants(node.value):
        yield CONSTANT, ast.Constant(value)


def _called(node: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node.func, ast.Name) and node.func.id in HELPERS:
        return
    for i, (one, other) in enumerate(itertools.pairwise(() if _name(node.func) in COMMUTATIVE else node.args)):
        if ast.dump(one) != ast.dump(other) and not isinstance(other, ast.Starred):
            yield ARGUMENTS, ast.Call(node.func, [*node.args[:i], other, one, *node.args[i + 2 :]], node.keywords)
    for i, (first, second) in enumerate(itertools.pairwise(node.keywords)):
        if first.arg and second.arg and ast.dump(first.value) != ast.dump(second.value):
            swapped = [ast.keyword(first.arg, second.value), ast.keyword(second.arg, first.value)]
            yield ARGUMENTS, ast.Call(node.func, node.args, [*node.keywords[:i], *swapped, *node.keywords[i + 2 :]])
    if isinstance(node.func, ast.Attribute) and node.func.attr not in CONTAINER_METHODS:
        subject = node.func.value
        if _root(subject) not in MODULES and not _is_text(subject):
            yield CALL, subject


_ALTERED: Mapping[type[ast.expr], Callable[[Any], Iterator[tuple[str, ast.expr]]]] = {
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.Compare: _compared,
    ast.BoolOp: _connected,
    ast.IfExp: _chosen,
    ast.Constant: _constant,
    ast.Call: _called,
}


def _name(function: ast.expr) -> str:
    """``maximum`` of ``torch.maximum``."""
    return ast.unparse(function).rpartition(".")[2]


def _root(node: ast.expr) -> str:
    """``torch`` of ``torch.cuda.amp``; empty for what a call or a subscript gave."""
    while isinstance(node, ast.Attribute):
        node = node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super":
        return "self"
    return node.id if isinstance(node, ast.Name) else ""


def _is_text(node: ast.expr) -> bool:
    """Whether `node` is text, so that an operator joins or formats it."""
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
