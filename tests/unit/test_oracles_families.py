"""Which rule belongs to a spec, and that torch.optim follows it element by element."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from toys import toy

from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.oracles.adam import Adam, AdamW, AMSGrad, AMSGradW, LazyAdam
from pytest_optcheck.oracles.families import TORCH, rule_for
from pytest_optcheck.oracles.muon import Muon
from pytest_optcheck.oracles.nadam import NAdamW
from pytest_optcheck.oracles.radam import RAdamW
from pytest_optcheck.oracles.sgd import SGD, GradientDescent
from pytest_optcheck.specs import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pytest_optcheck.oracles.base import Rule

SHAPES = {"scalar": (), "vector": (5,), "matrix": (3, 4), "tall": (6, 2), "stack": (2, 3, 2), "empty": (0,)}

MATRICES = ("matrix", "tall")
"""All that Muon takes."""

UPDATES = 12

TORCH_SPECS = (
    "SGD(lr=0.01)",
    "SGD(lr=0.01, weight_decay=0.1, maximize=True)",
    "SGD(lr=0.01, momentum=0.9, dampening=0.3)",
    "SGD(lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1)",
    "Adagrad(lr=0.01, lr_decay=0.1, weight_decay=0.1)",
    "Adagrad(lr=0.01, initial_accumulator_value=0.5, eps=0.01)",
    "RMSprop(lr=0.01)",
    "RMSprop(lr=0.01, alpha=0.9, momentum=0.8, eps=0.01, weight_decay=0.1)",
    "RMSprop(lr=0.01, centered=True, momentum=0.8, maximize=True)",
    "Adadelta(lr=0.7, rho=0.8, weight_decay=0.1)",
    "Adam(lr=0.01)",
    "Adam(lr=0.01, weight_decay=0.1, maximize=True, betas=(0.8, 0.9), eps=0.01)",
    "Adam(lr=0.01, weight_decay=0.1, amsgrad=True)",
    "Adam(lr=0.01, weight_decay=0.1, decoupled_weight_decay=True)",
    "AdamW(lr=0.01, foreach=True)",
    "AdamW(lr=0.01, amsgrad=True, weight_decay=0.2, fused=True)",
    "Adamax(lr=0.01, eps=0.01, weight_decay=0.1)",
    "NAdam(lr=0.01, weight_decay=0.1, momentum_decay=0.02)",
    "NAdam(lr=0.01, weight_decay=0.1, decoupled_weight_decay=True)",
    "RAdam(lr=0.01, weight_decay=0.1)",
    "RAdam(lr=0.01, betas=(0.8, 0.9), weight_decay=0.1, decoupled_weight_decay=True, eps=0.01)",
    "Rprop(lr=0.01, etas=(0.4, 1.3), step_sizes=(0.008, 0.02))",
    "ASGD(lr=0.01, lambd=0.1, alpha=0.6, t0=3.0, weight_decay=0.1)",
    "Adafactor(lr=0.01)",
    "Adafactor(lr=0.3, beta2_decay=-0.6, eps=(0.1, 0.2), d=2.0, weight_decay=0.1)",
    "Muon(lr=0.01)",
    "Muon(lr=0.01, nesterov=False, ns_steps=3, adjust_lr_fn='match_rms_adamw', weight_decay=0.3)",
)


def gradients(name: str) -> Iterator[NDArray[np.float64] | None]:
    """One tensor's, some of them missing, some zero."""
    random = np.random.RandomState(len(name))
    for update in range(UPDATES):
        gradient = np.asarray(random.uniform(-1.0, 1.0, SHAPES[name]))
        gradient[random.uniform(size=gradient.shape) < 0.2] = 0.0
        yield None if update == 2 and name in ("vector", "matrix") else gradient


