from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from pytest_optcheck.cost import commands as module
from pytest_optcheck.cost.commands import Commands
from pytest_optcheck.cost.figures import Cost
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.format import decode

if TYPE_CHECKING:
    from collections.abc import Iterator

BOWL = {"workload": "toys:Bowl", "device": "cpu"}
OLD = "sided:Old(lr=0.1)"


@pytest.fixture
def commands() -> Iterator[Commands]:
    made = Commands()
    yield made
    made.finish()


def test_the_modules_that_a_spec_names_are_told_with_their_files(commands: Commands) -> None:
    spec = "torch.optim:SGD(lr=0.1, momentum=0.9) >> LambdaLR(lr_lambda=schedule_sample.halve)"
    nested = "toys:Descent() >> torch.optim.lr_scheduler.StepLR(step_size=2)"
    assert list(commands.origins(OLD)) == ["sided"]
    assert list(commands.origins(nested)) == ["torch.optim.lr_scheduler", "toys"]
    assert commands.origins(OLD)["sided"] == sys.modules["sided"].__file__
    with pytest.raises(OptcheckError, match="schedule_sample"):
        commands.origins(spec)


def test_an_optimizer_that_is_named_in_an_argument_is_told_too(commands: Commands) -> None:
    assert list(commands.origins("functools:partial(func='sided:Old()')")) == ["functools", "sided"]


def test_what_an_optimizer_needs_is_plain(commands: Commands) -> None:
    assert commands.needs(OLD, **BOWL) == {"needs": {}, "dtype": "float64"}
    needs = commands.needs("torch.optim:LBFGS(lr=0.5, max_iter=2)", **BOWL)["needs"]
    assert needs["closure"] is True
    assert msgspec.json.decode(msgspec.json.encode(needs)) == needs


def test_a_training_is_plain_and_tells_the_digest_of_its_model(commands: Commands) -> None:
    found = commands.train(OLD, **BOWL, needs={}, dtype="float64")
    assert len(found["run"]["losses"]) == 7
    assert found["run"]["failure"] is None
    assert len(found["digest"]) == 16


def test_a_failed_training_is_an_answer(commands: Commands) -> None:
    failure = commands.train("sided:Raises()", **BOWL, needs={}, dtype="float64")["run"]["failure"]
    assert failure["kind"] == "raised"
    assert "cannot update" in failure["message"]


def test_a_golden_is_of_the_plain_route_in_one_dtype(commands: Commands) -> None:
    golden = decode(commands.golden(OLD, **BOWL, dtype="float64"), Path("golden"))
    assert golden is not None
    assert (list(golden.curves), golden.routes, golden.spec) == (["float64"], {}, OLD)


def test_counts_are_plain_and_of_the_lists_that_were_asked_for(commands: Commands) -> None:
    plain = commands.count("sided:Waits()", device="cpu", needs={}, lists=("ten",))
    cost = msgspec.convert(plain["cost"], Cost)
    assert list(plain["refused"]) == ["ten, closure"]
    assert list(cost.lists) == ["ten"]
    assert cost.lists["ten"].moments["warm"].syncs == 10


def test_a_prepared_step_is_timed_on_the_tensors_that_were_asked_for(commands: Commands) -> None:
    names = commands.prepare(OLD, device="cpu", needs={}, names=None)["names"]
    assert len(names) == 10
    assert commands.prepare(OLD, device="cpu", needs={}, names=names[:3]) == {"names": names[:3], "refused": ""}
    assert commands.fresh() > 0
    assert not gc.isenabled()
    assert commands.sample(3).step_s > 0
    commands.leave()
    assert gc.isenabled()


def test_an_optimizer_that_takes_no_tensors_is_not_timed(commands: Commands) -> None:
    found = commands.prepare("sided:Raises()", device="cpu", needs={}, names=None)
    assert found["names"] == []
    assert "cannot update" in found["refused"]


def test_an_optimizer_that_takes_fewer_tensors_than_the_old_code_is_not_timed(commands: Commands) -> None:
    found = commands.prepare("torch.optim:Muon(lr=0.1)", device="cpu", needs={}, names=["weight0", "bias0"])
    assert found["refused"] == "it no longer takes all tensors that it could be timed on"


def test_a_device_is_told_apart_and_looked_after(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        def __init__(self, device: str) -> None:
            self.name = f"gpu-{device}"

        def trouble(self) -> str:
            return f"{self.name} is slowed"

    monkeypatch.setattr(module, "clock", Clock)
    assert commands.device("cuda:1") == "gpu-cuda:1"
    assert commands.trouble("cuda:1") == "gpu-cuda:1 is slowed"


def test_what_was_not_prepared_is_not_timed(commands: Commands) -> None:
    commands.prepare(OLD, device="cpu", needs={}, names=None)
    commands.finish()
    with pytest.raises(RuntimeError, match="nothing was prepared"):
        commands.fresh()
