from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.schedules import SchedulerSpec
from pytest_optcheck.specs import FactorySpec, TextSpec, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

MODULE = "optcheck_spec_targets"


class Target:
    """Stands for an optimizer; keeps what it was built with."""

    def __init__(self, params: Iterable[Any], lr: float = 0.1, *, betas: tuple[float, ...] = ()) -> None:
        self.built = (list(params), lr, betas)

    class Nested:
        def __init__(self, params: Iterable[Any], rate: float) -> None:
            self.built = (list(params), rate)


def takes_all(params: Iterable[Any], **keywords: object) -> tuple[list[Any], dict[str, object]]:
    return list(params), keywords


def takes_params_only(params: Iterable[Any]) -> list[Any]:
    return list(params)


def takes_nothing() -> None:
    return None


@pytest.fixture
def targets(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An importable module with one target of every kind."""
    module = ModuleType(MODULE)
    vars(module).update(
        Target=Target,
        takes_all=takes_all,
        takes_params_only=takes_params_only,
        takes_nothing=takes_nothing,
        number=3,
    )
    monkeypatch.setitem(sys.modules, MODULE, module)
    return module


def refusal(text: str) -> str:
    """The one line with which `text` is refused."""
    with pytest.raises(OptcheckError) as caught:
        parse(text).factory()
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    return line


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("torch.optim:Adam", "torch.optim:Adam()"),
        ("torch.optim:Adam()", "torch.optim:Adam()"),
        ("  torch.optim : Adam ( ) ".replace(" :", ":"), "torch.optim:Adam()"),
        ("torch.optim:Adam(lr=3e-3)", "torch.optim:Adam(lr=0.003)"),
        ("torch.optim:Adam(lr=.003,)", "torch.optim:Adam(lr=0.003)"),
        ("m:A(weight_decay=0.1, lr=1e-3)", "m:A(lr=0.001, weight_decay=0.1)"),
        ("m:A(b=True, a=None, c=False)", "m:A(a=None, b=True, c=False)"),
        ('m:A(name="adam")', "m:A(name='adam')"),
        ("m:A(betas=(.9,.999))", "m:A(betas=(0.9, 0.999))"),
        ("m:A(x=[1,2], y={'b': 1, 'a': -2})", "m:A(x=[1, 2], y={'b': 1, 'a': -2})"),
        ("m:A(x=1_000)", "m:A(x=1000)"),
        ("m:A(x=1, y=1.0)", "m:A(x=1, y=1.0)"),
        ("m:Outer.Inner(lr=1)", "m:Outer.Inner(lr=1)"),
        ("a.b.c:D", "a.b.c:D()"),
    ],
)
def test_the_same_optimizer_always_gives_the_same_text(written: str, canonical: str) -> None:
    assert parse(written).text == canonical
    assert parse(canonical).text == canonical


def test_a_spec_is_parsed_into_module_name_and_sorted_keywords() -> None:
    assert parse("a.b:C.D(y=2, x=1)") == TextSpec("a.b", "C.D", (("x", 1), ("y", 2)))


def test_parsing_imports_nothing() -> None:
    assert parse("no.such.module:Optimizer(lr=1) >> no.such.Scheduler(x=no.such.function)").module == "no.such.module"


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("m:A>>StepLR(step_size=30)", "m:A() >> StepLR(step_size=30)"),
        ("m:A(lr=1) >> B(y=2, x=1) >> c.D", "m:A(lr=1) >> B(x=1, y=2) >> c.D()"),
        ("m:(A(lr=1) >> B()) >> C(x={'a': 1})", "m:A(lr=1) >> B() >> C(x={'a': 1})"),
    ],
)
def test_schedulers_follow_in_their_order(written: str, canonical: str) -> None:
    assert parse(written).text == canonical
    assert parse(canonical) == parse(written)


def test_a_scheduler_is_part_of_the_spec() -> None:
    spec = parse("m:A(lr=1) >> StepLR(step_size=30)")
    assert spec == TextSpec("m", "A", (("lr", 1),), (SchedulerSpec("StepLR", (("step_size", 30),)),))
    assert spec != parse("m:A(lr=1)")


def test_a_spec_with_lists_among_its_arguments_can_be_hashed() -> None:
    assert len({parse("m:A(x=[1]) >> B(y=[2])"), parse("m:A(x=[1]) >> B(y=[2])")}) == 1


@pytest.mark.parametrize("text", ["m:A() << B()", "m:A() >> B() + C()", "m:3 >> B()", "m:A() >>", "m:>> B()"])
def test_other_operators_are_not_read_as_a_schedule(text: str) -> None:
    assert "expected " in refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Adam",
        "torch.optim.Adam(lr=1)",
        ":Adam",
        "torch..optim:Adam",
        "torch optim:Adam",
        "1torch:Adam",
        "torch.optim:",
        "torch.optim:Adam(",
        "torch.optim:Adam(lr=)",
        "torch.optim:Adam(lr=1))",
        "torch.optim:Adam(lr=1) + 1",
        "torch.optim:Adam()()",
        "torch.optim:Adam[0]",
        "torch.optim:1",
        "torch.optim:Adam\x00",
        "torch.optim:Adam()\nimport os",
    ],
)
def test_a_bad_shape_is_answered_with_the_right_one(text: str) -> None:
    assert refusal(text) == (
        f"optimizer spec {text!r}: expected module:Class(keyword=literal, …), as torch.optim:AdamW(lr=0.001)"
    )


@pytest.mark.parametrize("arguments", ["0.1", "0.1, lr=1", "*[1]", "**{'lr': 1}", "lr=1, **{}"])
def test_arguments_without_a_keyword_are_refused(arguments: str) -> None:
    text = f"torch.optim:SGD({arguments})"
    assert refusal(text) == f"optimizer spec {text!r}: arguments must be written keyword=literal"


def test_a_repeated_keyword_is_refused() -> None:
    text = "torch.optim:SGD(lr=1, lr=2)"
    assert refusal(text) == f"optimizer spec {text!r}: a keyword is written twice"


@pytest.mark.parametrize(
    "value",
    [
        "x",
        "f()",
        "__import__('os').getcwd()",
        "1 * 2",
        "[x]",
        "lambda: 1",
        "{1, 2}",
        "1e999",
        "-1e999",
        "(0.9, 1e999)",
        "nan",
        "-'a'",
        "...",
        "{[]: 1}",
        "[{1, 2}]",
        "{'a': {'b', 'c'}}",
    ],
)
def test_what_is_not_a_finite_literal_of_fixed_order_is_refused(value: str) -> None:
    line = refusal(f"torch.optim:SGD(lr={value})")
    assert line.startswith(f"optimizer spec {f'torch.optim:SGD(lr={value})'!r}: lr=")
    assert " is not a literal; finite numbers, strings, " in line


def test_a_module_that_is_missing_is_named() -> None:
    assert refusal("optcheck_no_such_module:A(lr=1)") == (
        "optimizer optcheck_no_such_module:A(lr=1): module 'optcheck_no_such_module' does not import "
        "(ModuleNotFoundError: No module named 'optcheck_no_such_module')"
    )


def test_a_module_that_raises_on_import_is_named_with_its_first_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Raising:
        def find_spec(self, name: str, *_rest: object) -> None:
            if name == "optcheck_raises":
                raise RuntimeError("needs a licence\nand more")

    monkeypatch.setattr(sys, "meta_path", [Raising(), *sys.meta_path])
    assert refusal("optcheck_raises:A") == (
        "optimizer optcheck_raises:A(): module 'optcheck_raises' does not import (RuntimeError: needs a licence)"
    )


@pytest.mark.usefixtures("targets")
def test_a_missing_name_comes_with_its_near_misses() -> None:
    assert refusal(f"{MODULE}:numbr") == (
        f"optimizer {MODULE}:numbr(): {MODULE!r} has no 'numbr'; did you mean 'number'?"
    )
    assert refusal(f"{MODULE}:takes_al").endswith("; did you mean 'takes_all' or 'takes_params_only'?")


@pytest.mark.usefixtures("targets")
def test_a_missing_name_without_a_near_miss_stands_alone() -> None:
    assert refusal(f"{MODULE}:Zzzzzz") == f"optimizer {MODULE}:Zzzzzz(): {MODULE!r} has no 'Zzzzzz'"


@pytest.mark.usefixtures("targets")
def test_a_missing_nested_name_is_looked_for_in_its_class() -> None:
    assert refusal(f"{MODULE}:Target.Nestd").endswith("has no 'Target.Nestd'; did you mean 'Nested'?")


def test_a_lazy_name_that_fails_to_import_is_refused_in_one_line(targets: ModuleType) -> None:
    def lazily(name: str) -> None:
        if name == "Lazy":
            raise ImportError(f"{name} needs another package")
        raise AttributeError(name)

    vars(targets)["__getattr__"] = lazily
    assert "Lazy needs another package" in refusal(f"{MODULE}:Lazy")


@pytest.mark.usefixtures("targets")
def test_what_cannot_be_called_is_refused() -> None:
    assert refusal(f"{MODULE}:number") == (f"optimizer {MODULE}:number(): 'number' is a int, not a class or a factory")


@pytest.mark.usefixtures("targets")
@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        ("Target(rl=1)", "Target takes no 'rl'; it takes lr, betas"),
        ("Target(z=1, rl=1)", "Target takes no 'rl', 'z'; it takes lr, betas"),
        ("Target(params=1)", "Target takes no 'params'; it takes lr, betas"),
        ("takes_params_only(lr=1)", "takes_params_only takes no 'lr'; it takes no keywords"),
        ("Target.Nested()", "Target.Nested cannot be called so: missing a required argument: 'rate'"),
        ("takes_nothing()", "takes_nothing cannot be called so: too many positional arguments"),
        ("takes_all(params=1)", "takes_all cannot be called so: multiple values for argument 'params'"),
    ],
)
def test_a_call_that_does_not_fit_the_signature_is_refused(call: str, complaint: str) -> None:
    spec = parse(f"{MODULE}:{call}")
    assert refusal(f"{MODULE}:{call}") == f"optimizer {spec.text}: {complaint}"


@pytest.mark.usefixtures("targets")
def test_the_keywords_reach_the_target() -> None:
    built = parse(f"{MODULE}:Target(betas=(1, 2), lr=0.5)").factory()(iter("ab"))
    assert built.built == (["a", "b"], 0.5, (1, 2))


@pytest.mark.usefixtures("targets")
def test_a_nested_name_is_found() -> None:
    assert parse(f"{MODULE}:Target.Nested(rate=2)").factory()("a").built == (["a"], 2)


@pytest.mark.usefixtures("targets")
def test_a_target_with_keywords_of_any_name_takes_every_one() -> None:
    assert parse(f"{MODULE}:takes_all(anything=1)").factory()("a") == (["a"], {"anything": 1})


def test_a_c_callable_without_a_signature_is_tried() -> None:
    assert parse("builtins:dict(lr=1)").factory()([]) == {"lr": 1}


@pytest.mark.usefixtures("targets")
def test_the_factory_builds_the_optimizer_without_its_schedulers() -> None:
    assert parse(f"{MODULE}:Target(lr=2) >> StepLR(step_size=30)").factory()("a").built == (["a"], 2, ())


def test_the_schedules_of_a_spec_are_built_for_an_optimizer_in_their_order() -> None:
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.5)
    step, exponential = parse("m:A() >> StepLR(step_size=30) >> ExponentialLR(gamma=0.5)").schedules()(optimizer)
    assert isinstance(step, torch.optim.lr_scheduler.StepLR)
    assert isinstance(exponential, torch.optim.lr_scheduler.ExponentialLR)
    assert step.optimizer is exponential.optimizer is optimizer


def test_settings_are_added_or_replaced_and_the_schedulers_kept() -> None:
    spec = parse("m:A(b=1, c=2) >> StepLR(step_size=30)")
    assert spec.with_settings(a=0, c=3).text == "m:A(a=0, b=1, c=3) >> StepLR(step_size=30)"
    assert spec.with_settings() == spec


@pytest.mark.usefixtures("targets")
def test_a_spec_tells_what_its_target_accepts() -> None:
    assert parse(f"{MODULE}:Target(lr=1)").accepts() == {"lr": 0.1, "betas": ()}
    assert parse(f"{MODULE}:Target.Nested").accepts() == {"rate": inspect.Parameter.empty}
    assert parse(f"{MODULE}:takes_all").accepts() == {}
    assert parse("builtins:dict").accepts() is None


def test_a_factory_spec_has_no_schedules_of_its_own() -> None:
    assert FactorySpec("A", list).schedules()("the optimizer") == []


def test_a_factory_spec_hands_out_its_factory_under_its_name() -> None:
    spec = FactorySpec("Target(lr=2)", lambda params: Target(params, lr=2))
    assert spec.text == "Target(lr=2)"
    assert spec.factory()("a").built == (["a"], 2, ())
