from __future__ import annotations

import pytest

from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.oracles.names import declared


def test_an_optimizer_is_declared_by_its_class_or_by_the_name_of_its_test() -> None:
    lines = ["mylib:AdamW2 = adamw", "my.lib.deep:Outer.Inner=sgd", "Lion(lr=1e-4) = lion"]
    assert declared(lines) == {"mylib:AdamW2": "adamw", "my.lib.deep:Outer.Inner": "sgd", "Lion(lr=1e-4)": "lion"}
    assert declared([]) == {}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["mylib:AdamW2"], "expected module:Class = family"),
        (["= adamw"], "expected module:Class = family"),
        (["mylib:AdamW2(lr=0.1) = adamw"], "expected module:Class = family"),
        (["mylib:Lion2 = lionn"], "no family is called 'lionn'; known are .*did you mean 'lion'"),
        (["a:B = adam", "a:B = adamw"], "'a:B' is declared twice"),
    ],
)
def test_any_other_declaration_is_refused(lines: list[str], message: str) -> None:
    with pytest.raises(OptcheckError, match=message):
        declared(lines)
