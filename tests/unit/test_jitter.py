from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from pytest_optcheck.jitter import EXACT, TABLE, RoundingJitter

if TYPE_CHECKING:
    from collections.abc import Callable

    Operation = Callable[[Tensor, Tensor], object]

F64, F32, BF16 = torch.float64, torch.float32, torch.bfloat16
EPS64, EPS32, EPS16 = (torch.finfo(dtype).eps for dtype in (F64, F32, BF16))
SIZE = 64  # so many u are never all zero with the seeds used here


def jitter(seed: int = 1, dtype: torch.dtype = F64, ulps: float = 1.0) -> RoundingJitter:
    return RoundingJitter(seed, dtype, torch.device("cpu"), ulps)


def numbers(dtype: torch.dtype = F64, size: int = SIZE) -> Tensor:
    """Numbers between 1 and 2, none of them an integer."""
    return torch.linspace(1.1, 1.9, size, dtype=F64).to(dtype)


def _flat(found: object) -> list[Tensor]:
    if found is None:  # in-place foreach operations return nothing
        return []
    if isinstance(found, Tensor):
        return [found.detach().clone()]
    assert isinstance(found, (list, tuple))
    return [tensor for item in found for tensor in _flat(item)]


def outcome(operation: Operation, mode: RoundingJitter | None = None, dtype: torch.dtype = F64) -> list[Tensor]:
    """What the operation returns and what it leaves in its two arguments."""
    first, second = numbers(dtype), numbers(dtype).flip(0)
    if mode is None:
        return _flat([operation(first, second), first, second])
    with mode:
        found = operation(first, second)
    return _flat([found, first, second])


