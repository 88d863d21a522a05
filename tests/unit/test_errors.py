from __future__ import annotations

import pytest

from pytest_optcheck.errors import OptcheckError, one_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("bad"), "ValueError: bad"),
        (ValueError("first\nsecond"), "ValueError: first"),
        (ValueError("\n\n  after blank lines  \nsecond"), "ValueError: after blank lines"),
        (ValueError("carriage\rreturn"), "ValueError: carriage"),
        (ValueError(), "ValueError"),
        (ValueError("   \n "), "ValueError"),
        (KeyError("lr"), "KeyError: 'lr'"),
        (OptcheckError("mend it"), "OptcheckError: mend it"),
    ],
)
def test_an_error_becomes_one_line_with_its_type(error: Exception, line: str) -> None:
    assert one_line(error) == line


def test_the_text_of_an_optcheck_error_is_its_message() -> None:
    assert str(OptcheckError("found 1, expected 2")) == "found 1, expected 2"
