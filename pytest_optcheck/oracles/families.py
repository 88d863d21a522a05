"""Which textbook rule belongs to an optimizer spec, with the spec's settings and the departures its class is known for.

The settings are taken from the text of the spec and the signature of its class, not from what the optimizer does with
them: that is what is being asked.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from inspect import Parameter
from typing import TYPE_CHECKING, Any

from pytest_optcheck.oracles.adadelta import Adadelta
from pytest_optcheck.oracles.adafactor import Adafactor
from pytest_optcheck.oracles.adagrad import Adagrad
from pytest_optcheck.oracles.adam import Adam, AdamW, AMSGrad, AMSGradW, LazyAdam
from pytest_optcheck.oracles.adamax import Adamax
from pytest_optcheck.oracles.asgd import ASGD
from pytest_optcheck.oracles.lamb import LAMB
from pytest_optcheck.oracles.lars import LARS
from pytest_optcheck.oracles.lion import Lion
from pytest_optcheck.oracles.muon import Muon
from pytest_optcheck.oracles.nadam import NAdam, NAdamW
from pytest_optcheck.oracles.radam import RAdam, RAdamW
from pytest_optcheck.oracles.rmsprop import RMSprop
from pytest_optcheck.oracles.rprop import Rprop
from pytest_optcheck.oracles.sgd import SGD, GradientDescent
from pytest_optcheck.oracles.signsgd import SignSGD
from pytest_optcheck.specs import TextSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_optcheck.oracles.base import Rule
    from pytest_optcheck.specs import OptimizerSpec

IMPLEMENTATIONS = frozenset(("foreach", "fused", "capturable", "differentiable"))
"""Settings that no textbook has: they choose among implementations of one rule."""


@dataclass(frozen=True, slots=True)
class Family:
    """A textbook rule, and how torch's class departs from it.

    Attributes:
        rule: the rule.
        departures: field of the rule -> value, for torch's class and all that follow it.
        otherwise: setting -> the family that an optimizer belongs to where it is truthy, the first that is.
    """

    rule: type[Rule]
    departures: Mapping[str, Any] = field(default_factory=dict)
    otherwise: Mapping[str, Family] = field(default_factory=dict)

    def of(self, settings: Mapping[str, Any]) -> Family:
        """The family of an optimizer with these settings."""
        chosen = next((family for flag, family in self.otherwise.items() if settings.get(flag)), None)
        return self if chosen is None else chosen.of(settings)

    def understood(self) -> frozenset[str]:
        """The settings that it, or a family that it leads to, knows what to do with."""
        own = {item.name for item in dataclasses.fields(self.rule)} | set(self.otherwise)
        return frozenset(own).union(*(family.understood() for family in self.otherwise.values()))


_CORRECTED = {"bias_correction": True}
_AMSGRADW = Family(AMSGradW, _CORRECTED)
_AMSGRAD = Family(AMSGrad, _CORRECTED, {"decoupled_weight_decay": _AMSGRADW})
_ADAMW = Family(AdamW, otherwise={"amsgrad": _AMSGRADW})
_SPARSE = {"lazy": True, "eps_before_correction": True}
_NADAM = {"constant_average": True, "plain_estimate": True, "float32_product": True}
_RADAM = {"threshold": 5.0, "eps_before_correction": True}
_RMSPROP = {"eps_outside": True, "rate_outside": True}
_MUON = {"averaging": True, "bfloat16": True}
_MOMENTUM = Family(SGD, {"rate_outside": True})

FAMILIES: Mapping[str, Family] = {
    "adadelta": Family(Adadelta),
    "adafactor": Family(Adafactor, {"bounded": True}),
    "adagrad": Family(Adagrad),
    "adam": Family(Adam, otherwise={"amsgrad": _AMSGRAD, "decoupled_weight_decay": _ADAMW}),
    "adamax": Family(Adamax, {"eps": 1e-8}),
    "adamw": _ADAMW,
    "amsgrad": _AMSGRAD,
    "asgd": Family(ASGD, {"kept_rate": True}),
    "gradient_descent": Family(GradientDescent),
    "lamb": Family(LAMB),
    "lars": Family(LARS),
    "lion": Family(Lion),
    "muon": Family(Muon, _MUON),
    "nadam": Family(NAdam, _NADAM, {"decoupled_weight_decay": Family(NAdamW, _NADAM)}),
    "radam": Family(RAdam, _RADAM, {"decoupled_weight_decay": Family(RAdamW, _RADAM)}),
    "rmsprop": Family(RMSprop, _RMSPROP),
    "rprop": Family(Rprop, {"backtracking": False}),
    "sgd": Family(GradientDescent, otherwise={"momentum": _MOMENTUM}),
    "signsgd": Family(SignSGD),
    "sparse_adam": Family(LazyAdam, _SPARSE),
}
"""Name -> family; the names are those of `names.FAMILIES`."""

TORCH: Mapping[str, str] = {
    "ASGD": "asgd",
    "Adadelta": "adadelta",
    "Adafactor": "adafactor",
    "Adagrad": "adagrad",
    "Adam": "adam",
    "AdamW": "adamw",
    "Adamax": "adamax",
    "Muon": "muon",
    "NAdam": "nadam",
    "RAdam": "radam",
    "RMSprop": "rmsprop",
    "Rprop": "rprop",
    "SGD": "sgd",
    "SparseAdam": "sparse_adam",
}
"""Class of ``torch.optim`` -> name of its family. LBFGS has none: where it goes depends on how it searches a line."""


def rule_for(spec: OptimizerSpec, same_as: Mapping[str, str] | None = None) -> Rule | None:
    """The rule that `spec` should follow: the textbook's, with the departures that torch's class is known for.

    None where the class is of no family, and where the spec sets what the family's rule does not have.

    Args:
        spec: an optimizer.
        same_as: ``module:Class``, or the name of a factory -> name of its family, as users declare it.

    Raises:
        OptcheckError: the class is not there.
    """
    name = _family_name(spec, same_as or {})
    if name is None:
        return None
    family = FAMILIES[name]
    if isinstance(spec, TextSpec):
        if not dict(spec.keywords).keys() <= family.understood() | IMPLEMENTATIONS:
            return None
        defaults = {key: value for key, value in (spec.accepts() or {}).items() if value is not Parameter.empty}
        settings = {**defaults, **dict(spec.keywords)}
    else:
        settings = _group(spec)
    family = family.of(settings)
    own = {item.name for item in dataclasses.fields(family.rule)} & settings.keys()
    return family.rule(**{**family.departures, **{key: _plain(settings[key]) for key in own}})


def _family_name(spec: OptimizerSpec, same_as: Mapping[str, str]) -> str | None:
    if not isinstance(spec, TextSpec):
        return same_as.get(spec.text)
    if spec.module == "torch.optim" or spec.module.startswith("torch.optim."):
        return TORCH.get(spec.name)
    return same_as.get(spec.address)


def _group(spec: OptimizerSpec) -> dict[str, Any]:
    """The settings that a factory gave its optimizer; there is no text to read them from."""
    from pytest_optcheck.building import sample

    groups = getattr(sample(spec), "param_groups", None) or [{}]
    return {name: value for name, value in groups[0].items() if name != "params"}


def _plain(value: Any) -> Any:  # noqa: ANN401 - any setting
    """As rules have it: pairs are tuples."""
    return tuple(value) if isinstance(value, list) else value