def same(found: list[Tensor], expected: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def moved(found: Tensor, expected: Tensor) -> float:
    """The largest relative difference."""
    return float(((found.double() - expected.double()) / expected.double()).abs().max())


def _out(a: Tensor, b: Tensor) -> Tensor:
    out = torch.empty_like(a)
    torch.add(a, b, out=out)
    return out


def _fused(a: Tensor, b: Tensor) -> None:
    a.grad = b
    torch.optim.SGD([a], lr=0.01, momentum=0.9, fused=True).step()


ROUNDED: dict[str, Operation] = {
    "out-of-place": lambda a, _: a * 3.3,
    "in-place": lambda a, _: a.mul_(3.3),
    "in-place with two tensors": lambda a, b: a.addcdiv_(b, a, value=0.1),
    "in-place on a view": lambda a, _: a[:20].mul_(3.3),
    "foreach in-place": lambda a, b: torch._foreach_mul_([a], [b]),
    "foreach in-place with numbers": lambda a, b: torch._foreach_mul_([a, b], 3.3),
    "foreach out-of-place": lambda a, b: torch._foreach_mul([a, b], 3.3),  # noqa: SLF001 - torch names it so
    "fused": _fused,
    "out=": _out,
    "several results": lambda a, _: torch.var_mean(a.view(8, 8), dim=0),
    "matrix product": lambda a, b: a.view(8, 8) @ b.view(8, 8),
    "power": lambda a, _: a.pow(0.3),
    "root": lambda a, _: a.sqrt(),
    "sum": lambda a, _: a.view(8, 8).sum(0),
    "interpolation": lambda a, b: a.lerp_(b, 0.1),
    "narrowing": lambda a, _: a.to(F32),
    "narrowing copy": lambda a, _: torch.empty(SIZE, dtype=F32).copy_(a),
    "narrowing foreach copy": lambda a, _: _narrowing_foreach_copy(a),
    "widening after narrowing": lambda a, _: a.to(BF16).to(F64),
}


def _narrowing_foreach_copy(a: Tensor) -> Tensor:
    target = torch.empty(SIZE, dtype=F32)
    torch._foreach_copy_([target], [a])
    return target


def _foreach_copy(a: Tensor, b: Tensor) -> None:
    torch._foreach_copy_([a], [b])


LEFT_ALONE: dict[str, Operation] = {
    "clone": lambda a, _: a.clone(),
    "copy": lambda a, b: a.copy_(b),
    "foreach copy": _foreach_copy,
    "view": lambda a, _: a.view(8, 8).T,
    "contiguous": lambda a, _: a.view(8, 8).T.contiguous(),
    "concatenation": lambda a, b: torch.cat([a, b]),
    "stack": lambda a, b: torch.stack([a, b]),
    "selection": lambda a, _: a[torch.tensor([3, 1, 2])],
    "choice": lambda a, b: torch.where(a > b, a, b),
    "masked fill": lambda a, b: a.masked_fill_(a > b, 0.3),
    "fill": lambda a, _: a.fill_(0.3),
    "constant": lambda a, _: torch.full_like(a, 0.3),
    "zeros": lambda a, _: torch.zeros_like(a),
    "foreach zeros": lambda a, b: torch._foreach_zero_([a, b]),
    "sign": lambda a, _: a.sign(),
    "negation": lambda a, _: a.neg(),
    "foreach negation": lambda a, b: torch._foreach_neg([a, b]),  # noqa: SLF001 - torch names it so
    "magnitude": lambda a, _: a.abs(),
    "maximum": torch.maximum,
    "foreach maximum": lambda a, b: torch._foreach_maximum_([a], [b]),
    "largest": lambda a, _: a.view(8, 8).amax(0),
    "clamp": lambda a, _: a.clamp(1.23, 1.77),
    "nearest integer": lambda a, _: a.round(),
    "comparison": lambda a, b: a > b,
    "comparison in place": lambda a, b: a.gt_(b),
    "order": lambda a, _: a.flip(0).sort(),
    "triangle": lambda a, _: a.view(8, 8).tril(),
    "widening": lambda a, _: torch.empty(SIZE, dtype=torch.complex128).real.copy_(a),
    "random numbers": lambda a, _: a.uniform_(generator=torch.Generator().manual_seed(0)),
    "integers into floats": lambda a, _: a.copy_(torch.arange(SIZE)),
    "integers": lambda _a, _b: torch.arange(SIZE) * 3,
}


@pytest.mark.parametrize("name", ROUNDED)
def test_a_rounded_result_is_perturbed(name: str) -> None:
    assert not same(outcome(ROUNDED[name], jitter()), outcome(ROUNDED[name]))


@pytest.mark.parametrize("name", [name for name in ROUNDED if "narrowing" not in name])
def test_a_perturbation_is_of_the_size_of_rounding(name: str) -> None:
    for found, expected in zip(outcome(ROUNDED[name], jitter()), outcome(ROUNDED[name]), strict=True):
        assert moved(found, expected) <= 8 * EPS64  # a few operations inside one step


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_a_result_that_is_not_rounded_is_left_alone(name: str) -> None:
    assert same(outcome(LEFT_ALONE[name], jitter(ulps=256.0)), outcome(LEFT_ALONE[name]))


def test_what_is_only_read_is_left_alone() -> None:
    found, expected = (outcome(lambda a, b: a.mul_(b), mode) for mode in (jitter(), None))
    assert not torch.equal(found[1], expected[1])
    assert torch.equal(found[2], expected[2])


def test_u_is_minus_one_zero_or_one() -> None:
    ones = torch.ones(4096, dtype=F64)
    with jitter():
        ones.mul_(1.0)
    drawn = ((ones - 1.0) / EPS64).tolist()
    assert set(drawn) == {-1.0, 0.0, 1.0}
    assert all(1000 < drawn.count(u) < 1700 for u in (-1.0, 0.0, 1.0))


@pytest.mark.parametrize("size", [1, 2, TABLE, TABLE + 1, 2 * TABLE + 3])
def test_a_tensor_of_any_size_is_perturbed_up_to_its_last_number(size: int) -> None:
    last = set()
    for seed in range(16):
        found = torch.full((size,), 1.5, dtype=F64)
        with jitter(seed):
            found.mul_(1.0)
        last.add(float(found[-1]))
    assert len(last) == 3


def test_an_empty_result_is_left_alone() -> None:
    with jitter():
        assert (torch.empty(0, dtype=F64) * 2.0).numel() == 0


@pytest.mark.parametrize("count", [0.0, 1.0, -7.0, 1e6])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_step_counter_stays_an_integer(count: float, shape: tuple[int, ...]) -> None:
    counters = [torch.full(shape, count), torch.full(shape, count + 1)]
    with jitter(dtype=F32, ulps=256.0):
        counters[0].add_(1.0)
        torch._foreach_add_(counters, 1.0)
    assert [float(counter) for counter in counters] == [count + 2, count + 2]


def test_a_single_number_that_is_no_integer_is_perturbed() -> None:
    single = torch.tensor(1.5, dtype=F64)
    with jitter():
        for _ in range(20):
            single.mul_(1.0)
    assert float(single) != 1.5


@pytest.mark.parametrize("ulps", [1.0, 256.0])
@pytest.mark.parametrize(("dtype", "eps"), [(F32, EPS32), (BF16, EPS16)])
def test_a_coarser_result_gets_one_ulp_of_its_own_even_in_a_storm(dtype: torch.dtype, eps: float, ulps: float) -> None:
    for operation in (lambda a, _: a.to(dtype), lambda a, _: torch.empty(SIZE, dtype=dtype).copy_(a)):
        found, expected = (outcome(operation, mode)[0] for mode in (jitter(ulps=ulps), None))
        assert found.dtype == dtype
        assert eps / 4 < moved(found, expected) <= 1.5 * eps  # rounded once more


@pytest.mark.parametrize("ulps", [1.0, 16.0, 256.0])
@pytest.mark.parametrize(("dtype", "eps"), [(F64, EPS64), (F32, EPS32)])
def test_the_amplitude_is_in_ulps_of_the_training_s_dtype(dtype: torch.dtype, eps: float, ulps: float) -> None:
    found = torch.ones(SIZE, dtype=dtype)
    with jitter(dtype=dtype, ulps=ulps):
        found.mul_(1.0)
    assert moved(found, torch.ones(SIZE)) == ulps * eps


def test_a_finer_result_gets_the_storm_of_its_own_dtype() -> None:
    found = torch.ones(SIZE, dtype=F64)
    with jitter(dtype=F32, ulps=16.0):
        found.mul_(1.0)
    assert moved(found, torch.ones(SIZE)) == 16 * EPS64


def test_the_same_seed_gives_the_same_jitter() -> None:
    found = [outcome(lambda a, b: (a * b) / a, jitter(seed)) for seed in (5, 5, 6)]
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


def test_two_results_get_different_jitter() -> None:
    with jitter():
        first, second = numbers() * 3.3, numbers() * 3.3
    assert not torch.equal(first, second)


def test_the_global_random_stream_is_not_touched() -> None:
    state = torch.get_rng_state()
    outcome(ROUNDED["out-of-place"], jitter())
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_is_perturbed_after_the_block() -> None:
    outcome(ROUNDED["out-of-place"], jitter())
    assert same(outcome(ROUNDED["out-of-place"]), outcome(ROUNDED["out-of-place"]))


@pytest.mark.parametrize("dtype", [F64, F32])
def test_a_gradient_is_perturbed_by_its_own_ulp_and_one_of_its_size(dtype: torch.dtype) -> None:
    gradient = torch.tensor([1.0, 1e-3] * 500, dtype=dtype)
    before = gradient.clone()
    jitter(dtype=dtype).gradient(gradient)
    shift = (gradient - before).abs()
    eps = torch.finfo(dtype).eps
    rms = 0.5**0.5
    assert 0.9 * rms * eps < float(shift[1::2].max()) <= 1.01 * (rms + 1e-3) * eps + 1e-3 * eps
    assert eps / 2 <= float(shift.max()) <= 3 * eps


def test_a_gradient_of_zeros_stays_zero() -> None:
    gradient = torch.zeros(SIZE, dtype=F64)
    jitter(ulps=256.0).gradient(gradient)
    assert not gradient.any()


def test_the_zeros_of_a_gradient_stay_zero() -> None:
    gradient = numbers()
    gradient[::2] = 0.0
    before = gradient.clone()
    jitter(ulps=256.0).gradient(gradient)
    assert not gradient[::2].any()
    assert not torch.equal(gradient, before)


def test_an_empty_gradient_is_no_error() -> None:
    jitter().gradient(torch.empty(0, dtype=F64))


def test_the_strides_of_a_gradient_do_not_matter() -> None:
    gradient = numbers().view(8, 8).T
    before = gradient.clone()
    jitter().gradient(gradient)
    assert not torch.equal(gradient, before)


def test_the_values_of_a_sparse_result_are_perturbed() -> None:
    dense = torch.diag(numbers(size=8))
    sparse = dense.to_sparse(1)
    with jitter():
        found = sparse * 3.3
    expected = sparse * 3.3
    assert torch.equal(found.coalesce().indices(), expected.coalesce().indices())
    assert not torch.equal(found.to_dense(), expected.to_dense())


@pytest.mark.parametrize("name", sorted(EXACT))
def test_an_exact_operation_is_one_that_torch_has(name: str) -> None:
    """A misspelt name would leave nothing alone."""
    assert any(hasattr(torch.ops.aten, known) for known in (name, f"{name}_", f"_foreach_{name}"))
