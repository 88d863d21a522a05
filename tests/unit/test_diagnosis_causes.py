from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import explained
import pytest
from explained import asked, case, golden
from msgspec import structs

from pytest_optcheck import checking
from pytest_optcheck.diagnosis import causes, ranking
from pytest_optcheck.goldens import Goldens
from pytest_optcheck.settings import UPDATES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_optcheck.cases import Case
    from pytest_optcheck.settings import Settings


@pytest.fixture
def curves(tmp_path: Path) -> Path:
    """A store with the golden of `Ball`."""
    Goldens(tmp_path).save(golden())
    return tmp_path


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Callable[[type], None]:
    """Puts another class in the place of `Ball`."""
    return lambda kind: monkeypatch.setattr(explained, "Ball", kind)


def said(asked_case: Case, settings: Settings) -> tuple[str, str]:
    """Verdict and cause."""
    verdict = checking.check(asked_case, settings).verdict
    return verdict.kind, verdict.cause


def test_the_mistake_stands_in_the_verdict(curves: Path, become: Callable[[type], None]) -> None:
    become(explained.Steeper)
    kind, cause = said(case(), asked(curves))
    assert kind == "changed"
    assert cause.startswith("learning rate × 1.01 (0.1 → 0.101): explains the change to ")


def test_what_matches_has_no_cause(curves: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "cause", lambda *_: pytest.fail("asked"))
    assert said(case(), asked(curves)) == ("match", "")


def test_state_that_is_lost_on_a_route_is_found_there(curves: Path, become: Callable[[type], None]) -> None:
    become(explained.Forgets)
    assert said(case(), asked(curves)) == ("match", "")
    kind, cause = said(case(None, route="resume"), asked(curves))
    assert (kind, cause.partition(":")[0]) == ("changed", "the state is lost after update 3")


def test_the_gradients_of_a_negated_loss_are_understood(curves: Path, become: Callable[[type], None]) -> None:
    class NeverAscends(explained.Ball):
        def step(self) -> None:  # type: ignore[override] # no closure
            self.param_groups[0]["maximize"] = False
            super().step()

    become(NeverAscends)
    _, cause = said(case(None, route="maximize"), asked(curves))
    assert cause.startswith("the gradient has the wrong sign: explains the change")


def test_an_optimizer_is_searched_once_a_session_and_on_the_plain_route_first(
    curves: Path, become: Callable[[type], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    explain = ranking.explain

    def counted(*given: Any) -> Any:  # noqa: ANN401 - handed on
        calls.append(given)
        return explain(*given)

    monkeypatch.setattr(ranking, "explain", counted)
    become(explained.Steeper)
    session = asked(curves)
    _, plain = said(case(), session)
    _, resumed = said(case(None, route="resume"), session)
    assert resumed == f"{plain} [seen route plain]"
    assert len(calls) == 1
    said(case(), asked(curves))
    assert len(calls) == 2


def test_the_reference_model_that_shows_most_is_asked_first(
    curves: Path, become: Callable[[type], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(causes, "BEST", "bowl_two_groups")
    best = golden(two=True)
    become(explained.Steeper)
    assert "[seen" not in said(case(), asked(curves))[1]
    Goldens(curves).save(best)
    assert said(case(), asked(curves))[1].endswith(" [seen on bowl_two_groups]")
    Goldens(curves).save(structs.replace(best, workload=structs.replace(best.workload, digest="0")))
    assert "[seen" not in said(case(), asked(curves))[1]


def test_a_change_of_float32_alone_is_called_so(curves: Path, become: Callable[[type], None]) -> None:
    become(explained.Coarse)
    assert said(case(), asked(curves)) == ("match", "")
    kind, cause = said(case("float32"), asked(curves))
    assert (kind, "float32 alone" in cause) == ("changed", True)


def test_right_steps_on_wrong_gradients_are_told_from_wrong_steps(curves: Path, become: Callable[[type], None]) -> None:
    become(explained.Piles)
    kind, cause = said(case(), asked(curves))
    assert kind != "match"
    assert cause.startswith("on the gradients it gets it takes the steps of SGD")


def test_a_default_that_was_changed_is_told_from_a_mistake(curves: Path, become: Callable[[type], None]) -> None:
    become(explained.Lighter)
    _, cause = said(case(), asked(curves))
    assert cause.startswith("it is SGD with the settings of now (lr=0.1, ")
    assert "momentum=0.8" in cause


def test_where_no_mistake_fits_none_is_named(curves: Path, become: Callable[[type], None]) -> None:
    become(explained.Wanders)
    _, cause = said(case(), asked(curves))
    assert cause.startswith("no textbook mistake explains it")
    assert "update 1 of vector is the first that is not SGD's" in cause


def test_without_a_family_the_norms_are_asked(curves: Path, become: Callable[[type], None]) -> None:
    become(explained.Steeper)
    _, cause = said(case(), asked(curves, same_as={}))
    assert cause.startswith("seen from its norms alone: tensor vector after update 1: its norm has")
    assert cause.endswith(" times as much")


def test_a_golden_of_something_else_is_not_explained_by_the_family(
    curves: Path, become: Callable[[type], None]
) -> None:
    become(explained.Steeper)
    _, cause = said(case(), asked(curves, same_as={"explained:Ball": "adam"}))
    assert cause.startswith("seen from its norms alone")


def test_nothing_is_looked_for_while_goldens_are_recorded(curves: Path, become: Callable[[type], None]) -> None:
    become(explained.Steeper)
    assert said(case(), asked(curves, update=UPDATES["missing"])) == ("changed", "")


def test_nothing_is_looked_for_behind_a_bare_verdict(curves: Path, become: Callable[[type], None]) -> None:
    become(explained.Steeper)
    verdict = checking.bare(case(), asked(curves)).verdict
    assert (verdict.kind, verdict.cause) == ("changed", "")


def test_an_optimizer_that_never_repeats_itself_is_let_be(tmp_path: Path, become: Callable[[type], None]) -> None:
    Goldens(tmp_path).save(structs.replace(golden(), stochastic=True))
    become(explained.Steeper)
    assert said(case(), asked(tmp_path))[1] == ""


def test_a_search_that_fails_is_no_failure(
    curves: Path, become: Callable[[type], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError

    become(explained.Steeper)
    monkeypatch.setattr(ranking, "explain", fails)
    assert said(case(), asked(curves)) == ("changed", "")


def test_after_so_many_searches_the_norms_have_to_do(
    curves: Path, become: Callable[[type], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    become(explained.Steeper)
    monkeypatch.setattr(causes, "SEARCHES", 0)
    assert said(case(), asked(curves))[1].startswith("seen from its norms alone")


def test_a_training_that_leaves_the_finite_numbers_is_explained(curves: Path, become: Callable[[type], None]) -> None:
    class Explodes(explained.Ball):
        def step(self) -> None:  # type: ignore[override] # no closure
            group = self.param_groups[0]
            lr, group["lr"] = group["lr"], -1e60
            super().step()
            group["lr"] = lr

    become(Explodes)
    kind, cause = said(case(), asked(curves))
    assert kind == "diverged"
    assert cause.startswith("learning rate × -1e+61")


def test_a_cause_survives_the_way_from_worker_to_controller(curves: Path, become: Callable[[type], None]) -> None:
    become(explained.Steeper)
    result = checking.check(case(), asked(curves))
    assert type(result).from_dict(result.as_dict()) == result
    assert replace(result.verdict, cause="") != result.verdict
