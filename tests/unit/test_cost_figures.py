from __future__ import annotations

import platform
import re

import msgspec
import pytest
from interpreter import imported

from pytest_optcheck.cost.figures import Cost, Counts, ListCost, Timing, version_key

WHOLE = Cost(
    {
        "ten": ListCost(
            {"warm": Counts({"mul_.Tensor": 10}, {"mul_": 10}, calls=30, syncs=1, new_bytes=80, peak_bytes=40)},
            parameter_bytes=80,
            state_bytes=160,
            grown_bytes=8,
            held=("state",),
            recompiles=2,
        )
    }
)


def test_a_cost_survives_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(WHOLE), type=Cost) == WHOLE


def test_what_is_nothing_is_not_written() -> None:
    counts = Counts({"mul_.Tensor": 1})
    assert msgspec.to_builtins(counts) == {"ops": {"mul_.Tensor": 1}}
    cost = ListCost({"warm": counts}, parameter_bytes=8, state_bytes=0)
    assert set(msgspec.to_builtins(cost)) == {"moments", "parameter_bytes", "state_bytes"}


def test_a_key_that_is_not_known_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="opps"):
        msgspec.convert({"ops": {}, "opps": {}}, Counts)


def test_a_timing_survives_json() -> None:
    timing = Timing({"cpu": "some"}, ratio=1.5, spread=0.01, blocks=7, control_spread=0.02)
    assert msgspec.json.decode(msgspec.json.encode(timing), type=Timing) == timing


def test_counts_are_kept_by_minor_versions_of_torch_and_python() -> None:
    major, minor, _ = platform.python_version_tuple()
    assert re.fullmatch(rf"torch \d+\.\d+, python {major}\.{minor}", version_key())
    assert version_key("cuda:1") == version_key("cuda") == f"{version_key()}, cuda"


def test_counts_are_kept_by_type_of_device() -> None:
    assert version_key("cpu") == version_key()
    assert version_key("cuda:1") == version_key("cuda") == f"{version_key()}, cuda"


def test_figures_and_gate_import_neither_torch_nor_pytest() -> None:
    assert imported("pytest_optcheck.cost.figures", "torch", "pytest") == []
    assert imported("pytest_optcheck.cost.gate", "torch", "pytest") == []
