"""The walk over a module: every place that computes is found with what is known of it, and nothing else."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.mutating import operators
from benchmarks.mutating.places import WIDTH, Alteration, header_lines
from benchmarks.mutating.walking import alterations, matching

pytestmark = pytest.mark.filterwarnings('ignore:"is not" with a literal:SyntaxWarning')  # altered code is compiled

SOURCE = '''
"""A module."""
import math
LIMIT: TypeAlias = int | None
EPS = 1e-7

class Rule(Base):
    """Docstring."""
    hooked: bool = False

    @decorated(2)
    def __init__(self, lr: float = 0.5, *, betas=(0.9, 0.99)) -> None:
        if not 0.0 <= lr:
            raise ValueError(f"lr is {lr + 1}")
        if closed:
            if lr > 1:
                raise ValueError("closed")
        self.lr = cast(1 | 2, lr)

    def step(self, grad):
        if grad is not 77:
            warnings.warn("old", 3)
        for i, p in enumerate(self.params):
            grad = -grad
            if capturable:
                p.add_(grad)
            else:
                del grad
        return [q for q in self.params if q.used]

    def __repr__(self):
        return 1 + 1

Rule.__doc__ = "text" * 2
'''


def found(source: str = SOURCE) -> list[Alteration]:
    return list(alterations(ast.parse(source), lambda function: not matching(function, ("*.__repr__",))))


def texts(kind: str, source: str = SOURCE) -> list[tuple[str, str]]:
    return [alteration.texts() for alteration in found(source) if alteration.kind == kind]


def test_messages_annotations_decorators_and_docstrings_are_left_alone() -> None:
    shown = " ".join(before + after for alteration in found() for before, after in [alteration.texts()])
    for text in ("TypeAlias", "decorated", "Docstring", "lr - 1", "77", "warn", "__doc__", "1 + 1", "1 | 3"):
        assert text not in shown


def test_constants_are_found_in_modules_classes_defaults_and_conditions() -> None:
    assert [before for before, _ in texts(operators.CONSTANT)] == [
        *["EPS = 1e-07"] * 2,
        "hooked: bool = False",
        *["lr=0.5"] * 2,
        *["betas=(0.9, 0.99)"] * 4,
        *["if not 0.0 <= lr:"] * 2,
        *["if lr > 1:"] * 2,
    ]


def test_the_texts_differ_in_what_is_altered() -> None:
    assert texts(operators.COMPARISON) == [
        ("if not 0.0 <= lr:", "if not 0.0 < lr:"),
        ("if lr > 1:", "if lr >= 1:"),
    ]


def test_statements_are_dropped_with_all_that_is_in_them() -> None:
    assert texts(operators.STATEMENT) == [
        ("raise ValueError(f'lr is {lr + 1}')", "pass"),
        ("raise ValueError('closed')", "pass"),
        ("self.lr = cast(1 | 2, lr)", "pass"),
        ("grad = -grad", "pass"),
        ("p.add_(grad)", "pass"),
        ("del grad", "pass"),
        ("return [q for q in self.params if q.used]", "pass"),
    ]


def test_conditions_are_negated_in_statements_and_comprehensions() -> None:
    after = [after for _, after in texts(operators.CONDITION)]
    assert after == [
        "if 0.0 <= lr:",
        "if not closed:",
        "if not lr > 1:",
        "if not capturable:",
        "return [q for q in self.params if not q.used]",
    ]


def test_what_only_refuses_is_told_apart() -> None:
    refusing = {alteration.texts()[0] for alteration in found() if alteration.site.refusal}
    assert refusing == {
        "if not 0.0 <= lr:",
        "raise ValueError(f'lr is {lr + 1}')",
        "if closed:",
        "if lr > 1:",
        "raise ValueError('closed')",
    }


def test_a_statement_knows_the_conditions_around_it() -> None:
    guards = {alteration.texts()[0]: alteration.site.guards for alteration in found()}
    assert guards["p.add_(grad)"] == ("capturable",)
    assert guards["del grad"] == ("not (capturable)",)


def test_a_default_counts_as_executed_where_the_body_is() -> None:
    lines = {a.texts()[0]: a.lines for a in found() if a.site.default is not None}
    first = SOURCE.splitlines().index("        if not 0.0 <= lr:") + 1
    assert lines == {"lr=0.5": (first, first + 5), "betas=(0.9, 0.99)": (first, first + 5)}


def test_applying_changes_what_the_module_does() -> None:
    tree = ast.parse("def double(x):\n    return x * 2\n")
    halve = next(
        alteration for alteration in alterations(tree, lambda _: True) if alteration.kind == operators.OPERATOR
    )
    halve.apply()
    names: dict[str, object] = {}
    exec(compile(tree, "module", "exec"), names)  # noqa: S102 - compiled two lines above
    double = names["double"]
    assert callable(double)
    assert double(4.0) == 2.0


def test_texts_leave_the_tree_as_it_was() -> None:
    tree = ast.parse(SOURCE)
    before = ast.dump(tree)
    for alteration in alterations(tree, lambda _: True):
        alteration.texts()
    assert ast.dump(tree) == before


def test_every_alteration_compiles() -> None:
    for number in range(len(found())):
        tree = ast.parse(SOURCE)
        list(alterations(tree, lambda function: not matching(function, ("*.__repr__",))))[number].apply()
        compile(tree, "module", "exec")


def test_a_long_line_is_cut_around_what_differs() -> None:
    names = ", ".join(f"name{i}" for i in range(60))
    ((before, after),) = texts(operators.OPERATOR, f"x = ({names}, a + b, {names})")
    assert len(before) <= WIDTH + 1
    assert "a + b" in before
    assert "a - b" in after


def test_the_header_of_a_statement_ends_where_its_body_begins() -> None:
    (statement,) = ast.parse("if (\n    a\n    or b\n):\n    c\nelse:\n    d\n").body
    assert header_lines(statement) == (1, 4)


@pytest.mark.parametrize(
    ("function", "pattern", "expected"),
    [
        ("Adam.step", "Adam", True),
        ("Adam.step.inner", "Adam.step", True),
        ("Optimizer.register_hook", "Optimizer.register_*", True),
        ("adam", "Adam", False),
        ("AdamW.step", "Adam", False),
    ],
)
def test_a_pattern_matches_a_function_and_what_is_in_it(function: str, pattern: str, expected: bool) -> None:
    assert matching(function, (pattern,)) is expected
