from __future__ import annotations

import math
import sys
import warnings
from types import ModuleType
from typing import Any

import pytest
import sample_schedules
import torch

from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.schedules import Reference, SchedulerSpec, Schedules, attach, current, split
from pytest_optcheck.specs import parse

PREFIX = "m:A() >> "
MODULE = "optcheck_schedule_targets"
CONSTANT_LOSS = 1.0

SPECS = [
    "StepLR(gamma=0.5, step_size=15)",
    "MultiStepLR(gamma=0.3, milestones=[10, 25, 25, 45])",
    "ConstantLR(factor=0.25, total_iters=8)",
    "LinearLR(start_factor=0.1, total_iters=12)",
    "ExponentialLR(gamma=0.95)",
    "PolynomialLR(power=2.0, total_iters=50)",
    "CosineAnnealingLR(T_max=40, eta_min=0.0001)",
    "CosineAnnealingWarmRestarts(T_0=8, T_mult=2)",
    "CyclicLR(base_lr=0.001, max_lr=0.006, step_size_up=8)",
    "OneCycleLR(max_lr=0.02, total_steps=80)",
    "ReduceLROnPlateau(cooldown=5, factor=0.5, patience=4)",
    "LambdaLR(lr_lambda=sample_schedules.inverse_square_root)",
    "LambdaLR(lr_lambda=[sample_schedules.inverse_square_root, sample_schedules.halve])",
    "MultiplicativeLR(lr_lambda=sample_schedules.halve)",
    "SequentialLR(milestones=[5], schedulers=[LinearLR(total_iters=5), CosineAnnealingLR(T_max=20)])",
    "ChainedScheduler(schedulers=[ConstantLR(total_iters=5), ExponentialLR(gamma=0.97)])",
    "torch.optim.swa_utils.SWALR(anneal_epochs=30, swa_lr=0.002)",
    "LinearLR(total_iters=12) >> StepLR(step_size=20)",
    "ConstantLR(total_iters=3) >> ReduceLROnPlateau(patience=4)",
]
"""Every scheduler of torch, and some that are stepped together."""


class Warmup:
    """Stands for a scheduler of one's own, which calls its optimizer otherwise; keeps what it was built with."""

    def __init__(self, opt: object, steps: int = 3, *, inner: object = None) -> None:
        self.built = (opt, steps, inner)

    class Nested:
        def __init__(self, optimizer: object) -> None:
            self.optimizer = optimizer


