from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from pytest_optcheck import judge
from pytest_optcheck.cases import BREAKS, LR, SYNC, UNTOUCHED, WAIT
from pytest_optcheck.cost import gate, ratios
from pytest_optcheck.tampering import JUDGES, replaced

if TYPE_CHECKING:
    from types import ModuleType


@pytest.mark.parametrize("name", JUDGES)
def test_what_decides_is_the_plugins_own(name: str) -> None:
    assert replaced(name) == ""


def test_every_break_has_somebody_who_decides() -> None:
    assert set(JUDGES) == set(BREAKS) - {UNTOUCHED}


def always() -> None:
    """What somebody puts in place of a judge."""


@pytest.mark.parametrize(
    ("owner", "attribute", "name", "expected"),
    [
        (judge, "judge", LR, "pytest_optcheck.judge.judge is test_tampering.always"),
        (judge.Policy, "tolerance", LR, "pytest_optcheck.judge.Policy.tolerance is test_tampering.always"),
        (gate, "compare", SYNC, "pytest_optcheck.cost.gate.compare is test_tampering.always"),
        (ratios.Inquiry, "decision", WAIT, "pytest_optcheck.cost.ratios.Inquiry.decision is test_tampering.always"),
    ],
)
def test_what_was_replaced_is_named(
    owner: ModuleType | type, attribute: str, name: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, attribute, always)
    assert replaced(name) == expected


def test_what_has_no_name_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "compare", partial(always))
    assert replaced(SYNC).startswith("pytest_optcheck.cost.gate.compare is ")
    assert "functools.partial(" in replaced(SYNC)