def distances(text: str, rule: Rule) -> dict[str, float]:
    """The largest relative distance of the optimizer's tensors from the rule's, after any update."""
    chosen = MATRICES if "Muon" in text else tuple(SHAPES) if "Adafactor" not in text else tuple(SHAPES)[:-1]
    random = np.random.RandomState(0)
    values = {name: np.asarray(random.uniform(-1.0, 1.0, SHAPES[name])) for name in chosen}
    tensors = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in values.items()}
    optimizer = parse(f"torch.optim:{text}").factory()(list(tensors.values()))
    state: list[dict[str, Any]] = [{} for _ in chosen]
    found = dict.fromkeys(chosen, 0.0)
    for drawn in zip(*map(gradients, chosen), strict=True):
        for tensor, gradient in zip(tensors.values(), drawn, strict=True):
            tensor.grad = None if gradient is None else torch.tensor(gradient)
        optimizer.step()
        rule.update(list(values.values()), drawn, state)
        for name, value in values.items():
            away = np.abs(tensors[name].detach().numpy() - value)
            found[name] = max(found[name], float(np.max(away / np.max(np.abs(value), initial=1e-300), initial=0.0)))
    return found


def exact(rule: Rule, *, averaging: bool = True, bfloat16: bool = False) -> Rule:
    """Muon's rule with these departures."""
    assert isinstance(rule, Muon)
    return replace(rule, averaging=averaging, bfloat16=bfloat16)


@pytest.fixture
def exact_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make torch's Muon compute its Newton-Schulz in the parameter's dtype."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)


@pytest.mark.usefixtures("exact_muon")
@pytest.mark.parametrize("text", TORCH_SPECS)
def test_torch_follows_its_familys_rule_element_by_element(text: str) -> None:
    rule = rule_for(parse(f"torch.optim:{text}"))
    assert rule is not None
    if text.startswith("Muon"):
        rule = exact(rule)
    found = distances(text, rule)
    assert max(found.values()) < 1e-13, found


@pytest.mark.usefixtures("exact_muon")
@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("RMSprop(lr=0.01)", 1e-9),
        ("RAdam(lr=0.01, betas=(0.8, 0.9))", 1e-3),
        ("NAdam(lr=0.01)", 1e-3),
        ("Rprop(lr=0.01)", 1e-3),
        ("Adafactor(lr=0.01, eps=(0.1, 0.001))", 1e-3),
        ("Adam(lr=0.01, amsgrad=True)", 1e-3),
        ("Adamax(lr=0.01)", 1e-10),
        ("ASGD(lr=0.01)", 1e-12),
        ("Muon(lr=0.01)", 1e-5),
    ],
)
def test_without_its_departures_it_does_not(text: str, least: float) -> None:
    rule = rule_for(parse(f"torch.optim:{text}"))
    assert rule is not None
    assert rule.departures()
    assert not rule.textbook().departures()
    if text.startswith("Muon"):
        rule = exact(rule, averaging=False, bfloat16=True)
        assert least < max(distances(text, rule).values()) < 0.1
    else:
        assert max(distances(text, rule.textbook()).values()) > least


def test_the_newton_schulz_of_muon_is_torchs_up_to_its_bfloat16() -> None:
    rule = rule_for(parse("torch.optim:Muon(lr=0.01)"))
    assert rule is not None
    assert list(rule.departures()) == ["averaging", "bfloat16"]
    assert max(distances("Muon(lr=0.01)", rule).values()) < 1e-3


def test_sparse_adam_follows_the_lazy_rule() -> None:
    rule = rule_for(parse("torch.optim:SparseAdam(lr=0.01, betas=(0.8, 0.9), eps=0.01)"))
    assert isinstance(rule, LazyAdam)
    random = np.random.RandomState(0)
    value = random.uniform(-1.0, 1.0, (6, 3))
    tensor = torch.nn.Parameter(torch.tensor(value))
    optimizer = torch.optim.SparseAdam([tensor], lr=0.01, betas=(0.8, 0.9), eps=0.01)
    state: list[dict[str, Any]] = [{}]
    for _ in range(UPDATES):
        gradient = random.uniform(-1.0, 1.0, (6, 3)) * (random.uniform(size=(6, 1)) < 0.4)
        tensor.grad = torch.tensor(gradient).to_sparse(1)
        optimizer.step()  # type: ignore[no-untyped-call] # torch leaves it untyped
        rule.update([value], [gradient], state)
    assert np.max(np.abs(tensor.detach().numpy() - value)) < 1e-15


