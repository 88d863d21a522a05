from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_optcheck import judge
from pytest_optcheck.cost.base import Asked, BaseAnswer, compare_with_base
from pytest_optcheck.cost.commands import Commands
from pytest_optcheck.cost.locks import DeviceLock
from pytest_optcheck.cost.ratios import Decision
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.specs import FactorySpec, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_optcheck.cost.peer import Peer

SAME = Decision("not slower", "", 1.0, 0.99, 1.01, 0.01, 0.01, 6)


class Here:
    """A peer whose sides are both in this process; what ``sided:NAME`` is called depends on the side."""

    def __init__(self, new: str, old: str) -> None:
        self.base: Any = SimpleNamespace(label="v1.0 (0123456789)", home="the repository")
        self.specs = {"new": new, "base": old}
        self.files = {"new": "/project/sided.py", "base": "/tree/sided.py"}
        self.borrowed: list[str] = []
        self.timing: dict[str, Any] = {"untimed": "3 other programs compute on 2 cores"}
        self.digests: dict[str, str] = {}
        self.asked: list[str] = []

    def ask(self, side: str, command: str, **arguments: Any) -> Any:  # noqa: ANN401 - as of the peer
        self.asked.append(f"{side} {command}")
        if command == "borrowed":
            return self.borrowed
        if command == "device":
            return Commands().device(**arguments)
        spec = self.specs[side]
        found = getattr(Commands(), command)(**{**arguments, "spec": spec})
        if command == "origins":
            return dict.fromkeys(found, self.files[side])
        if command == "train" and side in self.digests:
            return {**found, "digest": self.digests[side]}
        return found

    def ask_all(self, questions: list[tuple[str, str, dict[str, Any]]]) -> list[Any]:
        return [self.ask(side, command, **arguments) for side, command, arguments in questions]

    def time(self, spec: str, device: str, needs: dict[str, Any]) -> dict[str, Any]:
        assert (spec, device, needs) == ("sided:Old()", "cpu", {})
        self.asked.append("time")
        return self.timing


def compare(here: Here, **fields: Any) -> BaseAnswer:  # noqa: ANN401 - of what is asked
    asked = {"lists": (), "timed": False, **fields}
    return compare_with_base(Asked(parse("sided:Old()"), "toys:Bowl", **asked), cast("Peer", here))


def test_the_same_bits_match_without_a_recording() -> None:
    here = Here("sided:Old()", "sided:Old()")
    answer = compare(here)
    assert (answer.verdict.kind, answer.verdict.largest) == ("match", 0.0)
    assert answer.verdict.final_old == answer.verdict.final_new is not None
    assert "base golden" not in here.asked
    assert answer.label == "v1.0 (0123456789)"


def test_rounding_matches_by_the_envelope_of_the_old_code() -> None:
    here = Here("sided:Rewritten()", "sided:Old()")
    verdict = compare(here).verdict
    assert verdict.kind == "match"
    assert verdict.largest is not None
    assert 0.0 < verdict.largest < 1e-12
    assert "base golden" in here.asked


def test_another_rule_has_changed() -> None:
    verdict = compare(Here("sided:Other()", "sided:Old()")).verdict
    assert (verdict.kind, verdict.first_step) == ("changed", 1)


def test_a_step_that_raises_now_is_lost() -> None:
    verdict = compare(Here("sided:Raises()", "sided:Old()")).verdict
    assert verdict.kind == "lost"
    assert "cannot update" in verdict.note


def test_an_optimizer_that_the_old_code_could_not_train_cannot_be_compared() -> None:
    answer = compare(Here("sided:Old()", "sided:Raises()"))
    assert answer.incomparable.startswith("v1.0 (0123456789): sided:Raises() does not train bowl")


def test_what_became_heavier_is_named_with_both_costs() -> None:
    answer = compare(Here("sided:Waits()", "sided:Old()"), lists=("ten",))
    assert answer.counts is not None
    assert "ten, warm: 0 → 10 syncs" in answer.counts.heavier
    assert answer.new is not None
    assert answer.old is not None
    assert answer.new.lists["ten"].moments["warm"].syncs == 10
    assert answer.old.lists["ten"].moments["warm"].syncs == 0


def test_what_can_no_longer_be_counted_says_why() -> None:
    counts = compare(Here("sided:Raises()", "sided:Old()"), lists=("ten",)).counts
    assert counts is not None
    (line,) = counts.heavier
    assert line.startswith("ten: can no longer be counted: RuntimeError: cannot update (")


