"""A place in a syntax tree, what is known of it, and the alteration of what stands there."""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass

from benchmarks.mutating import operators

Span = tuple[int, int]
"""First and last line."""

BLOCKS = ("body", "orelse", "handlers", "finalbody")
"""Fields of a statement that hold statements."""

WIDTH = 150
"""Characters of a line that are shown; a longer one is cut around what differs."""


@dataclass(frozen=True, slots=True)
class Place:
    """A field of a node, or one entry of a field that is a list."""

    owner: ast.AST
    field: str
    index: int | None = None

    def put(self, node: ast.AST) -> None:
        """Let `node` stand here."""
        if self.index is None:
            setattr(self.owner, self.field, node)
        else:
            getattr(self.owner, self.field)[self.index] = node

    @property
    def node(self) -> ast.AST:
        """What stands here."""
        found = getattr(self.owner, self.field)
        node: ast.AST = found if self.index is None else found[self.index]
        return node


@dataclass(frozen=True, slots=True)
class Site:
    """What is known of where an alteration is.

    Attributes:
        function: dotted name of the function or class; empty at module level.
        statement: it is in.
        guards: conditions under which it is reached, outermost first, as text.
        refusal: it decides whether, or says that, an input is refused: it is in a ``raise``, or in the condition of
            an ``if`` that does nothing but raise.
        lines: lines of which one is executed wherever it is used; None for its own.
        bound: local names that have a value.
        default: of an argument, in which it is.
    """

    function: str = ""
    statement: ast.stmt | None = None
    guards: tuple[str, ...] = ()
    refusal: bool = False
    lines: Span | None = None
    bound: frozenset[str] = frozenset()
    default: Place | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Alteration:
    """One node exchanged for another.

    Attributes:
        kind: one of `operators.KINDS`.
        site: where it is.
        place: of the node.
        new: what takes its place.
        line: of the node.
        lines: of the node; where one of them is executed it may show.
    """

    kind: str
    site: Site
    place: Place
    new: ast.AST
    line: int
    lines: Span

    def apply(self) -> ast.AST:
        """Put the new node in its place; returns the old one."""
        old = self.place.node
        new = ast.copy_location(self.new, old) if isinstance(old, (ast.expr, ast.stmt)) else self.new
        self.place.put(ast.fix_missing_locations(new))
        return old

    def texts(self) -> tuple[str, str]:
        """The statement without and with it, each in one line."""
        before = self._shown()
        old = self.apply()
        after = self._shown()
        self.place.put(old)
        return _cut(before, after)

    def _shown(self) -> str:
        if self.kind == operators.STATEMENT:
            return ast.unparse(self.place.node)
        default = self.site.default
        if default is not None:
            return f"{_argument(default)}={ast.unparse(default.node)}"
        assert self.site.statement is not None  # noqa: S101 - whatever is no default is in a statement
        return ast.unparse(_header(self.site.statement)).replace("\n", " ")


def header_lines(statement: ast.stmt) -> Span:
    """The lines of `statement` that are none of the statements in it."""
    inner = [node.lineno for field in BLOCKS for node in getattr(statement, field, [])]
    last = min(inner) - 1 if inner else statement.end_lineno or statement.lineno
    return statement.lineno, max(statement.lineno, last)


def _argument(place: Place) -> str:
    """The name of the argument whose default stands at `place`."""
    arguments, index = place.owner, place.index or 0
    assert isinstance(arguments, ast.arguments)  # noqa: S101 - defaults stand nowhere else
    if place.field == "kw_defaults":
        return arguments.kwonlyargs[index].arg
    positional = (*arguments.posonlyargs, *arguments.args)
    return positional[len(positional) - len(arguments.defaults) + index].arg


def _header(statement: ast.stmt) -> ast.stmt:
    """`statement` without the statements in it."""
    alone = copy.copy(statement)
    for field in BLOCKS:
        if hasattr(alone, field):
            setattr(alone, field, [])
    return alone


def _cut(before: str, after: str) -> tuple[str, str]:
    """Both lines, no longer than `WIDTH`, with what differs."""
    if max(len(before), len(after)) <= WIDTH:
        return before, after
    start = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), 0)
    first = max(0, start - WIDTH // 2)
    lead = "…" if first else ""
    one, other = (f"{lead}{text[first : first + WIDTH]}" for text in (before, after))
    return one, other
