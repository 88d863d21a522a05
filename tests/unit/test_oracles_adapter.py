from __future__ import annotations

import copy
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from toys import Bowl, TwoGroups, toy

from pytest_optcheck import oracles
from pytest_optcheck.building import assemble, plain
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.oracles.adapter import NumpyOptimizer, settings_of, with_settings
from pytest_optcheck.oracles.sgd import SGD
from pytest_optcheck.specs import parse
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pytest_optcheck.curves import Run


@dataclass(frozen=True)
class HeavyBall:
    """A rule of a user's own, as docs/oracles.md shows it."""

    lr: float = 0.1
    momentum: float = 0.9

    def update(
        self,
        params: Sequence[NDArray[np.float64]],
        grads: Sequence[NDArray[np.float64] | None],
        state: Sequence[dict[str, Any]],
    ) -> None:
        for parameter, gradient, own in zip(params, grads, state, strict=True):
            if gradient is None:
                continue
            own["velocity"] = self.momentum * own.get("velocity", 0.0) + gradient
            parameter[...] = parameter - self.lr * own["velocity"]


class Ball(NumpyOptimizer, rule=HeavyBall):
    """The same as an optimizer."""


class Counting:
    """A rule that is no dataclass, whose state is of all kinds."""

    def __init__(self, lr: float = 0.1) -> None:
        self.lr = lr

    def update(
        self,
        params: Sequence[NDArray[np.float64]],
        grads: Sequence[NDArray[np.float64] | None],
        state: Sequence[dict[str, Any]],
    ) -> None:
        for parameter, gradient, own in zip(params, grads, state, strict=True):
            if gradient is None:
                continue
            own["count"] = own.get("count", 0) + 1
            own["seen"] = own.get("seen", np.zeros(parameter.shape, dtype=int)) + (gradient != 0)
            own["turned"] = gradient[..., ::-1] if gradient.ndim else gradient
            parameter[...] = parameter - self.lr * gradient * (own["seen"] > 0)


class Counter(NumpyOptimizer, rule=Counting):
    """The same as an optimizer."""


BALL = parse(f"{__name__}:Ball(lr=0.05)")


def trained(text: str, dtype: Any = "float64", route: str = "plain", workload: Bowl | None = None) -> Run:  # noqa: ANN401 - one of two
    build = assemble(parse(text), route)
    assert build is not None
    run = train(build, workload or TwoGroups(), Conditions(dtype, route=route, watch=True))
    assert run.failure is None
    assert not run.broken
    return run


def test_a_rule_of_ones_own_trains_as_torch_does() -> None:
    mine = trained(BALL.text)
    torchs = trained("torch.optim:SGD(lr=0.05, momentum=0.9)")
    assert mine.losses == pytest.approx(torchs.losses, rel=1e-15)
    assert len(set(mine.losses)) == Bowl.steps + 1


@pytest.mark.parametrize("route", ["resume", "deepcopy", "pickle", "closure", "tensor_lr", "noncontiguous"])
@pytest.mark.parametrize("text", [BALL.text, f"{__name__}:Counter(lr=0.05)", "pytest_optcheck.oracles:Adam(lr=0.05)"])
def test_an_adapted_rule_takes_every_road_to_the_same_curve(text: str, route: str) -> None:
    assert trained(text, route=route).losses == trained(text).losses


def test_in_float32_values_and_state_are_rounded_to_it() -> None:
    parameter = torch.nn.Parameter(torch.tensor([0.1, 0.2]))
    optimizer = Ball([parameter], lr=1.0)
    parameter.grad = torch.tensor([1.0 / 3.0, 1e-9])
    optimizer.step()
    optimizer.step()
    assert optimizer.state[parameter]["velocity"].dtype == parameter.dtype == torch.float32
    assert trained(BALL.text, "float32").losses == pytest.approx(trained(BALL.text).losses, rel=1e-5)


def test_groups_and_schedulers_set_the_rules_settings() -> None:
    scheduled = f"{BALL.text} >> StepLR(gamma=0.5, step_size=2)"
    torchs = "torch.optim:SGD(lr=0.05, momentum=0.9) >> StepLR(gamma=0.5, step_size=2)"
    assert trained(scheduled).rates == trained(torchs).rates
    assert trained(scheduled).losses == pytest.approx(trained(torchs).losses, rel=1e-15)
    assert trained(scheduled).losses != trained(BALL.text).losses


