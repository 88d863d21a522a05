from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch._dynamo  # noqa: F401 - which every twin would import for itself

from pytest_optcheck.cost import versus
from pytest_optcheck.cost.company import SIDES, Company
from pytest_optcheck.cost.control import NoTimingError
from pytest_optcheck.cost.locks import DeviceLock
from pytest_optcheck.cost.places import Place
from pytest_optcheck.cost.ratios import Decision

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_optcheck.cost.versus import Company as Companions
    from pytest_optcheck.cost.versus import Watch

TRAINING = {"workload": "toys:Bowl", "device": "cpu", "needs": {}, "dtype": "float64"}
TIMING: dict[str, Any] = {"device": "cpu", "needs": {}}


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    """Two sides on which a module called ``both`` means different things."""
    places = {}
    for name in SIDES:
        folder = tmp_path / name
        folder.mkdir()
        places[name] = Place((str(folder), *sys.path), str(folder))
    made = Company(places)
    yield made
    made.close()


def write(company: Company, **code: str) -> None:
    """What ``both`` is on each side."""
    for name, text in code.items():
        Path(company.places[name].cwd, "both.py").write_text(f"import sided\n{text}\n", encoding="utf-8")


def undecided() -> Decision:
    return Decision("cannot tell", "", 1.0, 1.0, 1.0, 0.0, 0.0, 1)


def test_each_side_does_what_it_was_asked_at_its_own_place(company: Company) -> None:
    write(company, new="Rule = sided.Other", base="Rule = sided.Old")
    asked = {"spec": "both:Rule()", **TRAINING}
    replies = company.ask([("new", "train", asked), ("base", "train", asked)])
    assert [kind for kind, _ in replies] == ["done", "done"]
    new, old = (found["run"]["losses"] for _, found in replies)
    assert new[0] == old[0]
    assert new[-1] != old[-1]


def test_a_side_is_started_once_and_when_it_is_asked(company: Company) -> None:
    assert company.sides == {}
    company.ask([("new", "borrowed", {})])
    (twin,) = company.sides.values()
    company.ask([("new", "borrowed", {})])
    assert list(company.sides.values()) == [twin]


def test_what_one_side_refuses_does_not_silence_the_other(company: Company) -> None:
    write(company, new="Rule = sided.Old", base="")
    first, second = company.ask([(side, "origins", {"spec": "both:Rule()"}) for side in ("base", "new")])
    assert (first[0], second[0]) == ("refused", "done")
    assert "has no 'Rule'" in first[1]


def test_a_side_that_broke_down_is_started_anew(company: Company) -> None:
    write(company, new="Rule = sided.Leaves")
    ((kind, text),) = company.ask([("new", "train", {"spec": "both:Rule()", **TRAINING})])
    assert (kind, text) == ("broken", "its process ended, with exit code 7")
    assert company.ask([("new", "borrowed", {})]) == [("done", [])]


def test_sides_are_timed_ready_and_the_second_look_is_taken_at_others(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(company, new="Rule = sided.Waits", base="Rule = sided.Old", again="Rule = sided.Old")
    processes: list[set[int]] = []

    def compare(first: Companions, second: Companions, watch: Watch) -> Decision:
        assert (watch.name, type(watch.trouble())) == ("cpu", str)
        for companions in (first, second):
            with companions() as sides:
                assert len(sides) == 3
                assert all(side.fresh() > 0 for side in sides)
                assert all(side.sample(2).step_s > 0 for side in sides)
                for side in sides:
                    side.leave()
                processes.append({side._process.pid for side in sides})  # type: ignore[attr-defined] # noqa: SLF001 - nothing else tells
        return undecided()

    monkeypatch.setattr(versus, "compare", compare)
    kind, found = company.time("both:Rule()", **TIMING)
    assert (kind, found["answer"]) == ("done", "cannot tell")
    assert len(processes[0] | processes[1]) == 6


def test_the_device_is_shared_while_sides_get_ready_and_let_go_before_they_are_timed(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(company, new="Rule = sided.Old", base="Rule = sided.Old", again="Rule = sided.Old")
    events: list[str] = []

    @contextlib.contextmanager
    def shared(lock: DeviceLock) -> Iterator[None]:
        events.append(f"shared {lock.device}")
        yield
        events.append("left")

    def compare(first: Companions, second: Companions, _: Watch) -> Decision:
        for companions in (first, second):
            with companions():
                events.append("ready")
        return undecided()

    monkeypatch.setattr(DeviceLock, "shared", shared)
    monkeypatch.setattr(versus, "compare", compare)
    assert company.time("both:Rule()", **TIMING)[0] == "done"
    assert events == ["shared cpu", "left", "ready"] * 2


def test_what_cannot_be_timed_is_told(company: Company) -> None:
    write(company, new="Rule = sided.Raises", base="Rule = sided.Old", again="Rule = sided.Old")
    kind, found = company.time("both:Rule()", **TIMING)
    assert kind == "done"
    assert found["untimed"].startswith("the optimizer cannot be timed: RuntimeError: cannot update")


def test_a_busy_machine_is_told(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(*_: object) -> Decision:
        raise NoTimingError("7 other programs compute on 2 cores")

    monkeypatch.setattr(versus, "compare", compare)
    assert company.time("both:Rule()", **TIMING) == ("done", {"untimed": "7 other programs compute on 2 cores"})


def test_a_spec_that_cannot_be_built_is_refused(company: Company) -> None:
    write(company, new="", base="Rule = sided.Old", again="Rule = sided.Old")
    kind, text = company.time("both:Rule()", **TIMING)
    assert kind == "refused"
    assert "has no 'Rule'" in text


def test_a_side_that_breaks_down_while_it_is_timed_takes_the_others_with_it(company: Company) -> None:
    write(company, new="Rule = sided.Leaves", base="Rule = sided.Old", again="Rule = sided.Old")
    kind, text = company.time("both:Rule()", **TIMING)
    assert (kind, text) == ("broken", "its process ended, with exit code 7")
    assert company.sides == {}
    assert company.ask([("base", "borrowed", {})]) == [("done", [])]
