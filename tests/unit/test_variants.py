from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from route_mutants import Mixed, Rule
from toys import Descent

from pytest_optcheck import variants
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.settings import Settings
from pytest_optcheck.specs import TextSpec, parse
from pytest_optcheck.variants import Variants, derive, telling

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

MIXED = Mixed()


class Knobs(Descent):
    """An argument of each kind: used, used in company only, late, unused, refused."""

    def __init__(  # noqa: PLR0913 - that is the point
        self,
        params: Iterable[Any],
        lr: float = 0.1,
        *,
        scale: float = 1.0,
        momentum: float = 0.0,
        nesterov: bool = False,
        warm: int = 0,
        hold: int = 9,
        unused: float = 0.5,
        counts: int = 1,
        refused: float = 0.25,
        clip: float | None = None,
        mode: str = "sum",
        schedule: Any = math.sqrt,  # noqa: ANN401 - a callable
        sizes: tuple[float, ...] = (),
    ) -> None:
        super().__init__(params, lr)
        del unused, counts, clip, mode, schedule, sizes
        if refused != 0.25:
            raise ValueError("refused may only be 0.25")
        if nesterov and warm:
            raise ValueError("nesterov cannot be warmed")
        self.scale, self.momentum, self.nesterov, self.warm, self.hold = scale, momentum, nesterov, warm, hold
        self.buffers: dict[Tensor, Tensor] = {}

    def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        old = self.buffers.get(parameter, torch.zeros_like(gradient))
        self.buffers[parameter] = old * self.momentum + gradient
        moved = self.buffers[parameter] * self.momentum + gradient if self.nesterov else self.buffers[parameter]
        factor = self.scale * (0.5 if self.warm and self.updates > self.warm else 1.0)
        super().update(parameter, moved * factor, lr if self.updates <= self.hold or self.hold < 9 else lr * 0.9)


class Rounds(Descent):
    """An argument that chooses an order of the same operations, and another whose effect is tiny."""

    def __init__(self, params: Iterable[Any], lr: float = 0.1, *, reorder: bool = False, tiny: bool = False) -> None:
        super().__init__(params, lr)
        self.reorder, self.tiny = reorder, tiny

    def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        if self.reorder:
            gradient = gradient / 3.0 * 3.0
        super().update(parameter, gradient, lr * (1.0 + 1e-11) if self.tiny else lr)


def spec(cls: type, **keywords: Any) -> TextSpec:  # noqa: ANN401 - any literal
    """A toy as a user would name it."""
    return TextSpec(cls.__module__, cls.__qualname__, tuple(sorted(keywords.items())))


def settings_of(found: Variants) -> list[dict[str, Any]]:
    """The keywords of each variant."""
    return [dict(varied.keywords) for varied in found.specs]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("nesterov", False, [True]),
        ("nesterov", True, [False]),
        ("momentum", 0.0, [0.9]),
        ("momentum", 0, [0.9, 1]),
        ("dampening", 0, [0.5, 1]),
        ("weight_decay", 0, [0.1, 1]),
        ("weight_decay", 0.0, [0.1]),
        ("weight_decay", 0.01, [0.009]),
        ("alpha", 0.99, [0.891]),
        ("eps", 1e-8, [1e-2]),
        ("eps", -1e-8, [1e-2]),
        ("clip", 1.0, [1.25]),
        ("clip", 2.0, [1.8]),
        ("t0", 1e6, [10.0]),
        ("tau", -0.8, [-0.44]),
        ("period", 1, [2]),
        ("period", 2, [3]),
        ("period", 10, [2, 11]),
        ("betas", (0.9, 0.999), [(0.81, 0.8991)]),
        ("betas", [0.9, 0.0], [[0.81, 0.1]]),
        ("eps", (None, 1e-3), [(None, 0.0009)]),
        ("etas", (0.5, 1.2), [(0.45, 1.16)]),
        ("mixed", (1, 0.5, True, "x"), [(1, 0.45, True, "x")]),
    ],
)
def test_a_telling_value_depends_on_kind_and_size(name: str, value: object, expected: list[object]) -> None:
    assert repr(list(telling(name, value))) == repr(expected)


@pytest.mark.parametrize(
    "value", [None, "sum", math.sqrt, (), [], (1, 2), {"a": 1.0}, math.inf, -math.inf, math.nan, Rule]
)
def test_what_cannot_be_guessed_is_left_alone(value: object) -> None:
    assert list(telling("anything", value)) == []


@pytest.mark.parametrize("value", [True, 0, 3, 0.0, 0.3, 1.0, 7.5, 1e-9, 1e4, (0.9, 0.99)])
def test_a_telling_value_is_another_one(value: object) -> None:
    assert all(other != value for other in telling("anything", value))


def test_what_moves_the_curve_is_a_variant_and_what_does_not_is_dead() -> None:
    found = derive(spec(Knobs), MIXED, Conditions())
    assert settings_of(found) == [
        {"scale": 1.25},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"warm": 0.1},
        {"hold": 2},
    ]
    assert found.dead == ("unused", "counts")