def test_what_became_lighter_is_named() -> None:
    answer = compare(Here("sided:Old()", "sided:Waits()"), lists=("ten",))
    assert answer.counts is not None
    assert answer.counts.heavier == ()
    assert "ten, warm: 10 → 0 syncs" in answer.counts.lighter


def test_what_is_not_asked_is_not_answered() -> None:
    answer = compare(Here("sided:Waits()", "sided:Old()"))
    assert (answer.counts, answer.new, answer.old, answer.time, answer.untimed) == (None, None, None, None, "")


def test_curves_that_are_not_asked_are_not_compared() -> None:
    here = Here("sided:Other()", "sided:Old()")
    answer = compare(here, lists=("ten",), curves=False)
    assert (answer.verdict, answer.doubt) == (judge.Verdict("match"), "")
    assert answer.counts is not None
    assert "new train" not in here.asked


def test_the_device_is_shared_but_for_the_timing_which_takes_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Here("sided:Rewritten()", "sided:Old()")

    @contextlib.contextmanager
    def shared(lock: DeviceLock) -> Iterator[None]:
        here.asked.append(f"shared {lock.device}")
        yield
        here.asked.append("left")

    monkeypatch.setattr(DeviceLock, "shared", shared)
    compare(here, lists=("ten",), timed=True)
    assert here.asked[:2] == ["new device", "shared cpu"]
    left = here.asked.index("left")
    assert {"new train", "base train", "base golden", "new count", "base count"} <= set(here.asked[2:left])
    assert here.asked[left + 1 :] == ["time", "base borrowed"]


def test_the_time_comes_as_it_was_decided() -> None:
    here = Here("sided:Old()", "sided:Old()")
    here.timing = {
        "answer": "not slower",
        "reason": "",
        "ratio": 1.0,
        "low": 0.99,
        "high": 1.01,
        "spread": 0.01,
        "noise_spread": 0.01,
        "blocks": 6,
    }
    answer = compare(here, timed=True)
    assert (answer.time, answer.untimed) == (SAME, "")


def test_where_there_is_no_time_the_reason_is_told() -> None:
    answer = compare(Here("sided:Old()", "sided:Old()"), timed=True)
    assert (answer.time, answer.untimed) == (None, "3 other programs compute on 2 cores")


def test_the_same_file_on_both_sides_is_told_and_nothing_else_is_asked() -> None:
    here = Here("sided:Old()", "sided:Old()")
    here.files["base"] = here.files["new"]
    answer = compare(here)
    expected = "sided:Old is not in the repository, it comes from /project/sided.py: both sides are the same code"
    assert answer == BaseAnswer("v1.0 (0123456789)", expected)
    assert here.asked == ["new device", "new origins", "base origins"]


def test_what_the_base_has_not_is_nothing_to_compare() -> None:
    answer = compare(Here("sided:Old()", "sided:Older()"))
    assert answer.incomparable.startswith("not in v1.0 (0123456789), nothing to compare: ")
    assert "'sided' has no 'Older'" in answer.incomparable


def test_what_this_side_cannot_build_is_an_error() -> None:
    with pytest.raises(OptcheckError, match="'sided' has no 'Newer'"):
        compare(Here("sided:Newer()", "sided:Old()"))


def test_a_python_factory_cannot_be_compared() -> None:
    asked = Asked(FactorySpec("mine", lambda params: params), "toys:Bowl")
    answer = compare_with_base(asked, cast("Peer", Here("", "")))
    assert answer.incomparable.startswith("mine is a Python factory")


def test_another_reference_model_makes_the_curves_incomparable_and_nothing_else() -> None:
    here = Here("sided:Waits()", "sided:Old()")
    here.digests = {"base": "another"}
    answer = compare(here, lists=("ten",))
    note = (
        "the reference model toys:Bowl is another one in v1.0 (0123456789); "
        "choose one that both have with --optcheck-workload, or a base that has this one"
    )
    assert answer.verdict == judge.Verdict("incomparable", note)
    assert answer.counts is not None
    assert answer.counts.heavier


def test_old_code_that_does_not_repeat_itself_is_told() -> None:
    answer = compare(Here("sided:Old()", "sided:Restless()"))
    assert answer.doubt == "two runs of the old code differ, so the curves say little"


def test_modules_that_both_sides_share_are_told() -> None:
    here = Here("sided:Old()", "sided:Old()")
    here.borrowed = ["sided.version"]
    assert compare(here).notes == ("git ignores sided.version: on both sides the work tree's",)