def test_every_class_of_torch_but_one_has_a_rule() -> None:
    classes = {
        name
        for name, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer)
    }
    assert classes - set(TORCH) == {"Optimizer", "LBFGS"}
    assert set(TORCH) <= classes | {"Muon"}  # which came with torch 2.9


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("torch.optim:SGD(lr=0.1)", GradientDescent(lr=0.1)),
        ("torch.optim:SGD(lr=0.1, dampening=0.5)", GradientDescent(lr=0.1)),
        ("torch.optim:SGD(lr=0.1, momentum=0.9) >> StepLR(step_size=3)", SGD(lr=0.1, momentum=0.9, rate_outside=True)),
        ("torch.optim.adamw:AdamW(betas=[0.8, 0.9])", AdamW(lr=1e-3, betas=(0.8, 0.9), weight_decay=1e-2)),
        ("torch.optim:Adam(capturable=True, lr=0.1)", Adam(lr=0.1)),
        ("torch.optim:Adam(amsgrad=True)", AMSGrad(bias_correction=True)),
        ("torch.optim:AdamW(amsgrad=True)", AMSGradW(bias_correction=True)),
        (
            "torch.optim:Adam(amsgrad=True, decoupled_weight_decay=True, weight_decay=0.2)",
            AMSGradW(bias_correction=True, weight_decay=0.2),
        ),
        ("torch.optim:LBFGS()", None),
        ("toys:Descent(lr=0.1)", None),
        ("pytest_optcheck.oracles:Adam(lr=0.1)", None),
    ],
)
def test_a_spec_names_its_rule_and_the_settings(text: str, rule: Rule | None) -> None:
    assert rule_for(parse(text)) == rule


@pytest.mark.parametrize(("name", "kind"), [("NAdam", NAdamW), ("RAdam", RAdamW)])
def test_decoupled_weight_decay_is_a_rule_of_its_own(name: str, kind: type[Rule]) -> None:
    spec = parse(f"torch.optim:{name}(decoupled_weight_decay=True, weight_decay=0.1)")
    assert type(rule_for(spec)) is kind


class Own(torch.optim.AdamW):
    """AdamW with an argument more, and other defaults."""

    def __init__(self, params: Any, lr: float = 0.1, betas: Any = (0.5, 0.6), *, cautious: bool = False) -> None:  # noqa: ANN401 - as torch's
        super().__init__(params, lr=lr, betas=betas)
        self.cautious = cautious


def test_a_declared_optimizer_has_its_familys_rule_with_its_own_defaults() -> None:
    declared = {f"{__name__}:Own": "adamw"}
    rule = rule_for(parse(f"{__name__}:Own(lr=0.2)"), declared)
    assert rule == AdamW(lr=0.2, betas=(0.5, 0.6))
    assert rule_for(parse(f"{__name__}:Own(lr=0.2)")) is None
    assert rule_for(parse(f"{__name__}:Own(cautious=True)"), declared) is None  # of that no textbook knows anything


def test_a_declared_factory_has_the_settings_of_its_groups() -> None:
    spec = toy(lambda params: torch.optim.Adam(params, lr=0.3, weight_decay=0.1), "mine")
    assert rule_for(spec, {"mine": "adam"}) == Adam(lr=0.3, weight_decay=0.1)
    assert rule_for(spec, {"other": "adam"}) is None


def test_a_class_that_is_not_there_is_said_so() -> None:
    with pytest.raises(OptcheckError, match="has no 'Gone'"):
        rule_for(parse("toys:Gone(lr=0.1)"), {"toys:Gone": "adam"})
