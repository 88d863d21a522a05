from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from interpreter import imported
from test_format import golden

from pytest_optcheck.convergence import SEEDS
from pytest_optcheck.ensembles.figures import KEPT, PROTOCOL, Ensemble, Member, kept_steps
from pytest_optcheck.format import Golden, UnreadableGoldenError, decode, encode

HERE = Path("golden.json")
WHOLE = Member({"final_loss": 0.05, "accuracy": 0.9}, target=0.2, losses=[0.8, 0.4, 0.05])
ENDED = Member(ended=1, losses=[0.8])


def with_ensemble(members: list[Member]) -> Golden:
    return msgspec.structs.replace(golden(), ensemble=Ensemble(PROTOCOL, 4, [0, 1, 2], members))


@pytest.mark.parametrize(("updates", "count"), [(1, 2), (5, 6), (23, 24), (24, 24), (40, 24), (80, 24), (1000, 24)])
def test_about_24_losses_are_kept_the_first_and_the_last_among_them(updates: int, count: int) -> None:
    steps = kept_steps(updates)
    assert count <= len(steps) <= max(count, KEPT + 2)
    assert (steps[0], steps[1], steps[-1]) == (0, 1, updates)
    assert steps == sorted(set(steps))


def test_the_kept_steps_lie_closer_at_the_start() -> None:
    gaps = [after - before for before, after in zip(kept_steps(1000), kept_steps(1000)[1:], strict=False)]
    assert gaps[:4] == [1, 1, 1, 1]
    assert gaps[-1] > 200


def test_an_ensemble_survives_its_golden() -> None:
    stored = with_ensemble([WHOLE, ENDED])
    assert decode(encode(stored), HERE) == stored
    assert decode(encode(golden()), HERE) == golden()
    assert golden().ensemble is None


def test_every_seed_has_a_line_of_its_own() -> None:
    lines = encode(with_ensemble([WHOLE, ENDED])).splitlines()
    start = lines.index('  "members": [') + 1
    assert [json.loads(line.rstrip(",")) for line in lines[start : start + 2]] == [
        {"metrics": {"final_loss": 0.05, "accuracy": 0.9}, "target": 0.2, "losses": [0.8, 0.4, 0.05]},
        {"ended": 1, "losses": [0.8]},
    ]
    assert '  "steps": [0, 1, 2],' in lines


def test_a_golden_without_the_key_has_no_ensemble() -> None:
    raw = json.loads(encode(golden()))
    del raw["ensemble"]
    assert decode(json.dumps(raw), HERE) == golden()


@pytest.mark.parametrize("wrong", [{"metrics": {"final_loss": "low"}}, {"curve": []}])
def test_a_seed_that_is_no_good_is_named(wrong: dict[str, object]) -> None:
    raw = json.loads(encode(with_ensemble([WHOLE])))
    raw["ensemble"]["members"][0] |= wrong
    with pytest.raises(UnreadableGoldenError, match=r"ensemble\.members"):
        decode(json.dumps(raw), HERE)


@pytest.mark.parametrize(
    ("changed", "applies"),
    [({}, True), ({"folds": 5}, False), ({"protocol": PROTOCOL + 1}, False), ({"steps": kept_steps(79)}, False)],
)
def test_an_ensemble_applies_to_runs_of_the_same_kind(changed: dict[str, int | list[int]], applies: bool) -> None:
    ensemble = Ensemble(PROTOCOL, 4, kept_steps(80), [WHOLE] * SEEDS)
    assert msgspec.structs.replace(ensemble, **changed).applies(folds=4, updates=80) == applies


def test_an_ensemble_of_fewer_seeds_does_not_apply() -> None:
    assert not Ensemble(PROTOCOL, 4, kept_steps(80), [WHOLE] * (SEEDS - 1)).applies(folds=4, updates=80)


def test_what_is_kept_of_an_ensemble_imports_neither_torch_nor_numpy() -> None:
    assert imported("pytest_optcheck.ensembles.figures", "torch", "numpy", "scipy") == []
