"""Every line of the judge can fail: a copy of it with one mistake planted is noticed by the battery.

First the mistakes that comparators in this field really had, by name; then every comparison, condition,
operator, number, text, argument and ``yield`` of the module, one at a time.
"""

from __future__ import annotations

import ast
import copy
import inspect
import itertools
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import judge_cases
import pytest

from pytest_optcheck import judge

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = inspect.getsource(judge)
NAME = "optcheck_mutated_judge"

Anything: TypeAlias = Any
"""What a node transformer may return."""


def execute(tree: ast.Module | str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that this source makes."""
    module = ModuleType(NAME)
    monkeypatch.setitem(sys.modules, NAME, module)  # dataclasses look their module up
    exec(compile(tree, NAME, "exec"), vars(module))  # noqa: S102 - our own source
    return module


def unnoticed(module: ModuleType) -> bool:
    """Whether no case tells the mutated judge from the real one."""
    return set(judge_cases.complaints(module)) <= set(judge_cases.complaints(judge))


class Mistake(NamedTuple):
    """A mistake to plant: the text it replaces stands in the judge exactly once."""

    name: str
    right: str
    wrong: str


TOLERANCE = "not distance <= policy.tolerance(point.envelope, run.dtype, part)"
DEVIATION = "None if value is None else deviation(value, point.value,"
NORMS = "in curve.norms.items()),"
POINTS = "for point in points:\n            value"
WINDOW = "curve.diverges[0] <= failure.step <= curve.diverges[1]"
RATE = "not abs(now - then) <= policy.rate * max(map(abs, expected))"
RATES = "enumerate(zip(found, expected, strict=False))"
REFERENCE = "golden.reference(run.dtype, run.route)"
KNOWN_LAWS = "golden.broken.get(run.route, {})"

MISTAKES = [
    Mistake("inverted_comparison", TOLERANCE, "distance <= policy.tolerance(point.envelope, run.dtype, part)"),
    Mistake("nan_is_accepted", TOLERANCE, "policy.tolerance(point.envelope, run.dtype, part) < distance < math.inf"),
    Mistake("margin_ignored", TOLERANCE, "not distance <= policy.envelope(point.envelope, run.dtype, part)"),
    Mistake("floor_ignored", TOLERANCE, "not distance <= policy.margin * point.envelope"),
    Mistake("envelope_ignored", TOLERANCE, "not distance <= policy.tolerance(0.0, run.dtype, part)"),
    Mistake("cancellation_ignored", TOLERANCE, "not distance <= policy.tolerance(point.envelope, run.dtype)"),
    Mistake("cancellation_in_norms", "1.0 if tensor is not None else ", ""),
    Mistake("nothing_is_outside", TOLERANCE, "False"),
    Mistake("everything_is_outside", TOLERANCE, "True"),
    Mistake(
        "only_a_growing_value_counts",
        DEVIATION,
        "None if value is None else deviation(max(value, point.value), point.value,",
    ),
    Mistake(
        "only_a_falling_value_counts",
        DEVIATION,
        "None if value is None else deviation(min(value, point.value), point.value,",
    ),
    Mistake("missing_value_accepted", DEVIATION, "0.0 if value is None else deviation(value, point.value,"),
    Mistake("float32_floor_everywhere", "EPS[dtype]", 'EPS["float32"]'),
    Mistake("float64_floor_everywhere", "EPS[dtype]", 'EPS["float64"]'),
    Mistake("float64_curve_everywhere", REFERENCE, 'golden.reference("float64", run.route)'),
    Mistake("last_step_exempt", POINTS, "for point in points[:-1]:\n            value"),
    Mistake("first_step_exempt", POINTS, "for point in points[1:]:\n            value"),
    Mistake(
        "last_step_of_a_long_curve_exempt", POINTS, "for point in points[: max(2, len(points) - 1)]:\n            value"
    ),
    Mistake("norms_ignored", NORMS, "in ()),"),
    Mistake("one_tensor_only", NORMS, "in list(curve.norms.items())[:1]),"),
    Mistake("last_tensor_only", NORMS, "in list(curve.norms.items())[-1:]),"),
    Mistake("norms_of_the_run_only", NORMS, "in curve.norms.items() if name in run.norms),"),
    Mistake("losses_ignored", "(None, curve.losses, dict(enumerate(run.losses))),", ""),
    Mistake("losses_one_late", "dict(enumerate(run.losses)))", "dict(enumerate(run.losses, 1)))"),
    Mistake("short_run_accepted", "(failure is not None and found is None)", "found is None"),
    Mistake("failure_ignored", "    failure = run.failure\n    if failure", "    failure = None\n    if failure"),
    Mistake("failed_run_not_compared", "or (failure is not None and", "or failure is not None or ("),
    Mistake("raise_ignored", 'failure.kind == "raised"', "False"),
    Mistake("diverges_window_ignored", WINDOW, "False"),
    Mistake("diverges_window_open", WINDOW, "True"),
    Mistake("diverges_window_one_late", WINDOW, "curve.diverges[0] < failure.step <= curve.diverges[1]"),
    Mistake("diverges_window_one_early", WINDOW, "curve.diverges[0] <= failure.step < curve.diverges[1]"),
    Mistake(
        "nothing_compared_where_declared",
        "failure.step if failure is not None and _decl",
        "0 if failure is not None and _decl",
    ),
    Mistake("staying_finite_accepted", "if failure is None and curve.diverges is not None:", "if False:"),
    Mistake("blow_up_ignored", "> policy.blow_up * height and changed", "> math.inf"),
    Mistake("blow_up_by_default_only", "> policy.blow_up * height", "> Policy.blow_up * height"),
    Mistake("blow_up_upwards_only", "max(map(abs, run.losses), default=0.0)", "max(run.losses, default=0.0)"),
    Mistake("blow_up_within_the_envelope", "height and changed", "height"),
    Mistake("tensor_order_reversed", "(found.step, -found.envelopes)", "(found.step, found.envelopes)"),
    Mistake("step_order_reversed", "(found.step, -found.envelopes)", "(-found.step, -found.envelopes)"),
    Mistake("steps_unordered", "(found.step, -found.envelopes)", "-found.envelopes"),
    Mistake(
        "deviation_for_envelopes",
        "distance / policy.envelope(point.envelope, run.dtype, part), distance",
        "distance, distance",
    ),
    Mistake("stale_digest_accepted", "golden.workload.digest != digest", "False"),
    Mistake("missing_dtype_accepted", "dtype not in golden.curves", "False"),
    Mistake("missing_route_accepted", "route not in (PLAIN, *golden.routes)", "False"),
    Mistake("routes_ignored", REFERENCE, "golden.curves.get(run.dtype)"),
    Mistake("routes_not_judged", "bool(outside)", "bool(outside) and run.route == PLAIN"),
    Mistake("rate_ignored", RATE, "False"),
    Mistake("rate_inverted", RATE, "abs(now - then) <= policy.rate * max(map(abs, expected))"),
    Mistake("rate_of_nan_is_accepted", RATE, "abs(now - then) > policy.rate * max(map(abs, expected))"),
    Mistake("rate_too_low_is_accepted", RATE, "not now - then <= policy.rate * max(map(abs, expected))"),
    Mistake("rate_too_high_is_accepted", RATE, "not then - now <= policy.rate * max(map(abs, expected))"),
    Mistake("rate_relative_to_itself", RATE, "not abs(now - then) <= policy.rate * abs(then)"),
    Mistake("rate_tolerance_is_absolute", RATE, "not abs(now - then) <= policy.rate"),
    Mistake("rate_tolerance_may_be_negative", RATE, "not abs(now - then) <= policy.rate * max(expected)"),
    Mistake(
        "rate_of_the_first_group_only", "zip(run.rates, golden.rates, strict=True)", "zip(run.rates[:1], golden.rates)"
    ),
    Mistake("rate_of_the_start_ignored", RATES, "list(enumerate(zip(found, expected, strict=False)))[1:]"),
    Mistake("rate_beyond_the_end_ignored", RATES, "list(enumerate(zip(found, expected, strict=False)))[:-1]"),
    Mistake("rate_one_update_late", RATES, "enumerate(zip(found, expected, strict=False), 1)"),
    Mistake("length_of_a_schedule_ignored", "len(found) != len(expected)", "False"),
    Mistake("shorter_schedule_accepted", "len(found) != len(expected)", "len(found) > len(expected)"),
    Mistake("longer_schedule_accepted", "len(found) != len(expected)", "len(found) < len(expected)"),
    Mistake("number_of_groups_ignored", "None if failed else f", "None if True else f"),
    Mistake("failed_run_must_have_all_groups", "None if failed else f", "f"),
    Mistake("failed_run_must_have_all_rates", "len(expected) and not failed", "len(expected)"),
    Mistake("rates_hide_a_failure", 'kind in ("match", "changed") and rate', "rate"),
    Mistake("rates_of_a_changed_curve_ignored", 'kind in ("match", "changed") and rate', 'kind == "match" and rate'),
    Mistake("laws_ignored", "law = _lost_law(run, golden)", 'law = ""'),
    Mistake("law_of_any_route_forgiven", KNOWN_LAWS, "{law for laws in golden.broken.values() for law in laws}"),
    Mistake("laws_never_forgiven", KNOWN_LAWS, "()"),
    Mistake("one_forgiven_law_forgives_all", "if law not in known", "if not known"),
    Mistake("law_outweighs_a_change", 'if kind == "match" and law:', "if law:"),
    Mistake("law_told_before_the_rest", "note = note or law", "note = law or note"),
    Mistake("law_of_a_changed_run_is_not_told", "note = note or law", 'note = note or (law if kind == "lost" else "")'),
    Mistake("existence_ignored", "if exists", "if True"),
    Mistake("margin_is_a_ceiling", "return max(self.margin", "return min(self.margin"),
    Mistake("free_is_a_floor", "min(self.generous * envelope, self.free)", "max(envelope, self.free)"),
    Mistake("free_ignored", "min(self.generous * envelope, self.free)", "self.generous * envelope"),
    Mistake("generosity_ignored", "min(self.generous * envelope, self.free)", "0.0"),
    Mistake("final_loss_of_the_start", "final_old=curve.losses[-1].value", "final_old=curve.losses[0].value"),
    Mistake(
        "kinds_out_of_order",
        'Kind = Literal[\n    "match",\n    "incomparable",\n',
        'Kind = Literal[\n    "incomparable",\n    "match",\n',
    ),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_planted_mistake_is_noticed(mistake: Mistake, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SOURCE.count(mistake.right) == 1, "the judge was rewritten: rewrite the mistake too"
    mutated = SOURCE.replace(mistake.right, mistake.wrong)
    assert not unnoticed(execute(mutated, monkeypatch))


def test_an_unchanged_copy_answers_as_the_judge_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy, not the mutation, must not be what the battery notices."""
    assert judge_cases.complaints(execute(SOURCE, monkeypatch)) == judge_cases.complaints(judge)


def test_a_judge_that_raises_is_noticed() -> None:
    assert len(judge_cases.complaints(ModuleType(NAME))) == len(judge_cases.CASES)


OPPOSITES: dict[type[ast.AST], list[ast.AST]] = {
    ast.Lt: [ast.LtE(), ast.GtE()],
    ast.LtE: [ast.Lt(), ast.Gt()],
    ast.Gt: [ast.GtE(), ast.LtE()],
    ast.GtE: [ast.Gt(), ast.Lt()],
    ast.Eq: [ast.NotEq()],
    ast.NotEq: [ast.Eq()],
    ast.Is: [ast.IsNot()],
    ast.IsNot: [ast.Is()],
    ast.In: [ast.NotIn()],
    ast.NotIn: [ast.In()],
    ast.And: [ast.Or()],
    ast.Or: [ast.And()],
    ast.Mult: [ast.Div(), ast.Add()],
    ast.Div: [ast.Mult()],
    ast.Add: [ast.Sub()],
    ast.Sub: [ast.Add()],
}


def _replacements(node: ast.AST) -> Iterator[ast.AST]:
    """Every way in which one node can be wrong, each as a node in its place."""
    yield from _wrong_operators(node)
    yield from _wrong_branches(node)
    yield from _wrong_constants(node)
    yield from _wrong_calls(node)


def _wrong_operators(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(ops=operators):
            for position, operator in enumerate(operators):
                for opposite in OPPOSITES[type(operator)]:
                    wrong = copy.deepcopy(node)
                    wrong.ops[position] = opposite  # type: ignore[call-overload] # the table holds operators
                    yield wrong
        case ast.BoolOp(op=operator) | ast.BinOp(op=operator):
            for opposite in OPPOSITES[type(operator)]:
                other = copy.deepcopy(node)
                other.op = opposite  # type: ignore[assignment] # the table holds operators
                yield other
        case ast.UnaryOp(operand=operand):
            yield operand


def _wrong_branches(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield ast.IfExp(test, orelse, body)
            yield body
            yield orelse
        case ast.If(test=test, body=statements, orelse=otherwise):
            yield ast.If(ast.UnaryOp(ast.Not(), test), statements, otherwise)
        case ast.Yield() | ast.YieldFrom():
            yield ast.Constant(None)


def _wrong_constants(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=str(value)):
            yield ast.Constant(f"{value} but wrong")


def _wrong_calls(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Call(func=ast.Name(id="max" | "min" as name)):
            wrong = copy.deepcopy(node)
            wrong.func = ast.Name("min" if name == "max" else "max", ast.Load())
            yield wrong
        case ast.Call(args=positional, keywords=keywords):
            for position in range(len(keywords)):
                wrong = copy.deepcopy(node)
                wrong.keywords[position].value = ast.Constant(None)
                yield wrong
            for first, second in itertools.pairwise(range(len(positional))):
                wrong = copy.deepcopy(node)
                wrong.args[first], wrong.args[second] = wrong.args[second], wrong.args[first]
                yield wrong


def _no_code(tree: ast.Module) -> set[ast.AST]:
    """Docstrings, annotations, imports and format specifications: nothing in them decides a verdict."""
    roots: list[ast.AST | None] = []
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant()) | ast.Import() | ast.ImportFrom():
                roots.append(node)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                roots.append(node)
            case ast.Assign(targets=[ast.Name(id="Kind")]):
                roots.append(node)
            case ast.FunctionDef(returns=returned, decorator_list=decorators):
                roots += [returned, *decorators]
            case ast.ClassDef(decorator_list=decorators):
                roots += decorators
            case ast.arg(annotation=annotation) | ast.AnnAssign(annotation=annotation):
                roots.append(annotation)
            case ast.FormattedValue(format_spec=specification):
                roots.append(specification)
    return {inner for root in roots if root is not None for inner in ast.walk(root)}


class Mutant(NamedTuple):
    """The judge with one node replaced: the how-manieth node, and which of its replacements."""

    line: int
    right: str
    wrong: str
    node: int
    replacement: int

    @property
    def name(self) -> str:
        """Short enough for a test's id."""
        return f"{self.line}: {self.right.splitlines()[0]} -> {self.wrong.splitlines()[0]}"[:120]

    @property
    def tree(self) -> ast.Module:
        """A fresh tree with the one node replaced."""
        tree = ast.parse(SOURCE)
        right = list(ast.walk(tree))[self.node]
        place = _Replace(right, list(_replacements(right))[self.replacement])
        mutated: ast.Module = ast.fix_missing_locations(place.visit(tree))
        assert place.replaced == 1
        return mutated


class _Replace(ast.NodeTransformer):
    """Puts one node in the place of another."""

    def __init__(self, right: ast.AST, wrong: ast.AST) -> None:
        self.right = right
        self.wrong = wrong
        self.replaced = 0

    def visit(self, node: ast.AST) -> Anything:
        """The other node in place of the one."""
        if node is not self.right:
            return super().generic_visit(node)
        self.replaced += 1
        return self.wrong


def _mutants() -> Iterator[Mutant]:
    tree = ast.parse(SOURCE)
    spared = _no_code(tree)
    for position, node in enumerate(ast.walk(tree)):
        for replacement, wrong in enumerate([] if node in spared else _replacements(node)):
            right, text = ast.unparse(node), ast.unparse(wrong)
            if text != right:  # else two equal arguments, swapped
                yield Mutant(getattr(node, "lineno", 0), right, text, position, replacement)


MUTANTS = list(_mutants())

HARMLESS: dict[tuple[str, str], str] = {
    (
        "zip(run.rates, golden.rates, strict=True)",
        "zip(run.rates, golden.rates, strict=None)",
    ): "their lengths were compared on the line above",
    ("True", "False"): "ditto",
    (
        "zip(found, expected, strict=False)",
        "zip(found, expected, strict=None)",
    ): "zip takes None for False",
}
"""(right, wrong) -> why the two cannot be told apart."""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_is_noticed(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    harmless = (mutant.right, mutant.wrong) in HARMLESS
    assert unnoticed(execute(mutant.tree, monkeypatch)) == harmless


def test_every_function_of_the_judge_is_mutated() -> None:
    functions = [node for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, ast.FunctionDef)]
    assert functions
    for function in functions:
        lines = range(function.lineno, (function.end_lineno or 0) + 1)
        assert any(mutant.line in lines for mutant in MUTANTS), function.name


def test_every_harmless_mutation_still_exists() -> None:
    assert set(HARMLESS) <= {(mutant.right, mutant.wrong) for mutant in MUTANTS}
