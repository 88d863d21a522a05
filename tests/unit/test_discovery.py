from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from pytest_optcheck.discovery import BASE, EXAMPLES, GUESSES, LENGTH, optimizers
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.specs import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PACKAGE = "optcheck_found"
"""Every test has a package of this name to itself."""

HEAD = """
from torch.optim import Optimizer, SGD

class {name}(Optimizer):
    def __init__(self, params{arguments}):
        super().__init__(params, {{}})

    def step(self, closure=None):
        pass
"""


def module(*names: str, **arguments: str) -> str:
    """Source of a module with one optimizer a name; `arguments` are what it takes beyond the parameters."""
    return "\n".join(HEAD.format(name=name, arguments=arguments.get(name, "")) for name in (*names, *arguments))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Write the package: file -> source, ``sub_in_lion`` being ``sub/lion.py``; it is forgotten after the test."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(**files: str) -> None:
        for name, source in files.items():
            path = tmp_path / PACKAGE / f"{name.replace('_in_', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source))

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def found(*arguments: str, module: str = PACKAGE) -> list[str]:
    return [spec.text.removeprefix(f"{PACKAGE}:") for spec in optimizers(module, arguments).specs]


def left_out(*arguments: str) -> dict[str, str]:
    return {address.removeprefix(PACKAGE): why for address, why in optimizers(PACKAGE, arguments).left_out.items()}


def refusal(*arguments: str, module: str = PACKAGE) -> str:
    with pytest.raises(OptcheckError) as caught:
        optimizers(module, arguments)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    return line


def test_public_optimizers_are_found_sorted(package: Callable[..., None]) -> None:
    package(__init__=module("Zed", "Adam", "_Hidden"))
    assert found() == ["Adam()", "Zed()"]
    assert left_out() == {}


def test_specs_are_those_that_the_text_parses_to(package: Callable[..., None]) -> None:
    package(__init__=module("Adam"))
    assert optimizers(PACKAGE).specs == (parse(f"{PACKAGE}:Adam"),)


def test_all_says_what_is_public(package: Callable[..., None]) -> None:
    package(__init__=module("Adam", "Helper") + "\n__all__ = ['Adam']\n")
    assert found() == ["Adam()"]


def test_re_exports_of_other_packages_are_not_found(package: Callable[..., None]) -> None:
    package(__init__="from torch.optim import *\n" + module("Adam"))
    assert found() == ["Adam()"]


def test_what_the_same_package_defines_elsewhere_is_found(package: Callable[..., None]) -> None:
    package(__init__=f"from {PACKAGE}._impl import Adam\n", _impl=module("Adam", "Other"))
    assert found() == ["Adam()"]


def test_torch_itself_is_a_package_too() -> None:
    texts = [spec.text for spec in optimizers("torch.optim").specs]
    assert "torch.optim:AdamW()" in texts
    assert not any("Optimizer" in text for text in texts)


def test_bases_are_not_found(package: Callable[..., None]) -> None:
    source = """
    from abc import abstractmethod

    class Base(Optimizer):
        def validate(self): ...

    class Abstract(Optimizer):
        @abstractmethod
        def step(self, closure=None): ...

    class NotOne:
        def step(self): ...
    """
    package(__init__=module("Adam") + textwrap.dedent(source))
    assert found() == ["Adam()"]


def test_aliases_count_once_under_the_own_name(package: Callable[..., None]) -> None:
    package(__init__=module("Adam", "_Inner") + "\nAbacus = Adam\nZebra = Other = _Inner\n")
    assert found() == ["Adam()", "Other()"]


def test_a_lazily_loading_package(package: Callable[..., None]) -> None:
    source = """
    import importlib

    __all__ = ["Adam", "Missing", "Absent"]

    def __getattr__(name):
        if name == "Adam":
            return importlib.import_module(__name__ + ".adam").Adam
        if name == "Missing":
            raise ImportError("install no_such_extra to use Missing")
        raise AttributeError(name)
    """
    package(__init__=source, adam=module("Adam"))
    assert found() == ["Adam()"]
    assert left_out() == {
        ":Absent": "does not import (AttributeError: Absent)",
        ":Missing": "does not import (ImportError: install no_such_extra to use Missing)",
    }


def test_submodules_are_searched_where_the_package_shows_none(package: Callable[..., None]) -> None:
    package(
        __init__="",
        adam=module("Adam"),
        zed="import no_such_extra\n",
        sub_in___init__="",
        sub_in_lion=f"from {PACKAGE}.adam import Adam\n" + module("Lion"),
        _private=module("Private"),
        tests=module("Tested"),
    )
    assert [spec.text for spec in optimizers(PACKAGE).specs] == [
        f"{PACKAGE}.adam:Adam()",
        f"{PACKAGE}.sub.lion:Lion()",
    ]
    assert left_out() == {".zed": "does not import (ModuleNotFoundError: No module named 'no_such_extra')"}


