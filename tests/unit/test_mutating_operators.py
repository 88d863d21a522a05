"""Single alterations: each kind makes the slips it is meant to make, and no others."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.mutating import operators


def altered(text: str) -> list[str]:
    """What the outermost node of an expression may become."""
    node = ast.parse(text, mode="eval").body
    return [ast.unparse(ast.fix_missing_locations(new)) for _, new in operators.expressions(node)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b", ["a - b"]),
        ("1 - lr * wd", ["1 + lr * wd", "lr * wd - 1"]),
        ("beta ** step", ["beta * step", "step ** beta"]),
        ("x - x", ["x + x"]),
        ("-step_size", ["step_size"]),
        ("not maximize", ["maximize"]),
        ("0.0 <= beta < 1.0", ["0.0 < beta < 1.0", "0.0 <= beta <= 1.0"]),
        ("x is not None", ["x is None"]),
        ("key not in state", ["key in state"]),
        ("a and b and c", ["a or b or c"]),
        ("a if x else b", ["a if not x else b"]),
        ("a if x == 0 else b", []),  # the comparison's own alteration is the same
        ("True", ["False"]),
        ("0", ["1", "-1"]),
        ("0.5", ["0.505", "0.0"]),
        ("None", []),
        ("'text'", []),
        ("f(a, b)", ["f(b, a)"]),
        ("f(a, a)", []),
        ("max(a, b)", []),
        ("torch.maximum(a, b, out=a)", []),
        ("f(x=a, y=b)", ["f(x=b, y=a)"]),
        ("f(*rest, a)", ["f(a, *rest)"]),
        ("isinstance(x, Tensor)", []),
        ("denom.add_(eps)", ["denom"]),
        ("a.mul(b).add_(c, d)", ["a.mul(b).add_(d, c)", "a.mul(b)"]),
        ("torch.zeros(n)", []),
        ("super().__setstate__(state)", []),
        ("group.get('fused')", []),
        ("'a' + name", []),
    ],
)
def test_an_expression_becomes_what_a_slip_would_make_of_it(text: str, expected: list[str]) -> None:
    assert altered(text) == expected


@pytest.mark.parametrize(("text", "count"), [("not x", 0), ("x is None", 0), ("True", 0), ("x > 0", 1), ("x", 1)])
def test_a_condition_is_negated_once(text: str, count: int) -> None:
    assert len(list(operators.negated(ast.parse(text, mode="eval").body))) == count


@pytest.mark.parametrize(
    ("text", "bound", "expected"),
    [
        ("grad = grads[i]", "i grads", False),
        ("grad = -grad", "grad", True),
        ("a, b = b, a", "a", False),
        ("a, b = b, a", "a b", True),
        ("state['step'] = 0", "state", True),
        ("step: int = 1", "", False),
        ("step: int", "step", False),
        ("step += 1", "", True),
        ("param.add_(grad)", "", True),
        ("raise ValueError", "", True),
        ("pass", "", False),
        ("import math", "", False),
    ],
)
def test_a_statement_is_dropped_unless_every_run_would_end_in_a_name_error(
    text: str, bound: str, expected: bool
) -> None:
    assert operators.droppable(ast.parse(text).body[0], frozenset(bound.split())) is expected


def test_an_augmented_assignment_has_another_operator() -> None:
    (statement,) = ast.parse("step += 1").body
    assert isinstance(statement, ast.AugAssign)
    assert [type(new) for _, new in operators.assigned(statement)] == [ast.Sub]
