"""A golden says whether its optimizer is what the textbook says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from guarded import asked, case, only, plain_golden, written
from msgspec import structs
from recordings import scheduled
from test_settings import read
from toys import Bowl, TwoGroups, toy

from pytest_optcheck import updating
from pytest_optcheck.building import plain
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.curves import Needs
from pytest_optcheck.envelopes import bare_curve
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.findings import against_textbook, effect, findings
from pytest_optcheck.format import Golden, Textbook, decode, encode
from pytest_optcheck.goldens import Goldens
from pytest_optcheck.judge import Verdict
from pytest_optcheck.oracles import comparing
from pytest_optcheck.oracles.comparing import compared
from pytest_optcheck.recorder import Recording, record
from pytest_optcheck.specs import parse
from pytest_optcheck.training import train
from pytest_optcheck.workloads.zoo import Zoo

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_optcheck.specs import OptimizerSpec
    from pytest_optcheck.workloads.base import Workload

ZOO = Zoo()


class Right(torch.optim.AdamW):
    """AdamW with other defaults."""

    def __init__(self, params: Iterable[Any], lr: float = 0.01, betas: tuple[float, float] = (0.8, 0.9)) -> None:
        super().__init__(params, lr=lr, betas=betas)


class Wrong(Right):
    """Decays twice as much from its fifth update on."""

    updates = 0

    def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - as torch's
        self.updates += 1
        for group in self.param_groups:
            group["weight_decay"] *= 2.0 if self.updates == 5 else 1.0
        return super().step(closure)


class Listed(Right):
    """Keeps its betas in a list, so that no later group is given others."""

    def __init__(self, params: Iterable[Any], lr: float = 0.01, betas: tuple[float, float] = (0.8, 0.9)) -> None:
        super().__init__(params, lr, betas)
        for group in self.param_groups:
            group["betas"] = list(group["betas"])


def golden_of(spec: OptimizerSpec, workload: Workload, needs: Needs | None = None) -> Golden:
    """What recording keeps of it, without an envelope: judging has a least one."""
    needed = needs or Needs()
    run = train(plain(spec), workload, Conditions(needs=needed))
    curves: dict[Any, Any] = {"float64": bare_curve(run)}
    rates = [list(rates) for rates in run.rates]
    return structs.replace(plain_golden(), spec=spec.text, needs=needed, curves=curves, rates=rates)


def found_for(name: str, workload: Workload = ZOO, **declared: str) -> Textbook | None:
    spec = parse(f"{__name__}:{name}(lr=0.02)")
    same_as = {f"{__name__}:{key}": family for key, family in declared.items()}
    return compared(spec, workload, golden_of(spec, workload), "cpu", same_as)


def test_an_optimizer_that_follows_the_textbook_agrees_with_it() -> None:
    found = found_for("Right", Right="adamw")
    assert found is not None
    assert (found.rule, found.departs, found.options, found.strict) == ("AdamW", None, (), None)
    assert found.deviation is not None
    assert found.deviation < 1e-14


def test_a_broken_one_departs_from_the_update_on_in_which_it_is() -> None:
    found = found_for("Wrong", Wrong="adamw")
    assert found is not None
    assert found.departs == 5
    assert found.deviation is not None
    assert found.deviation > 1e-4


def test_another_family_is_another_algorithm() -> None:
    found = found_for("Right", Right="adam")
    assert found is not None
    assert found.departs == 1


def test_what_later_groups_are_given_is_given_to_the_oracle_too_and_nothing_else() -> None:
    found = found_for("Listed", Listed="adamw")
    assert found is not None
    assert found.departs is None


def test_without_a_family_there_is_nothing_to_compare() -> None:
    assert found_for("Right") is None
    assert found_for("Right", TwoGroups(), Right="adamw") is None


def test_a_golden_that_cannot_be_compared_is_not() -> None:
    spec = parse("torch.optim:SGD(lr=0.01)")
    golden = golden_of(spec, ZOO)
    assert compared(spec, ZOO, golden, "cpu", {}) is not None
    curve = golden.curves["float64"]
    for other in (
        structs.replace(golden, stochastic=True),
        structs.replace(golden, curves={"float32": curve}),
        structs.replace(golden, curves={"float64": structs.replace(curve, diverges=(3, 3))}),
    ):
        assert compared(spec, ZOO, other, "cpu", {}) is None


def test_what_torch_is_known_to_do_otherwise_is_told_with_both_figures() -> None:
    spec = parse("torch.optim:NAdam(lr=0.01)")
    found = compared(spec, ZOO, golden_of(spec, ZOO), "cpu", {})
    assert found is not None
    assert found.departs is None
    assert found.options == ("constant_average", "plain_estimate", "float32_product")
    assert found.deviation is not None
    assert found.strict is not None
    assert found.deviation < 1e-14
    assert found.strict > 1e-4


def test_an_optimizer_with_needs_is_compared_under_them() -> None:
    spec = parse("torch.optim:SparseAdam(lr=0.01)")
    found = compared(spec, ZOO, golden_of(spec, ZOO, Needs(sparse=True, frozen=("scalar",))), "cpu", {})
    assert found is not None
    assert (found.rule, found.departs) == ("LazyAdam", None)


def test_schedulers_are_stepped_with_the_oracle() -> None:
    spec = parse("torch.optim:SGD(lr=0.01, momentum=0.9) >> StepLR(gamma=0.5, step_size=15)")
    found = compared(spec, ZOO, golden_of(spec, ZOO), "cpu", {})
    assert found is not None
    assert found.departs is None
    assert found.strict is not None
    assert found.strict > 1e-3  # a rate outside the velocity is another rule once it changes


def test_an_oracle_that_cannot_train_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "ON", ("bowl",))
    spec = toy(lambda params: torch.optim.SGD(params, lr=0.1), "mine")
    found = compared(spec, Bowl(), golden_of(spec, Bowl()), "cpu", {"mine": "muon"})  # a vector is no matrix
    assert found is not None
    assert (found.deviation, found.departs) == (None, 1)


def test_recording_compares_and_the_file_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "ON", ("bowl",))
    golden = record(Recording(parse("torch.optim:Adam(lr=0.01)"), Bowl(), dtypes=("float64",), lean=True))
    assert golden.textbook is not None
    assert (golden.textbook.rule, golden.textbook.departs) == ("Adam", None)
    assert decode(encode(golden), Path("g.json")) == golden
    assert ", agrees with textbook Adam to " in effect(None, golden, Verdict("missing"))
    assert list(findings(golden)) == []


def test_a_golden_of_before_is_read_as_not_compared() -> None:
    text = encode(plain_golden()).replace(',\n "textbook": null', "")
    assert "textbook" not in text
    golden = decode(text, Path("g.json"))
    assert golden is not None
    assert golden.textbook is None


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Textbook("AdamW", 2e-16), "agrees with textbook AdamW to 2.0e-16"),
        (
            Textbook("Adamax", 1e-15, options=("eps",), strict=0.02),
            "agrees with textbook Adamax to 1.0e-15 (as torch has it: eps; to 2.0e-02 without)",
        ),
        (
            Textbook("Adamax", 1e-15, options=("eps",)),
            "agrees with textbook Adamax to 1.0e-15 (as torch has it: eps; not at all without)",
        ),
        (Textbook("Lion", 0.5, 3, "conv"), "departs from textbook Lion by 5.0e-01, from step 3 on in conv"),
        (Textbook("Lion", 0.5, 3), "departs from textbook Lion by 5.0e-01, from step 3 on"),
        (Textbook("Lion", None, 3), "departs from textbook Lion, which does not train beyond update 3"),
    ],
)
def test_it_is_told_in_one_line(found: Textbook, text: str) -> None:
    golden = structs.replace(plain_golden(), textbook=found)
    assert against_textbook(golden) == text
    departs = found.departs is not None
    assert (text in findings(golden), effect(None, golden, Verdict("missing")).endswith(text)) == (departs, not departs)


def test_an_update_of_what_is_missing_adds_the_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (updating, comparing):
        monkeypatch.setattr(module, "ON", ("bowl",))
    golden = plain_golden()
    Goldens(tmp_path).save(golden)
    result = only(update_of("missing", tmp_path))
    new = written(result, tmp_path)
    assert new.textbook is not None
    assert (new.textbook.rule, new.textbook.departs) == ("SGD", None)
    assert result.effect == against_textbook(new)
    assert structs.replace(new, textbook=None) == golden
    Goldens(tmp_path).save(new)
    assert only(update_of("missing", tmp_path)).golden is None


def test_no_other_update_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (updating, comparing):
        monkeypatch.setattr(module, "ON", ("bowl",))
    Goldens(tmp_path).save(plain_golden())
    assert only(update_of("changed", tmp_path)).golden is None


def update_of(mode: str, tmp_path: Path) -> list[Any]:
    return updating.update(case(dtype=None), asked(tmp_path, mode, same_as={"toy": "sgd"}))


def test_a_factory_that_brings_schedulers_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "ON", ("bowl",))
    spec = toy(scheduled)
    golden = golden_of(spec, Bowl())
    assert golden.rates
    assert compared(spec, Bowl(), golden, "cpu", {"toy": "sgd"}) is None


def test_the_ini_setting_is_read_and_checked(pytester: pytest.Pytester) -> None:
    assert read(pytester, "optcheck_same_as = mylib:AdamW2 = adamw\n    mine = lion").same_as == {
        "mylib:AdamW2": "adamw",
        "mine": "lion",
    }
    assert read(pytester, "").same_as == {}
    with pytest.raises(OptcheckError, match="no family is called 'adamv'"):
        read(pytester, "optcheck_same_as = mylib:AdamW2 = adamv")
