"""Rounding jitter: what another machine's rounding could have done to a training.

Every gradient, and inside ``step()`` every result that was rounded, is multiplied by 1 + u·eps of its own
dtype with u drawn from {-1, 0, 1}. What does not round (copies, selections, fills, signs, maxima, exact
integers such as step counters) is left alone.
"""

from __future__ import annotations

import functools
import random
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch._ops import OpOverload

_CREATED = """
arange empty empty_like empty_strided eye fill full full_like lift_fresh new_empty new_empty_strided new_full new_ones
new_zeros ones ones_like scalar_tensor zero zeros zeros_like
"""
_DRAWN = """
bernoulli multinomial normal rand rand_like randint randint_like randn randn_like randperm random uniform
"""
_MOVED = """
cat clone constant_pad_nd diag diag_embed diagonal_copy flip gather index index_copy index_fill index_put index_select
masked_fill masked_scatter masked_select resize roll rot90 scatter select_scatter set slice_scatter sort stack take topk
tril triu unfold where _unsafe_view _reshape_copy sparse_mask _to_dense _to_sparse
_sparse_coo_tensor_with_dims_and_tensors _sparse_coo_tensor_unsafe
"""
_SIGNS_AND_BOUNDS = """
abs all amax amin aminmax any argmax argmin ceil clamp clamp_max clamp_min copysign count_nonzero eq floor fmax fmin ge
gt hardtanh isfinite isinf isnan isneginf isposinf le logical_and logical_not logical_or logical_xor lt max maximum min
minimum nan_to_num ne neg nonzero relu round sgn sign signbit threshold trunc _amp_update_scale
"""

EXACT = frozenset((_CREATED + _DRAWN + _MOVED + _SIGNS_AND_BOUNDS).split())
"""Operations, without overload, underscore and ``_foreach_``, whose floating results are not rounded."""

CASTS = frozenset(("_to_copy", "copy"))
"""Operations that round only when they narrow the dtype."""


TABLE = 1 << 16
"""Length of the table that u is read from at a random offset; drawing anew for every result costs five times."""

DRAWN = 61
"""Draws of u kept for each shape and dtype, and picked at random: cutting one out costs as much as using it."""


class RoundingJitter(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves it untyped
    """Perturbs rounded results of the operations it sees; sees in-place and foreach ones by their schema."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled while rounding is jittered; telling the compiler so at every operation costs a third."""
        return False

    def __init__(self, seed: int, dtype: torch.dtype, device: torch.device, ulps: float = 1.0) -> None:
        """Prepare one draw of every u.

        Args:
            seed: another seed is another draw; the training's own random streams are not touched.
            dtype: of the training.
            device: of the training.
            ulps: amplitude of u for results as fine as `dtype`; coarser results (bfloat16 inside a float64
                training) always get one ulp of theirs, which is large enough.
        """
        super().__init__()  # type: ignore[no-untyped-call] # torch leaves it untyped
        self._random = random.Random(seed)  # noqa: S311 - no secrets here
        self._eps = torch.finfo(dtype).eps
        self._ulps = ulps
        generator = torch.Generator().manual_seed(seed)
        self._signs = torch.randint(-1, 2, (2 * TABLE,), generator=generator).to(device)
        self._tables: dict[torch.dtype, Tensor] = {}
        self._drawn: dict[tuple[torch.dtype, torch.Size], list[Tensor]] = {}

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:  # noqa: ANN401 - whatever the operation returns
        """Run the operation, then perturb what it wrote and what it made."""
        del types
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        plan = _plan(func)
        if plan.rounds and (not plan.casts or _narrows(args, result)):
            for position, name in plan.written:
                self._perturb(args[position] if position < len(args) else kwargs.get(name))
            if plan.fresh:
                self._perturb(result)
        return result

    def gradient(self, gradient: Tensor) -> None:
        """Perturb a gradient in place, by 1 ulp of its own and 1 ulp of its root mean square.

        A gradient is a sum of products, and where its terms cancel the rounding of the terms stays: relative
        to the element that is left it has no bound. Elements that are exactly zero stay so.
        """
        if gradient.is_complex():
            gradient = torch.view_as_real(gradient)
        if gradient.numel():
            spread = gradient.square().mean().sqrt()
            gradient.addcmul_((self._factors(gradient) - 1.0) * spread, gradient.ne(0))
            gradient.mul_(self._factors(gradient))

    def _perturb(self, value: object) -> None:
        if isinstance(value, Tensor):
            values = value.detach() if value.requires_grad else value
            if values.is_sparse:
                values = values._values()  # noqa: SLF001 - torch's name for it
            if values.is_complex():
                values = torch.view_as_real(values)
            size = values.numel()
            if values.is_floating_point() and size and not (size == 1 and _whole(values)):
                values.mul_(self._factors(values))  # a product leaves an infinity what it is
        elif isinstance(value, (list, tuple)):
            for item in value:
                self._perturb(item)

    def _factors(self, like: Tensor) -> Tensor:
        """1 + u·ulps·eps for every element of `like`."""
        key = (like.dtype, like.shape)
        drawn = self._drawn.get(key)
        if drawn is None:
            drawn = self._drawn[key] = [self._draw(like) for _ in range(DRAWN)]
        return drawn[int(self._random.random() * DRAWN)]

    def _draw(self, like: Tensor) -> Tensor:
        """A piece of the table, in the shape of `like`."""
        table = self._tables.get(like.dtype)
        if table is None:
            eps = torch.finfo(like.dtype).eps
            amplitude = eps * (self._ulps if eps <= self._eps else 1.0)
            table = self._tables[like.dtype] = 1.0 + self._signs.to(like.dtype) * amplitude
        size = like.numel()
        if size > TABLE:
            table = table.repeat(size // TABLE + 1)
        offset = self._random.randrange(TABLE)
        return table[offset : offset + size].view(like.shape)


class _Plan(NamedTuple):
    """What jitter has to know of one operation.

    Attributes:
        rounds: whether its results can be rounded at all.
        casts: whether they are only where the dtype narrows.
        written: (position, name) of the arguments it writes.
        fresh: whether it returns new tensors, rather than views or what it wrote.
    """

    rounds: bool
    casts: bool
    written: tuple[tuple[int, str], ...]
    fresh: bool


@functools.cache
def _plan(func: OpOverload) -> _Plan:
    name = func.overloadpacket.__name__.removeprefix("_foreach_").rstrip("_")
    schema = func._schema  # noqa: SLF001 - the one place that says what an operation writes
    written = tuple(
        (position, argument.name)
        for position, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    fresh = any(returned.alias_info is None for returned in schema.returns)
    return _Plan(name not in EXACT, name in CASTS, written, fresh and not written)


def _whole(value: Tensor) -> bool:
    """Whether the one number in `value` is an exact integer, as a step counter is."""
    return float(value).is_integer()


def _narrows(args: Sequence[Any], result: object) -> bool:
    """Whether a cast or copy went from a finer floating dtype to a coarser one."""
    operands = [tensor for value in args for tensor in _first(value)]
    source, target = operands[-1], [*_first(result), operands[0]][0]  # _to_copy(source), copy_(target, source)
    if not (source.is_floating_point() and target.is_floating_point()):
        return False
    return torch.finfo(target.dtype).eps > torch.finfo(source.dtype).eps


def _first(value: object) -> list[Tensor]:
    """A tensor, or the first of a foreach operation's list of them."""
    if isinstance(value, (list, tuple)):
        value = next(iter(value), None)
    return [value] if isinstance(value, Tensor) else []
