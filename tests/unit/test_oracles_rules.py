"""Every textbook rule against numbers worked out on paper, and the options that stand for torch's departures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pytest_optcheck.oracles.adadelta import Adadelta
from pytest_optcheck.oracles.adafactor import Adafactor
from pytest_optcheck.oracles.adagrad import Adagrad
from pytest_optcheck.oracles.adam import Adam, AdamW, AMSGrad, AMSGradW, LazyAdam
from pytest_optcheck.oracles.adamax import Adamax
from pytest_optcheck.oracles.asgd import ASGD
from pytest_optcheck.oracles.lamb import LAMB
from pytest_optcheck.oracles.lars import LARS
from pytest_optcheck.oracles.lion import Lion
from pytest_optcheck.oracles.muon import Muon, to_bfloat16
from pytest_optcheck.oracles.nadam import NAdam, NAdamW
from pytest_optcheck.oracles.radam import RAdam
from pytest_optcheck.oracles.rmsprop import RMSprop
from pytest_optcheck.oracles.rprop import Rprop
from pytest_optcheck.oracles.sgd import SGD, GradientDescent
from pytest_optcheck.oracles.signsgd import SignSGD

if TYPE_CHECKING:
    from pytest_optcheck.oracles.base import Array, Rule


def path(rule: Rule, start: Any, *gradients: Any) -> list[Array]:  # noqa: ANN401 - numbers or lists of them
    """Where `rule` leads one tensor from `start` under these gradients, one value an update."""
    value = np.array(start, dtype=np.float64)
    state: list[dict[str, Any]] = [{}]
    found = []
    for gradient in gradients:
        rule.update([value], [np.array(gradient, dtype=np.float64)], state)
        found.append(value.copy())
    return found


def test_gradient_descent() -> None:
    assert path(GradientDescent(lr=0.1), 1.0, 0.5) == pytest.approx([0.95])
    assert path(GradientDescent(lr=0.1, weight_decay=0.2), 1.0, 0.5) == pytest.approx([0.93])
    assert path(GradientDescent(lr=0.1, maximize=True), 1.0, 0.5) == pytest.approx([1.05])


def test_momentum() -> None:
    assert path(SGD(lr=0.1, momentum=0.5), 1.0, 1.0, 1.0) == pytest.approx([0.9, 0.75])
    assert path(SGD(lr=0.1, momentum=0.5, nesterov=True), 1.0, 1.0, 1.0) == pytest.approx([0.85, 0.675])
    damped = SGD(lr=0.1, momentum=0.5, dampening=0.5)
    assert path(damped, 1.0, 1.0, 1.0) == pytest.approx([0.9, 0.8])


@pytest.mark.parametrize(("outside", "second"), [(False, 0.65), (True, 0.6)])
def test_a_changed_rate_is_outside_or_inside_the_velocity(*, outside: bool, second: float) -> None:
    value, state = np.array(1.0), [dict[str, Any]()]
    for lr in (0.1, 0.2):
        SGD(lr=lr, momentum=0.5, rate_outside=outside).update([value], [np.array(1.0)], state)
    assert value == pytest.approx(second)


def test_adagrad() -> None:
    assert path(Adagrad(lr=1.0, eps=0.0), 0.0, 3.0, 4.0) == pytest.approx([-1.0, -1.8])
    assert path(Adagrad(lr=1.0, eps=0.0, lr_decay=1.0), 0.0, 3.0, 4.0) == pytest.approx([-1.0, -1.4])
    assert path(Adagrad(lr=1.0, eps=1.0, initial_accumulator_value=16.0), 0.0, 3.0) == pytest.approx([-0.5])


def test_rmsprop() -> None:
    plain = RMSprop(lr=1.0, alpha=0.75, eps=3.0)
    assert path(plain, 0.0, 2.0) == pytest.approx([-1.0])
    assert path(RMSprop(lr=1.0, alpha=0.75, eps=3.0, eps_outside=True), 0.0, 2.0) == pytest.approx([-0.5])
    centered = RMSprop(lr=1.0, alpha=0.75, eps=0.25, centered=True)
    assert path(centered, 0.0, 2.0) == pytest.approx([-2.0])
    heavy = RMSprop(lr=1.0, alpha=0.0, eps=0.0, momentum=0.5)
    assert path(heavy, 0.0, 2.0, -3.0) == pytest.approx([-1.0, -0.5])


@pytest.mark.parametrize(("outside", "end"), [(False, -3.5), (True, -4.0)])
def test_a_changed_rate_is_outside_or_inside_what_rmsprop_sums(*, outside: bool, end: float) -> None:
    value, state = np.array(0.0), [dict[str, Any]()]
    for lr in (1.0, 2.0):
        rule = RMSprop(lr=lr, alpha=0.0, eps=0.0, momentum=0.5, rate_outside=outside)
        rule.update([value], [np.array(3.0)], state)
    assert value == pytest.approx(end)  # -1 - (0.5·1 + 2), or -1 - 2·(0.5·1 + 1)


def test_adadelta() -> None:
    first, second = path(Adadelta(lr=1.0, rho=0.5, eps=1.0), 0.0, 4.0, 4.0)
    assert first == pytest.approx(-4 / 3)  # √1/√9·4
    assert second - first == pytest.approx(-4 * math.sqrt((8 / 9 + 1) / (12 + 1)))
    assert path(Adadelta(lr=0.5, rho=0.5, eps=1.0), 0.0, 4.0)[0] == pytest.approx(-2 / 3)


def test_adam() -> None:
    betas = (0.5, 0.75)
    assert path(Adam(lr=0.1, betas=betas, eps=2.0), 0.0, 2.0) == pytest.approx([-0.05])
    before = Adam(lr=0.1, betas=betas, eps=2.0, eps_before_correction=True)
    assert path(before, 0.0, 2.0) == pytest.approx([-0.1 / 3])  # (√1 + 2)/√(1/4) = 6
    first, second = path(Adam(lr=0.1, betas=betas, eps=0.0), 0.0, 2.0, 0.0)
    assert second - first == pytest.approx(-0.1 * (2 / 3) / math.sqrt(12 / 7))
    regular = Adam(lr=0.1, betas=betas, eps=0.0, weight_decay=1.0)
    assert path(regular, 1.0, -1.5) == pytest.approx([1.1])  # the decay leaves the gradient's sign as it is


def test_weight_decay_is_decoupled_in_adamw() -> None:
    assert path(AdamW(lr=0.1, weight_decay=0.5, eps=0.0), 1.0, 2.0) == pytest.approx([0.85])
    assert path(NAdamW(lr=0.1, weight_decay=0.5), 1.0, 0.0) == pytest.approx([0.95])


def test_amsgrad_keeps_the_maximum() -> None:
    moves = np.diff([0.0, *path(AMSGrad(lr=1.0, betas=(0.0, 0.5), eps=0.0), 0.0, 2.0, 0.0, 1.0)])
    assert moves == pytest.approx([-2 / math.sqrt(2), 0.0, -1 / math.sqrt(2)])
    corrected = AMSGrad(lr=1.0, betas=(0.0, 0.5), eps=0.0, bias_correction=True)
    moves = np.diff([0.0, *path(corrected, 0.0, 2.0, 0.0, 1.0)])
    assert moves == pytest.approx([-1.0, 0.0, -1 / math.sqrt(2 / 0.875)])
    both = AMSGradW(lr=0.1, betas=(0.0, 0.5), eps=0.0, weight_decay=0.5, bias_correction=True)
    assert path(both, 1.0, 2.0) == pytest.approx([0.85])


def test_adam_where_rows_are_missing_leaves_them_alone() -> None:
    gradients: tuple[Any, ...] = ([[1.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, 1.0]])
    first, second = path(LazyAdam(lazy=True), np.zeros((2, 2)), *gradients)
    assert np.array_equal(second[0], first[0])
    assert np.all(second[1] < first[1])
    first, second = path(LazyAdam(), np.zeros((2, 2)), *gradients)
    assert second[0, 0] < first[0, 0]  # what is left of its first moment moves it on


def test_adamax() -> None:
    betas = (0.5, 0.5)
    moves = np.diff([0.0, *path(Adamax(lr=1.0, betas=betas), 0.0, 1.0, 0.2)])
    assert moves == pytest.approx([-1.0, -0.7 / 0.75])
    assert path(Adamax(lr=1.0, betas=betas, eps=1.0), 0.0, 1.0) == pytest.approx([-0.5])
    assert path(Adamax(), 3.0, 0.0) == [3.0]


def test_nadam() -> None:
    settings: dict[str, Any] = {"lr": 1.0, "betas": (0.8, 0.25), "eps": 0.0, "momentum_decay": 0.0}  # so mu_t is 0.4
    assert path(NAdam(**settings), 0.0, 1.0) == pytest.approx([-(0.24 / 0.84 + 1.0) / 0.5])
    assert path(NAdam(**settings, plain_estimate=True), 0.0, 1.0) == pytest.approx([-(0.24 / 0.84 + 1.0)])
    torch_like = NAdam(**settings, plain_estimate=True, constant_average=True)
    assert path(torch_like, 0.0, 1.0) == pytest.approx([-(0.08 / 0.84 + 1.0)])


def test_the_momentum_of_nadam_grows_and_its_product_may_be_rounded() -> None:
    rule = NAdam(betas=(0.9, 0.999), momentum_decay=0.004)
    assert rule.momentum(250) == pytest.approx(0.9 * (1 - 0.5 * 0.96))
    assert rule.product(1.0, 0.3) == 0.3
    assert NAdam(float32_product=True).product(1.0, 0.3) == float(np.float32(0.3))


def test_radam_takes_adaptive_steps_once_the_variance_is_tractable() -> None:
    settings: dict[str, Any] = {"lr": 1.0, "betas": (0.0, 0.9)}  # rho_4 = 3.74, rho_5 = 4.58, rho_6 = 5.4
    moves = np.diff([0.0, *path(RAdam(**settings), 0.0, *[2.0] * 6)])
    assert moves[:4] == pytest.approx([-2.0] * 4)
    assert moves[4] == pytest.approx(-math.sqrt(0.58057 * 2.58057 * 19 / (15 * 17 * 4.58057)), rel=1e-4)
    later = np.diff([0.0, *path(RAdam(**settings, threshold=5.0), 0.0, *[2.0] * 6)])
    assert later[4] == pytest.approx(-2.0)
    assert later[5] == pytest.approx(moves[5])


def test_radam_with_a_short_memory_never_does() -> None:
    moves = np.diff([0.0, *path(RAdam(lr=1.0, betas=(0.0, 0.5)), 0.0, *[2.0] * 20)])
    assert moves == pytest.approx([-2.0] * 20)


@pytest.mark.parametrize(
    ("backtracking", "expected"), [(True, [-0.1, -0.22, -0.1, -0.04]), (False, [-0.1, -0.22, -0.22, -0.16])]
)
def test_rprop(*, backtracking: bool, expected: list[float]) -> None:
    rule = Rprop(lr=0.1, backtracking=backtracking)
    assert path(rule, 0.0, 1.0, 5.0, -1.0, -3.0) == pytest.approx(expected)


def test_steps_of_rprop_are_bounded() -> None:
    moves = np.diff([0.0, *path(Rprop(lr=1.0, step_sizes=(0.9, 1.1)), 0.0, 1.0, 1.0, 1.0)])
    assert moves == pytest.approx([-1.0, -1.1, -1.1])


def test_asgd() -> None:
    first, second = path(ASGD(lr=1.0, lambd=1.0, alpha=1.0), 1.0, 0.5, 0.5)
    assert [float(first), float(second)] == pytest.approx([-0.5, -0.5])  # 0·1 - 0.5, then 0.5·(-0.5) - 0.5·0.5
    assert path(ASGD(lr=0.1, lambd=0.0, kept_rate=True), 0.0, 1.0) == [-float(np.float32(0.1))]


def test_asgd_averages_from_t0_on() -> None:
    rule, value, state = ASGD(lr=1.0, lambd=0.0, t0=0.0), np.array(0.0), dict[str, Any]()
    for gradient in (1.0, 2.0, 3.0):
        rule.update([value], [np.array(gradient)], [state])
    assert value == -6.0
    assert state["ax"] == pytest.approx((-3.0 - 6.0) / 2)  # the average starts anew with the second


def test_the_kept_rate_of_asgd_is_that_of_the_update_before() -> None:
    value, state = np.array(0.0), [dict[str, Any]()]
    for lr in (1.0, 0.5, 0.5):
        ASGD(lr=lr, lambd=0.0, kept_rate=True).update([value], [np.array(1.0)], state)
    assert value == -(1.0 + 1.0 + 0.5)


def test_adafactor() -> None:
    assert path(Adafactor(), [2.0, 2.0], [1.0, 5.0])[0] == pytest.approx([1.98, 1.98])
    rank_one = [[1.0, 2.0], [2.0, 4.0]]  # whose squares are the product of their row and column means
    assert path(Adafactor(), np.ones((2, 2)), rank_one)[0] == pytest.approx(np.full((2, 2), 0.99))
    assert path(Adafactor(d=0.5), np.ones((2, 2)), rank_one)[0] == pytest.approx(np.full((2, 2), 0.995))
    assert path(Adafactor(weight_decay=1.0), [1.0], [1.0])[0] == pytest.approx([0.98])
    relative = path(Adafactor(lr=1.0), [1.0], *[[1.0]] * 4)  # its own size, √2, √3, √4 times less; at least 1e-3 of it
    third = -1e-3 / math.sqrt(2) - 1e-3 / math.sqrt(3)
    assert relative[2:] == [pytest.approx([third]), pytest.approx([1.5 * third])]
    assert path(Adafactor(), [], [])[0].shape == (0,)


def test_a_tiny_gradient_is_a_whole_step_of_adafactor_unless_eps_bounds_it() -> None:
    assert path(Adafactor(), [1.0], [1e-10])[0] == pytest.approx([0.99])
    bounded = Adafactor(eps=(1e-2, 1e-3), bounded=True)
    assert path(bounded, [1.0], [1e-3])[0] == pytest.approx([1.0 - 0.01 * 0.1])
    assert (Adafactor().eps1, Adafactor(bounded=True).eps1) == (1e-30, 2.0**-52)


def test_lion() -> None:
    moves = np.diff([0.0, *path(Lion(lr=0.1, betas=(0.5, 0.75)), 0.0, 1.0, -0.2, -0.2)])
    assert moves == pytest.approx([-0.1, -0.1, 0.1])  # c = 0.5, then 0.125 - 0.1, then 0.06875 - 0.1
    assert path(Lion(lr=0.1, weight_decay=0.5), 2.0, 1.0) == pytest.approx([1.8])


def test_lamb() -> None:
    step = 5 / math.sqrt(2)
    found = path(LAMB(lr=0.1, eps=0.0, weight_decay=0.0), [3.0, 4.0], [7.0, -1e-3])
    assert found[0] == pytest.approx([3.0 - 0.1 * step, 4.0 + 0.1 * step])
    decayed = path(LAMB(lr=0.1, eps=0.0, weight_decay=1.0), [3.0, 4.0], [1.0, -1.0])
    assert decayed[0] == pytest.approx([3.0 - 0.1 * 4.0, 4.0 - 0.1 * 3.0])  # ‖(4, 3)‖ = 5 as well
    assert path(LAMB(lr=0.1, eps=0.0), [0.0], [1.0])[0] == pytest.approx([-0.1])


def test_lars() -> None:
    settings: dict[str, Any] = {"lr": 1.0, "momentum": 0.5, "trust_coefficient": 0.1}
    first, second = path(LARS(**settings, weight_decay=0.0), [3.0, 4.0], [0.0, 5.0], [0.0, 0.0])
    assert first == pytest.approx([3.0, 3.5])
    assert second == pytest.approx([3.0, 3.25])
    decayed = path(LARS(**settings, weight_decay=0.5), [3.0, 4.0], [0.0, 5.0])
    assert decayed[0] == pytest.approx([3.0 - 1.5 / 15, 4.0 - 7.0 / 15])


def test_muon_steps_along_the_nearest_orthogonal_matrix() -> None:
    newton: dict[str, Any] = {
        "ns_coefficients": (1.5, -0.5, 0.0),
        "ns_steps": 40,
    }  # converges, as Jordan's coefficients do not
    gradient = [[0.0, 2.0], [-1.0, 0.0]]
    assert path(Muon(lr=1.0, **newton), np.zeros((2, 2)), gradient)[0] == pytest.approx(np.array([[0, -1.0], [1, 0]]))
    tall = path(Muon(lr=1.0, **newton), np.zeros((4, 1)), [[3.0], [0.0], [4.0], [0.0]])
    assert tall[0] == pytest.approx(np.array([[-1.2], [0.0], [-1.6], [0.0]]))  # 2 = √(4/1) times as much
    like_adamw = Muon(lr=1.0, adjust_lr_fn="match_rms_adamw", weight_decay=0.5, **newton)
    assert path(like_adamw, np.full((4, 1), 2.0), [[1.0], [0.0], [0.0], [0.0]])[0] == pytest.approx(
        np.array([[0.6], [1.0], [1.0], [1.0]])
    )


def test_one_step_of_newton_schulz() -> None:
    rule = Muon(lr=1.0, ns_coefficients=(2.0, 3.0, 5.0), ns_steps=1, nesterov=False)
    # X = (0.6, 0.8), A = 1, so 2·X + (3 + 5)·X
    assert path(rule, [[0.0, 0.0]], [[3.0, 4.0]])[0] == pytest.approx(np.array([[-6.0, -8.0]]))


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_momentum_of_muon_may_be_a_sum_or_an_average(*, nesterov: bool) -> None:
    random = np.random.RandomState(0)
    gradients = [random.uniform(-1.0, 1.0, (3, 4)) for _ in range(5)]
    summed, average = (
        path(Muon(nesterov=nesterov, averaging=averaging), np.zeros((3, 4)), *gradients)[-1]
        for averaging in (False, True)
    )
    assert average == pytest.approx(summed, rel=1e-12)


def test_rounding_to_bfloat16_is_to_nearest_even() -> None:
    found = to_bfloat16(np.array([1.0, 1.0 + 2**-8, 1.0 + 3 * 2**-8, 1.0 + 2**-8 + 2**-20, -0.3, 0.0]))
    assert found.tolist() == [1.0, 1.0, 1.0 + 2**-6, 1.0 + 2**-7, -0.30078125, 0.0]


def test_signsgd() -> None:
    assert path(SignSGD(lr=0.1), 0.0, 3.0, -1e-9, 0.0) == pytest.approx([-0.1, 0.0, 0.0])
    assert path(SignSGD(lr=0.1, momentum=0.5), 0.0, 3.0, -1.0) == pytest.approx([-0.1, -0.2])
    assert path(SignSGD(lr=0.1, weight_decay=0.5), 2.0, 3.0) == pytest.approx([1.8])
