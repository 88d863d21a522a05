from __future__ import annotations

import pytest
from guarded import plain_golden
from msgspec import structs

from pytest_optcheck.findings import effect, findings
from pytest_optcheck.format import Departure, Golden
from pytest_optcheck.judge import Verdict


@pytest.fixture
def golden() -> Golden:
    return plain_golden()


def test_recording_tells_what_a_maintainer_may_not_know(golden: Golden) -> None:
    curve = golden.curves["float64"]
    telling = structs.replace(
        golden,
        routes={
            "resume": Departure(0.25, curve),
            "scaled": Departure(None, curve),
            "bfloat16": Departure(0.01, curve),
            "closure": Departure(refused="TypeError: no"),
            "pickle": Departure(refused="TypeError: no"),
            "deepcopy": "same",
        },
        broken={"plain": {"lr_zero": "moved a"}, "resume": {"state_kept": "v is gone"}},
        dead=("unused", "idle"),
    )
    assert list(findings(telling)) == [
        "refuses closure, pickle",
        "route resume departs by 2.5e-01",
        "route scaled leaves the finite numbers",
        "law lr_zero is broken on plain: moved a",
        "law state_kept is broken on resume: v is gone",
        "arguments that change nothing: unused, idle",
    ]
    assert list(findings(golden)) == []


def test_the_effect_of_a_recording_is_told_in_old_and_new_figures(golden: Golden) -> None:
    final = golden.curves["float64"].losses[-1].value
    assert effect(None, golden, Verdict("missing", "no golden")) == f"final loss {final:.4g}"
    told = effect(golden, golden, Verdict("changed", "law x: y", first_step=3))
    assert told == f"final loss {final:.4g} → {final:.4g}, changed: law x: y, from step 3"
    stochastic = structs.replace(golden, stochastic=True)
    assert effect(None, stochastic, Verdict("missing")).endswith(", does not repeat itself (stochastic)")
