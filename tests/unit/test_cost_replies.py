from __future__ import annotations

import pytest

from pytest_optcheck.cost.replies import SideError, answer
from pytest_optcheck.errors import OptcheckError


def test_what_was_done_is_the_answer() -> None:
    assert answer(("done", [1, 2])) == [1, 2]


def test_what_was_refused_is_for_the_user() -> None:
    with pytest.raises(OptcheckError, match=r"^no such class$"):
        answer(("refused", "no such class"))


def test_what_broke_down_is_told_as_such() -> None:
    with pytest.raises(SideError, match=r"^its process ended$"):
        answer(("broken", "its process ended"))
