from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.nesting import bind, first_parameter, names_optimizer

if TYPE_CHECKING:
    from collections.abc import Iterable

MODULE = "optcheck_nested_targets"


class Base:
    """Stands for a base optimizer; keeps what it was built with."""

    def __init__(self, params: Iterable[Any], lr: float = 0.1) -> None:
        self.built = (list(params), lr)


class Around:
    """Takes an optimizer first."""

    def __init__(self, optimizer: Base, k: int = 5) -> None:
        self.optimizer, self.k = optimizer, k


class Makes:
    """Takes parameters first, and the class of the optimizer that it makes."""

    def __init__(self, params: Iterable[Any], base: type[Base], name: str = "") -> None:
        self.base, self.name = base(params), name


@pytest.fixture(autouse=True)
def targets(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(MODULE)
    vars(module).update(Base=Base, Around=Around, Makes=Makes, number=3)
    monkeypatch.setitem(sys.modules, MODULE, module)


def refusal(target: type, **keywords: object) -> str:
    with pytest.raises(OptcheckError) as caught:
        bind("optimizer X", target.__name__, target, keywords)
    return str(caught.value)


def test_without_a_named_optimizer_the_target_gets_the_parameters() -> None:
    built = bind("optimizer X", "Base", Base, {"lr": 0.5})([1, 2])
    assert built.built == ([1, 2], 0.5)


def test_a_named_first_parameter_gets_that_optimizer_on_the_parameters() -> None:
    built = bind("optimizer X", "Around", Around, {"optimizer": f"{MODULE}:Base(lr=0.5)", "k": 2})([1, 2])
    assert isinstance(built.optimizer, Base)
    assert built.optimizer.built == ([1, 2], 0.5)
    assert built.k == 2


def test_every_call_builds_a_base_of_its_own() -> None:
    factory = bind("optimizer X", "Around", Around, {"optimizer": f"{MODULE}:Base"})
    assert factory([1]).optimizer is not factory([1]).optimizer


def test_elsewhere_the_name_stands_for_the_class() -> None:
    built = bind("optimizer X", "Makes", Makes, {"base": f"{MODULE}:Base", "name": "a:"})([1])
    assert built.base.built == ([1], 0.1)
    assert built.name == "a:"


def test_arguments_of_a_named_class_are_bound() -> None:
    built = bind("optimizer X", "Makes", Makes, {"base": f"{MODULE}:Base(lr=0.5)"})([1])
    assert built.base.built == ([1], 0.5)


def test_the_same_text_may_stand_in_two_places() -> None:
    def both(optimizer: Base, base: type[Base]) -> tuple[Base, type[Base]]:
        return optimizer, base

    text = f"{MODULE}:Base"
    assert bind("optimizer X", "both", both, {"optimizer": text, "base": text})([1])[1] is Base


def test_unknown_keywords_are_refused() -> None:
    assert refusal(Around, optimizer=f"{MODULE}:Base", j=1) == "optimizer X: Around takes no 'j'; it takes k"
    assert refusal(Base, params=[1]) == "optimizer X: Base takes no 'params'; it takes lr"
    assert refusal(Makes, base=f"{MODULE}:Base(j=1)") == "optimizer X: Base takes no 'j'; it takes lr"
    assert "Base takes no 'j'" in refusal(Around, optimizer=f"{MODULE}:Base(j=1)")


def test_what_is_not_there_is_refused() -> None:
    assert "no 'Bass'; did you mean 'Base'?" in refusal(Makes, base=f"{MODULE}:Bass")
    assert "is a int, not a class or a factory" in refusal(Makes, base=f"{MODULE}:number")
    assert "no_such_module" in refusal(Around, optimizer="no_such_module:Base")


def test_schedulers_of_a_named_optimizer_are_refused() -> None:
    text = f"{MODULE}:Base(lr=0.1) >> StepLR(step_size=3)"
    assert "they belong after the outer optimizer" in refusal(Around, optimizer=text)


@pytest.mark.parametrize("text", ["torch.optim:SGD", "torch.optim:SGD()", "m:A.B(lr=0.1, name='x')"])
def test_what_names_an_optimizer(text: str) -> None:
    assert names_optimizer(text)


@pytest.mark.parametrize("value", ["strong_wolfe", "cuda:0", "a:", ":b", "a b:c", "a:b c", 3, None, ("m:A",)])
def test_what_names_none(value: object) -> None:
    assert not names_optimizer(value)


def test_a_target_without_a_name_for_its_first_parameter() -> None:
    assert first_parameter(Base) == "params"
    assert first_parameter(lambda *args: args) is None
    assert first_parameter(lambda: 0) is None
    assert first_parameter(dict) is None