def test_what_the_spec_sets_is_the_base() -> None:
    found = derive(spec(Knobs, momentum=0.5, lr=0.05), MIXED, Conditions())
    assert all(keywords["lr"] == 0.05 for keywords in settings_of(found))
    assert {"lr": 0.05, "momentum": 0.5, "nesterov": True} in settings_of(found)
    assert {"lr": 0.05, "momentum": 0.45} in settings_of(found)


class Lonely(Knobs):
    """Cannot be given the momentum without which its argument does nothing."""

    def __init__(self, params: Iterable[Any], *, nesterov: bool = False) -> None:
        super().__init__(params, nesterov=nesterov)


def test_without_its_companion_an_argument_is_dead() -> None:
    found = derive(spec(Lonely), MIXED, Conditions())
    assert found == Variants((), ("nesterov",))


def test_an_argument_whose_values_all_raise_is_neither_variant_nor_dead() -> None:
    found = derive(spec(Knobs), MIXED, Conditions())
    assert "refused" not in found.dead
    assert all("refused" not in keywords for keywords in settings_of(found))


def test_another_order_of_the_same_operations_is_no_variant() -> None:
    found = derive(spec(Rounds), MIXED, Conditions())
    assert settings_of(found) == [{"tiny": True}]
    assert found.dead == ("reorder",)


def test_what_shows_late_is_no_dead_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first trials are short."""
    monkeypatch.setattr(variants, "SHORT", 4)
    found = derive(TextSpec(__name__, "Late"), MIXED, Conditions())
    assert found == Variants((TextSpec(__name__, "Late", (("slow", True),)),), ())


class Late(Descent):
    """Has an argument that is used from the ninth update on."""

    def __init__(self, params: Iterable[Any], lr: float = 0.1, *, slow: bool = False) -> None:
        super().__init__(params, lr)
        self.slow = slow

    def update(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        super().update(parameter, gradient, lr * 0.5 if self.slow and self.updates > 8 else lr)


@pytest.mark.parametrize("name", ["lr", "foreach", "fused", "capturable", "differentiable", "maximize"])
def test_what_routes_vary_is_no_variant(name: str) -> None:
    found = derive(spec(Rule), MIXED, Conditions())
    assert found.dead == ()
    assert settings_of(found) == [{"weight_decay": 0.09}]
    assert all(name not in keywords for keywords in settings_of(found))


def test_an_optimizer_without_arguments_has_no_variants() -> None:
    assert derive(spec(Bare), MIXED, Conditions()) == Variants((), ())


class Bare(Descent):
    """Takes parameters and nothing else."""

    def __init__(self, params: Iterable[Any]) -> None:
        super().__init__(params)


TORCH = {
    "torch.optim:SGD(lr=0.01)": [
        "torch.optim:SGD(lr=0.01, momentum=0.9)",
        "torch.optim:SGD(dampening=0.5, lr=0.01, momentum=0.9)",
        "torch.optim:SGD(lr=0.01, weight_decay=0.1)",
        "torch.optim:SGD(lr=0.01, momentum=0.9, nesterov=True)",
    ],
    "torch.optim:Adam(lr=0.01)": [
        "torch.optim:Adam(betas=(0.81, 0.8991), lr=0.01)",
        "torch.optim:Adam(eps=0.01, lr=0.01)",
        "torch.optim:Adam(lr=0.01, weight_decay=0.1)",
        "torch.optim:Adam(amsgrad=True, lr=0.01)",
        "torch.optim:Adam(decoupled_weight_decay=True, lr=0.01, weight_decay=0.1)",
    ],
}


@pytest.mark.parametrize("text", TORCH)
def test_every_branch_of_a_torch_optimizer_is_found(text: str) -> None:
    found = derive(parse(text), MIXED, Conditions())
    assert [varied.text for varied in found.specs] == TORCH[text]
    assert found.dead == ()


def test_variants_keep_the_schedulers() -> None:
    found = derive(parse("torch.optim:SGD(lr=0.01, momentum=0.9) >> StepLR(step_size=5)"), MIXED, Conditions())
    assert found.specs
    assert all(varied.text.endswith(" >> StepLR(step_size=5)") for varied in found.specs)


def chosen(*lines: str) -> list[str]:
    """The variants of SGD under a setting, when one was derived."""
    base = parse("torch.optim:SGD(lr=0.01)")
    settings = Settings(
        targets=(),
        known={},
        workloads=(),
        only=(),
        device="cpu",
        curves=Path(),
        update=frozenset(),
        reason="",
        allow=frozenset(),
        diverging=frozenset(),
        marked=True,
        variants=lines,
    )
    return [varied.text for varied in settings.chosen_variants(base, (base.with_settings(momentum=0.9),))]


def test_derived_variants_are_chosen_by_default() -> None:
    assert chosen("auto") == ["torch.optim:SGD(lr=0.01, momentum=0.9)"]


def test_listed_variants_replace_the_derived_ones() -> None:
    assert chosen("nesterov=True, momentum=0.5", "lr=0.1") == [
        "torch.optim:SGD(lr=0.01, momentum=0.5, nesterov=True)",
        "torch.optim:SGD(lr=0.1)",
    ]


def test_a_listed_variant_that_the_constructor_does_not_take_is_left_out() -> None:
    assert chosen("amsgrad=True", "momentum=0.5, amsgrad=True", "momentum=0.5") == [
        "torch.optim:SGD(lr=0.01, momentum=0.5)"
    ]