def test_submodules_are_not_searched_where_the_package_shows_some(package: Callable[..., None]) -> None:
    package(__init__=module("Adam"), inner=module("Inner"))
    assert found() == ["Adam()"]


def test_a_submodule_may_be_asked_for(package: Callable[..., None]) -> None:
    package(__init__="", adam=module("Adam"))
    assert found(module=f"{PACKAGE}.adam") == [f"{PACKAGE}.adam:Adam()"]


def test_required_arguments_are_guessed_by_name(package: Callable[..., None]) -> None:
    source = module(
        Ranger=", num_iterations, lr=0.1",
        Lion=", *, lr, betas=(0.9, 0.99)",
        Bayes=", num_data, **kwargs",
        Sam=", base_optimizer",
    )
    package(__init__=source)
    assert found() == [
        f"Bayes(num_data={EXAMPLES})",
        "Lion(lr=0.01)",
        f"Ranger(num_iterations={LENGTH})",
        f"Sam(base_optimizer={BASE!r})",
    ]


def test_what_torch_marks_as_required_is_required(package: Callable[..., None]) -> None:
    package(__init__="from torch.optim.optimizer import required\n" + module(Sgd=", lr=required, momentum=None"))
    assert found() == ["Sgd(lr=0.01)"]


def test_what_takes_an_optimizer_first_gets_one(package: Callable[..., None]) -> None:
    package(__init__=module("Around").replace("self, params", "self, optimizer"))
    assert found() == [f"Around(optimizer={BASE!r})"]


def test_what_may_take_an_optimizer_first_gets_parameters(package: Callable[..., None]) -> None:
    package(__init__=module("Around").replace("self, params", "self, optimizer=None"))
    assert found() == ["Around()"]


def test_an_argument_that_nobody_knows_is_reported(package: Callable[..., None]) -> None:
    package(__init__=module("Adam", Odd=", lr, rank", Odder=", model, scheduler"))
    assert found() == ["Adam()"]
    assert left_out() == {
        ":Odd": f"needs argument rank; add a line {PACKAGE}:Odd(rank=…) to optcheck_arguments, or write a marked test "
        "where no literal will do",
        ":Odder": f"needs arguments model, scheduler; add a line {PACKAGE}:Odder(model=…, scheduler=…) to "
        "optcheck_arguments, or write a marked test where no literal will do",
    }


def test_a_line_gives_arguments_and_overrides_guesses(package: Callable[..., None]) -> None:
    package(__init__=module("Adam", Odd=", lr, rank"))
    assert found(f"{PACKAGE}:Odd(rank=4)", "other.package:Odd(rank=5)") == ["Adam()", "Odd(lr=0.01, rank=4)"]
    assert found(f"{PACKAGE}:Odd(lr=1, rank=4)", f"{PACKAGE}:Adam(lr=2)") == ["Adam(lr=2)", "Odd(lr=1, rank=4)"]
    assert left_out(f"{PACKAGE}:Odd(rank=4)") == {}


def test_a_class_is_found_once_for_each_line(package: Callable[..., None]) -> None:
    package(__init__=module(Odd=", rank"))
    assert found(*[f"{PACKAGE}:Odd(rank={rank})" for rank in (4, 2, 4)]) == ["Odd(rank=2)", "Odd(rank=4)"]


def test_a_line_for_what_is_not_there_is_refused(package: Callable[..., None]) -> None:
    package(__init__=module("Ranger"))
    line = refusal(f"{PACKAGE}:Rangers(lr=1)")
    assert line == f"optcheck_arguments: {PACKAGE} has no optimizer 'Rangers'; did you mean 'Ranger'?"
    assert "has no optimizer 'X'" in refusal(f"{PACKAGE}:X")
    assert "expected module:Class" in refusal("Rangers(lr=1)")


def test_a_module_that_does_not_import_is_refused(package: Callable[..., None]) -> None:
    package(__init__="raise RuntimeError('not today')\n")
    assert refusal() == f"optcheck_discover: module {PACKAGE!r} does not import (RuntimeError: not today)"


def test_a_module_without_optimizers_is_refused(package: Callable[..., None]) -> None:
    package(__init__="from torch.optim import SGD\n", sub="import no_such_extra\n")
    assert refusal(module="json") == "optcheck_discover: 'json' has no optimizer"
    assert "has no optimizer (optcheck_found.sub: does not import (ModuleNotFoundError" in refusal()


def test_a_class_without_a_signature_is_tried_as_it_is(
    package: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    package(__init__=module(Odd=", rank"))

    def no_signature(_: object) -> None:
        raise ValueError

    monkeypatch.setattr("pytest_optcheck.discovery.inspect.signature", no_signature)
    assert found() == ["Odd()"]


def test_every_guess_is_a_literal() -> None:
    for name, value in GUESSES.items():
        assert parse(f"m:A({name}={value!r})").keywords == ((name, value),)