def test_a_setting_may_be_kept_out_of_the_groups() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = NumpyOptimizer([parameter], SGD(lr=0.1, momentum=0.5), grouped=["lr"])
    assert set(optimizer.param_groups[0]) - {"params"} == {"lr"}
    parameter.grad = torch.ones(2)
    optimizer.step()
    optimizer.step()
    assert parameter.tolist() == pytest.approx([1.0 - 0.1 - 0.15] * 2)


def test_a_tensor_without_a_gradient_is_left_alone_and_has_no_state() -> None:
    idle, moved = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = Ball([idle, moved])
    moved.grad = torch.ones(2)
    optimizer.step()
    assert idle.tolist() == [1.0, 1.0]
    assert list(optimizer.state) == [moved]


def test_a_sparse_gradient_is_taken_as_a_dense_one() -> None:
    parameter = torch.nn.Parameter(torch.ones(3, 2))
    parameter.grad = torch.sparse_coo_tensor(torch.tensor([[1, 1]]), torch.ones(2, 2), (3, 2), check_invariants=True)
    Ball([parameter], lr=0.25).step()
    assert parameter.tolist() == [[1.0, 1.0], [0.5, 0.5], [1.0, 1.0]]


def test_a_complex_tensor_is_refused() -> None:
    parameter = torch.nn.Parameter(torch.ones(2, dtype=torch.complex128))
    with pytest.raises(OptcheckError, match="updates real tensors"):
        Ball([parameter]).step()


def test_the_loss_of_a_closure_is_handed_back() -> None:
    parameter = torch.nn.Parameter(torch.tensor(3.0))
    optimizer = Ball([parameter])

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = parameter.square()
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        return loss

    assert optimizer.step(closure).item() == 9.0
    assert parameter.item() == pytest.approx(3.0 - 0.1 * 6.0)


def test_a_copy_goes_on_as_the_original_would() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = NumpyOptimizer([parameter], HeavyBall(lr=0.5))
    parameter.grad = torch.ones(2)
    optimizer.step()
    for copied in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):  # noqa: S301 - our own
        (own,) = copied.param_groups[0]["params"]
        own.grad = torch.ones(2)
        copied.step()
        assert own.tolist() == pytest.approx([1.0 - 0.5 - 0.95] * 2)


def test_the_signature_of_an_adapted_rule_is_the_rules() -> None:
    assert dict(BALL.accepts() or {}) == {"lr": 0.1, "momentum": 0.9}
    with pytest.raises(OptcheckError, match=r"takes no 'beta'; it takes lr, momentum"):
        parse(f"{__name__}:Ball(beta=1)").factory()
    assert settings_of(Counting(lr=0.3)) == {"lr": 0.3}
    changed = with_settings(Counting(lr=0.3), {"lr": 0.4, "other": 1})
    assert settings_of(changed) == {"lr": 0.4}


@pytest.mark.parametrize(
    ("rule", "message"), [(None, "NumpyOptimizer needs a rule"), (object(), "has no update.params, grads, state.")]
)
def test_what_is_no_rule_is_refused(rule: Any, message: str) -> None:  # noqa: ANN401 - that is the point
    with pytest.raises(OptcheckError, match=message):
        NumpyOptimizer([torch.nn.Parameter(torch.ones(1))], rule)


@pytest.mark.parametrize("name", oracles.__all__)
def test_every_oracle_trains(name: str) -> None:
    workload = Matrices() if name == "Muon" else Whole()
    run = train(plain(parse(f"pytest_optcheck.oracles:{name}(lr=0.01)")), workload, Conditions())
    assert run.failure is None
    assert run.losses[-1] < run.losses[0]


class Whole(Bowl):
    """The bowl with all its examples in every batch, so that its losses can be compared."""

    batch_size = 4


class Matrices(Whole):
    """The bowl with its vector as a matrix."""

    def init(self, random: np.random.RandomState) -> Any:  # noqa: ANN401 - arrays by name
        return {"row": random.uniform(-1.0, 1.0, (1, 3)), "matrix": random.uniform(-1.0, 1.0, (2, 2))}


def test_the_example_of_the_documentation_works() -> None:
    text = (Path(__file__).parents[2] / "docs" / "oracles.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    module: dict[str, Any] = {"__name__": "example"}
    exec(compile(program, "example", "exec", dont_inherit=True), module)  # noqa: S102 - our own page
    run = train(plain(toy(lambda params: module["HeavyBall"](params, lr=0.05))), TwoGroups(), Conditions())
    assert run.losses == pytest.approx(trained("torch.optim:SGD(lr=0.05, momentum=0.9)").losses, rel=1e-15)