@pytest.fixture
def targets(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An importable module with one target of every kind."""
    module = ModuleType(MODULE)
    vars(module).update(Warmup=Warmup, number=3)
    monkeypatch.setitem(sys.modules, MODULE, module)
    return module


def scheduler_of(text: str) -> SchedulerSpec:
    """The only scheduler of a spec."""
    (scheduler,) = parse(PREFIX + text).schedulers
    return scheduler


def refusal(text: str) -> str:
    """The one line with which a scheduler is refused, be it on reading or on importing."""
    with pytest.raises(OptcheckError) as caught:
        parse(PREFIX + text).schedules()
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    return line.removeprefix(f"optimizer spec {PREFIX + text!r}: ")


def optimizer(lr: Any = 0.01) -> torch.optim.Optimizer:  # noqa: ANN401 - a float or a tensor
    """SGD with two groups, the second at half the learning rate."""
    first, second = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    return torch.optim.SGD([{"params": [first]}, {"params": [second], "lr": lr * 0.5}], lr=lr, momentum=0.9)


def scheduled(text: str, lr: Any = 0.01) -> tuple[torch.optim.Optimizer, Schedules]:  # noqa: ANN401 - see optimizer
    """An optimizer and the schedulers `text` names, built for it."""
    built = optimizer(lr)
    return built, Schedules(tuple(parse(PREFIX + text).schedules()(built)))


def rates(optimizer: torch.optim.Optimizer, schedules: Schedules, steps: int) -> list[tuple[float, ...]]:
    """The learning rates after each of `steps` updates."""
    seen = []
    for _ in range(steps):
        optimizer.step()
        schedules.step(CONSTANT_LOSS)
        seen.append(current(optimizer))
    return seen


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("StepLR", "StepLR()"),
        ("StepLR(step_size=30, gamma=.5)", "StepLR(gamma=0.5, step_size=30)"),
        ("torch.optim.lr_scheduler.StepLR(step_size=30)", "StepLR(step_size=30)"),
        ("MultiStepLR(milestones=[1,2])", "MultiStepLR(milestones=[1, 2])"),
        ("CyclicLR(base_lr=(.1,.2), mode='exp_range')", "CyclicLR(base_lr=(0.1, 0.2), mode='exp_range')"),
        ("X(x=(1,), y=(), z={'a': -1})", "X(x=(1,), y=(), z={'a': -1})"),
        ("LambdaLR(lr_lambda = a . b)", "LambdaLR(lr_lambda=a.b)"),
        ("LambdaLR(lr_lambda=[a.b,a.c])", "LambdaLR(lr_lambda=[a.b, a.c])"),
        ("ChainedScheduler([A(x=1),B()])", "ChainedScheduler(schedulers=[A(x=1), B()])"),
        ("SequentialLR([A(), B()], milestones=[5])", "SequentialLR(milestones=[5], schedulers=[A(), B()])"),
        ("SequentialLR(schedulers=[A(), b.C(d=e.f)])", "SequentialLR(schedulers=[A(), b.C(d=e.f)])"),
        ("Delayed(after=StepLR(step_size=2))", "Delayed(after=StepLR(step_size=2))"),
    ],
)
def test_the_same_scheduler_always_gives_the_same_text(written: str, canonical: str) -> None:
    assert scheduler_of(written).text == canonical
    assert repr(scheduler_of(canonical)) == canonical
    assert scheduler_of(written) == scheduler_of(canonical)


def test_a_spec_with_lists_among_its_arguments_can_be_hashed() -> None:
    assert len({scheduler_of("MultiStepLR(milestones=[1])"), scheduler_of("MultiStepLR(milestones=[1])")}) == 1


def test_a_scheduler_is_parsed_into_name_and_values_of_every_kind() -> None:
    assert scheduler_of("a.B(z=[C()], y=d.e, x=1)") == SchedulerSpec(
        "a.B", (("x", 1), ("y", Reference("d.e")), ("z", [SchedulerSpec("C")]))
    )


@pytest.mark.parametrize(
    "shape", ["3", "StepLR()()", "'StepLR'", "[StepLR()]", "(A() >> B())", "StepLR()[0]", "-StepLR()"]
)
def test_what_is_no_scheduler_is_refused(shape: str) -> None:
    line = refusal(shape)
    assert line.startswith("expected a scheduler, as StepLR(step_size=30), not ")


@pytest.mark.parametrize(
    "arguments", ["30", "[30, 60]", "[]", "[StepLR]", "*[A()]", "**{}", "[A()], 5", "[A(), 5]", "A()", "(A(),)"]
)
def test_of_arguments_without_keyword_only_a_list_of_schedulers_is_read(arguments: str) -> None:
    assert refusal(f"StepLR({arguments})") == "arguments must be written keyword=literal"


def test_the_list_of_schedulers_may_not_be_written_twice() -> None:
    assert refusal("ChainedScheduler([A()], schedulers=[B()])") == "a keyword is written twice"


@pytest.mark.parametrize(
    "value",
    ["halve", "lambda n: 1", "1 * 2", "f().g", "[x]", "[*x]", "{'a': b.c}", "{1}", "1e999", "A() >> B()", "a.b[0]"],
)
def test_what_is_neither_literal_nor_scheduler_nor_dotted_name_is_refused(value: str) -> None:
    line = refusal(f"LambdaLR(lr_lambda={value})")
    assert line.startswith("lr_lambda=")
    assert " is not a literal; " in line
    assert line.endswith("(a callable is named with its module, as my_package.module.name)")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("StpLR()", "'torch.optim.lr_scheduler' has no 'StpLR'; did you mean 'StepLR'"),
        ("StepLR(stepsize=1)", "StepLR takes no 'stepsize'; it takes step_size, gamma, last_epoch"),
        ("StepLR()", "StepLR cannot be called so: missing a required argument: 'step_size'"),
        ("StepLR(optimizer=1)", "StepLR takes no 'optimizer'; it takes step_size, gamma, last_epoch"),
        ("ChainedScheduler()", "ChainedScheduler cannot be called so: missing a required argument: 'schedulers'"),
        ("EPOCH_DEPRECATION_WARNING()", "'EPOCH_DEPRECATION_WARNING' is a str, not a class or a factory"),
        ("optcheck_no_module.A()", "module 'optcheck_no_module' does not import (ModuleNotFoundError: "),
        ("optcheck_no_module.b.A()", "module 'optcheck_no_module' does not import (ModuleNotFoundError: "),
        ("torch.optim.swa_utils.SWARL()", "'torch.optim.swa_utils' has no 'SWARL'; did you mean 'SWALR'"),
        ("LambdaLR(lr_lambda=sample_schedules.half)", "'sample_schedules' has no 'half'; did you mean 'halve'?"),
        ("LambdaLR(lr_lambda=[math.pi])", "'pi' is a float, not a callable"),
        (f"{MODULE}.Warmup(step=1)", f"{MODULE}.Warmup takes no 'step'; it takes steps, inner"),
        (f"{MODULE}.Warmup(inner=LinearLR(x=1))", "LinearLR takes no 'x'; it takes start_factor, end_factor, "),
    ],
)
@pytest.mark.usefixtures("targets")
def test_what_is_not_there_or_does_not_fit_is_told_before_anything_is_built(text: str, complaint: str) -> None:
    line = refusal(text)
    assert line.startswith("scheduler ")
    assert f": {complaint}" in line


@pytest.mark.parametrize(
    ("raised", "complaint"),
    [
        (RuntimeError("needs a licence"), "RuntimeError: needs a licence"),
        (ModuleNotFoundError("No module named 'extra'", name="extra"), "ModuleNotFoundError: No module named 'extra'"),
    ],
)
def test_a_module_that_raises_on_import_is_named_whole(
    raised: Exception, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Raising:
        def find_spec(self, name: str, *_rest: object) -> None:
            if name == "json.optcheck_raises":
                raise raised

    monkeypatch.setattr(sys, "meta_path", [Raising(), *sys.meta_path])
    assert refusal("json.optcheck_raises.A()") == (
        f"scheduler json.optcheck_raises.A(): module 'json.optcheck_raises' does not import ({complaint})"
    )


@pytest.mark.usefixtures("targets")
def test_an_optimizer_goes_to_the_first_parameter_if_none_is_called_optimizer() -> None:
    (warmup,) = attach([scheduler_of(f"{MODULE}.Warmup(steps=5)")])("the optimizer")
    assert warmup.built == ("the optimizer", 5, None)


@pytest.mark.usefixtures("targets")
def test_a_class_in_a_class_is_found_and_built_first_where_it_is_an_argument() -> None:
    (warmup,) = attach([scheduler_of(f"{MODULE}.Warmup(inner={MODULE}.Warmup.Nested())")])("the optimizer")
    assert warmup.built[2].optimizer == "the optimizer"


def test_a_c_callable_without_a_signature_is_tried() -> None:
    assert attach([scheduler_of("builtins.dict(x=1)")])({"y": 2}) == [{"x": 1, "y": 2}]


@pytest.mark.parametrize("text", SPECS)
def test_every_scheduler_of_torch_runs_and_resumes_exactly_where_it_was(text: str) -> None:
    trained, schedules = scheduled(text)
    before = rates(trained, schedules, 24)
    saved = trained.state_dict(), schedules.state_dict()
    after = rates(trained, schedules, 56)
    assert len(set(before + after)) > 1

    resumed, fresh = scheduled(text, lr=0.123)
    resumed.load_state_dict(saved[0])
    fresh.load_state_dict(saved[1])
    assert current(resumed) == before[-1]
    assert rates(resumed, fresh, 56) == after


@pytest.mark.parametrize("text", SPECS)
def test_building_and_stepping_warn_of_nothing(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rates(*scheduled(text), 3)


def test_schedulers_are_stepped_together() -> None:
    trained, schedules = scheduled("ExponentialLR(gamma=0.5) >> StepLR(gamma=0.5, step_size=2)")
    assert rates(trained, schedules, 3) == [(0.005, 0.0025), (0.00125, 0.000625), (0.000625, 0.0003125)]


def test_schedulers_in_a_sequence_take_turns_on_the_same_optimizer() -> None:
    trained, schedules = scheduled("SequentialLR([ConstantLR(factor=.5), ExponentialLR(gamma=.5)], milestones=[2])")
    assert current(trained) == (0.005, 0.0025)
    assert rates(trained, schedules, 3) == [(0.005, 0.0025), (0.01, 0.005), (0.005, 0.0025)]


def test_only_a_plateau_scheduler_sees_the_loss() -> None:
    class Mine(torch.optim.lr_scheduler.ReduceLROnPlateau):
        """Of the plateau kind too."""

    trained, _ = scheduled("StepLR(step_size=9)")
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(trained)
    mine = Mine(trained)
    trained.step()
    Schedules((torchs, mine, torch.optim.lr_scheduler.StepLR(trained, 5))).step(0.25)
    assert (torchs.best, mine.best) == (0.25, 0.25)


def test_a_kept_state_does_not_move_with_its_scheduler() -> None:
    trained, schedules = scheduled("SequentialLR([StepLR(step_size=2), ExponentialLR(gamma=.5)], milestones=[2])")
    kept = schedules.state_dict()
    rates(trained, schedules, 5)
    assert kept[0]["last_epoch"] == 0
    schedules.load_state_dict(kept)
    rates(trained, schedules, 5)
    assert kept[0]["_schedulers"][1]["last_epoch"] == -1


def test_a_state_for_another_number_of_schedulers_is_refused() -> None:
    _, schedules = scheduled("StepLR(step_size=2)")
    with pytest.raises(ValueError, match=r"zip\(\) argument"):
        schedules.load_state_dict([])


def test_without_schedulers_nothing_happens() -> None:
    schedules = Schedules()
    schedules.step(math.nan)
    schedules.load_state_dict(schedules.state_dict())
    assert attach(())(optimizer()) == []


def test_the_current_rate_of_every_group_is_a_float() -> None:
    trained, schedules = scheduled("ExponentialLR(gamma=0.5)", torch.tensor(0.25, dtype=torch.float64))
    assert current(trained) == (0.25, 0.125)
    assert rates(trained, schedules, 1) == [(0.125, 0.0625)]


def test_a_group_without_a_learning_rate_has_no_current_one() -> None:
    trained = optimizer()
    trained.param_groups[0]["lr"] = None
    del trained.param_groups[1]["lr"]
    assert current(trained) == ()


def test_what_a_factory_made_is_split_into_optimizer_and_schedulers() -> None:
    trained = optimizer()
    scheduler = torch.optim.lr_scheduler.StepLR(trained, 5)
    assert split(trained) == (trained, [])
    assert split((trained, [scheduler])) == (trained, [scheduler])
    assert split((trained, (scheduler,))) == (trained, [scheduler])
    assert split((trained, [])) == (trained, [])


@pytest.mark.parametrize("built", [(), (1,), (1, 2), (1, [], 3)])
def test_a_tuple_of_another_form_is_refused(built: tuple[object, ...]) -> None:
    with pytest.raises(TypeError, match=r"not an optimizer or \(optimizer, \[scheduler, …\]\)"):
        split(built)


def test_the_sample_factors_warm_up_and_halve() -> None:
    assert [sample_schedules.inverse_square_root(update) for update in (0, 9, 39)] == [0.1, 1.0, 0.5]
    assert [sample_schedules.halve(update) for update in (19, 20, 21)] == [1.0, 0.5, 1.0]
