from __future__ import annotations

import gc
import sys
import warnings
from typing import TYPE_CHECKING, Any

import cost_mutants
import interpreter
import msgspec
import pytest
import torch

from pytest_optcheck.cost import counting, gate
from pytest_optcheck.cost.figures import Cost, Counts
from pytest_optcheck.curves import Needs
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.specs import FactorySpec, parse
from pytest_optcheck.workloads.zoo import SHAPES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_optcheck.specs import OptimizerSpec

NO_MATRICES = tuple(name for name, shape in SHAPES.items() if len(shape) != 2)
CLOSURE = Needs(closure=True, one_group=True)
SPARSE = Needs(sparse=True, frozen=("scalar",))
SPECS: dict[str, Needs] = {
    "torch.optim:Adam(foreach=False, lr=0.001)": Needs(),
    "torch.optim:AdamW(foreach=True, lr=0.001)": Needs(),
    "torch.optim:Adam(fused=True, lr=0.001)": Needs(),
    "torch.optim:SGD(lr=0.01, momentum=0.9) >> StepLR(step_size=3)": Needs(),
    "torch.optim:LBFGS(lr=0.5, max_iter=2)": CLOSURE,
    "torch.optim:SparseAdam(lr=0.01)": SPARSE,
    "torch.optim:Muon(lr=0.01)": Needs(frozen=NO_MATRICES),
    "torch.optim:RAdam(lr=0.01)": Needs(),
}


def count(spec: str | OptimizerSpec, needs: Needs | None = None, *lists: str) -> Cost:
    """What is counted, on the short lists unless others are named."""
    made = parse(spec) if isinstance(spec, str) else spec
    return counting.count(made, needs or Needs(), lists=lists or ("zoo", "ten")).cost


def made(optimizer: Callable[..., Any]) -> FactorySpec:
    """A spec of a class."""
    return FactorySpec(optimizer.__name__, optimizer)


@pytest.mark.parametrize("text", SPECS)
def test_counting_again_counts_exactly_the_same(text: str) -> None:
    assert count(text, SPECS[text]) == count(text, SPECS[text])


def test_many_tensors_count_the_same_again() -> None:
    text = "torch.optim:AdamW(foreach=True, lr=0.001)"
    assert count(text, None, "many") == count(text, None, "many")


ELSEWHERE = """
import sys, msgspec
from pytest_optcheck.cost import counting
from pytest_optcheck.curves import Needs
from pytest_optcheck.specs import parse
specs = msgspec.json.decode(open(sys.argv[1]).read(), type=dict[str, Needs])
found = {text: counting.count(parse(text), specs[text], lists=("ten", "many")).cost for text in reversed(specs)}
print(msgspec.json.encode(found).decode())
"""


def test_another_process_counts_the_same_in_any_order(tmp_path: Path) -> None:
    some = dict(list(SPECS.items())[1:5])
    specs = tmp_path / "specs.json"
    specs.write_bytes(msgspec.json.encode(some))
    done = interpreter.run(ELSEWHERE, specs)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    there = msgspec.json.decode(done.stdout, type=dict[str, Cost])
    assert there == {text: count(text, needs, "ten", "many") for text, needs in some.items()}


def test_a_step_for_every_tensor_costs_as_much_for_every_tensor() -> None:
    cost = count("torch.optim:Adam(foreach=False, lr=0.001)", None, "zoo", "ten", "many")
    for name, tensors in (("zoo", 26), ("ten", 10), ("many", 200)):
        warm = cost.lists[name].moments["warm"]
        assert set(warm.ops.values()) == {tensors, 2 * tensors}
        assert warm.syncs == warm.ops["_local_scalar_dense"] == tensors
        assert warm.calls > tensors
    kept = {name: (cost.lists[name].state_bytes - 2 * cost.lists[name].parameter_bytes) for name in cost.lists}
    assert kept == {"zoo": 104, "ten": 40, "many": 800}  # a counter of four bytes for each


def test_every_moment_is_counted_where_it_is_said_to_be() -> None:
    lists = count("torch.optim:SGD(lr=0.01, momentum=0.9)", None, "zoo", "ten", "many").lists
    shared = {"first", "warm", "scheduled", "loading", "resumed"}
    assert {name: set(cost.moments) for name, cost in lists.items()} == {
        "zoo": shared,
        "ten": {*shared, "closure"},
        "many": {"warm"},
    }
    ten = lists["ten"].moments
    assert [name for name, counts in ten.items() if counts.calls] == ["warm", "scheduled"]
    assert [name for name, counts in ten.items() if counts.kernels] == ["warm"]
    assert lists["many"].moments["warm"].calls


def test_an_operation_on_a_list_is_taken_apart_at_every_depth() -> None:
    warm = count("torch.optim:AdamW(foreach=True, lr=0.001)", None, "ten").lists["ten"].moments["warm"]
    assert warm.ops["_foreach_lerp_.Scalar"] == warm.kernels["_foreach_lerp_"] == 1
    assert warm.kernels["lerp_"] == 10


def test_the_warm_update_is_past_the_branches_of_the_first() -> None:
    moments = count("torch.optim:RAdam(lr=0.01)", None, "ten").lists["ten"].moments
    assert "sqrt" not in moments["first"].ops
    assert moments["warm"].ops["sqrt"] == 10


def test_an_optimizer_without_state_keeps_none() -> None:
    for cost in count("torch.optim:SGD(lr=0.01)").lists.values():
        assert (cost.state_bytes, cost.grown_bytes, cost.held) == (0, 0, ())


def test_a_history_that_is_meant_to_grow_grows() -> None:
    ten = count("torch.optim:LBFGS(lr=0.5, max_iter=2)", CLOSURE, "ten").lists["ten"]
    assert ten.grown_bytes > 0
    assert ten.moments["warm"].ops["closure"] == 2


def test_tensors_that_are_refused_are_left_out() -> None:
    cost = count("torch.optim:Muon(lr=0.01)", Needs(frozen=NO_MATRICES), "zoo", "ten", "many")
    assert [cost.lists[name].parameter_bytes for name in cost.lists] == [1112, 4096, 5440]


def test_lists_that_are_refused_altogether_are_absent() -> None:
    class Refusing(cost_mutants.Sound):
        def update(self, parameter: torch.Tensor, gradient: torch.Tensor, lr: float, momentum: float) -> None:
            if parameter.shape == (16, 12):
                raise ValueError
            super().update(parameter, gradient, lr, momentum)

    assert list(count(made(Refusing)).lists) == ["zoo"]


def test_what_is_refused_is_told_with_what_was_raised() -> None:
    class Refusing(cost_mutants.Sound):
        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            del state_dict
            raise ZeroDivisionError("no\nmore")

        def update(self, parameter: torch.Tensor, gradient: torch.Tensor, lr: float, momentum: float) -> None:
            if parameter.dim() == 1:
                raise ValueError("a vector")
            super().update(parameter, gradient, lr, momentum)

    cost, refused = counting.count(made(Refusing), Needs(), lists=("ten", "many"))
    assert refused == {
        "ten": "ValueError: a vector",
        "ten, loading": "ZeroDivisionError: no",
        "ten, resumed": "ZeroDivisionError: no",
        "many": "ValueError: a vector",
    }
    assert cost.lists["ten"].parameter_bytes == 4096
    assert set(cost.lists["ten"].moments) == {"first", "warm", "scheduled", "closure"}


def test_state_that_is_replaced_makes_no_more_calls_than_state_that_is_written_into() -> None:
    """A meter that still watched memory would be called where that goes."""

    class InPlace(cost_mutants.Sound):
        def update(self, parameter: torch.Tensor, gradient: torch.Tensor, lr: float, momentum: float) -> None:
            state = self.state[parameter]
            state["v"] = state["v"].mul_(momentum) if state else gradient.clone()
            parameter.sub_(state["v"], alpha=lr)

    class Replaced(cost_mutants.Sound):
        def update(self, parameter: torch.Tensor, gradient: torch.Tensor, lr: float, momentum: float) -> None:
            state = self.state[parameter]
            state["v"] = state["v"].mul(momentum) if state else gradient.clone()
            parameter.sub_(state["v"], alpha=lr)

    def calls(kind: type[cost_mutants.Sound]) -> dict[tuple[str, str], int]:
        lists = count(made(kind), None, "ten", "many").lists
        return {(name, moment): of.calls for name, cost in lists.items() for moment, of in cost.moments.items()}

    assert calls(Replaced) == calls(InPlace)


def test_a_slow_optimizer_goes_without_many() -> None:
    assert list(count("torch.optim:SGD(lr=0.01)", Needs(steps=8), "ten", "many").lists) == ["ten"]


def test_an_optimizer_without_state_dict_is_counted_without_loading() -> None:
    class Plain:
        def __init__(self, params: Any) -> None:  # noqa: ANN401 - as torch has it
            self.param_groups: list[dict[str, Any]] = [{"params": list(params), "lr": 0.1}]

        def zero_grad(self) -> None:
            pass

        @torch.no_grad()
        def step(self) -> None:
            for parameter in self.param_groups[0]["params"]:
                parameter.sub_(parameter.grad, alpha=0.1)

    ten = count(made(Plain), Needs(one_group=True), "ten").lists["ten"]
    assert set(ten.moments) == {"first", "warm", "scheduled"}
    assert ten.held == ()


def test_a_spec_that_cannot_be_built_at_all_is_told() -> None:
    with pytest.raises(OptcheckError, match="Nadam"):
        count("torch.optim:Nadam(lr=0.01)")


def test_everything_is_left_as_it_was() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    before = (gc.isenabled(), sys.getprofile(), torch.get_deterministic_debug_mode(), torch.get_num_threads())
    filters = list(warnings.filters)
    count("torch.optim:Adam(lr=0.001)")
    assert (gc.isenabled(), sys.getprofile(), torch.get_deterministic_debug_mode(), torch.get_num_threads()) == before
    assert list(warnings.filters) == filters
    assert torch.equal(torch.rand(1), expected)


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        count("torch.optim:SGD(lr=0.1)", None, "ten")
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_happens_once_in_a_process_is_not_counted() -> None:
    made_once: list[torch.Tensor] = []

    class Caching(cost_mutants.Sound):
        def update(self, parameter: torch.Tensor, gradient: torch.Tensor, lr: float, momentum: float) -> None:
            if not made_once:
                made_once.append(torch.ones(1000))
            super().update(parameter, gradient, lr, momentum)

    assert "ones" not in count(made(Caching), None, "ten").lists["ten"].moments["first"].ops


HEAVIER: dict[type[cost_mutants.Sound], str] = {
    cost_mutants.ItemPerTensor: "ten, warm: 0 → 10 syncs",
    cost_mutants.ListPerTensor: "ten, warm: 0 → 10 syncs",
    cost_mutants.EvaluatedTwice: "ten, closure: 31 → 32 operations (+1 closure)",
    cost_mutants.Copying: "ten, warm: 0 → 4,368 bytes allocated",
    cost_mutants.MoreState: "ten: 1.0 → 2.0 state bytes per parameter byte",
    cost_mutants.RateTwice: "ten, warm: {} Python calls",
    cost_mutants.RateTensor: "ten, scheduled: 30 → 32 operations (+1 full, +1 mul_.Tensor)",
    cost_mutants.History: "ten: 0 → {} bytes grown in later updates",
    cost_mutants.KeyedByAddress: "ten: 0 → 41,600 bytes grown in later updates",
    cost_mutants.KeptByTheClass: "ten: no longer freed by reference count: state",
    cost_mutants.Circle: "ten: no longer freed by reference count: optimizer, state, parameters",
    cost_mutants.DeepLoading: "ten, loading: 0 → 70 operations (+20 empty.memory_format, {})",
    cost_mutants.KeepsGradients: "ten: no longer freed by reference count: gradients",
    cost_mutants.Warms: "ten, resumed: 30 → 40 operations (+10 clone)",
}


@pytest.fixture(scope="module")
def sound() -> Cost:
    """The cost of the optimizer that the others are copies of."""
    return count(made(cost_mutants.Sound), None, "ten")


@pytest.mark.parametrize("mutant", HEAVIER, ids=lambda mutant: mutant.__name__)
def test_a_copy_that_costs_more_is_heavier(mutant: type[cost_mutants.Sound], sound: Cost) -> None:
    found = gate.compare(count(made(mutant), None, "ten"), sound)
    start, _, end = HEAVIER[mutant].partition("{}")
    assert any(line.startswith(start) and line.endswith(end) for line in found.heavier), found


@pytest.mark.parametrize("rewrite", [cost_mutants.AnotherOrder, cost_mutants.Lerped], ids=lambda kind: kind.__name__)
def test_a_harmless_rewrite_is_not_heavier(rewrite: type[cost_mutants.Sound], sound: Cost) -> None:
    assert gate.compare(count(made(rewrite), None, "ten"), sound).heavier == ()


def test_intermediate_results_that_are_all_alive_at_once_are_a_higher_peak() -> None:
    together = count(made(cost_mutants.Together), None, "ten")
    one_by_one = count(made(cost_mutants.OneByOne), None, "ten")
    assert "ten, warm: 1,024 → 4,368 bytes at the peak" in gate.compare(together, one_by_one).heavier


def test_a_schedule_that_is_evaluated_more_than_once_is_heavier() -> None:
    def scheduled(kind: Callable[..., Any]) -> FactorySpec:
        def build(params: Any) -> Any:  # noqa: ANN401 - as torch has it
            optimizer = torch.optim.SGD(params, lr=0.01)
            return optimizer, [kind(optimizer, 3)]

        return FactorySpec("scheduled", build)

    once = count(scheduled(torch.optim.lr_scheduler.StepLR), None, "ten")
    thrice = count(scheduled(cost_mutants.SteppedTwice), None, "ten")
    lines = gate.compare(thrice, once).heavier
    assert [line.partition(":")[0] for line in lines] == ["ten, warm", "ten, scheduled"]
    assert all(line.endswith("Python calls of schedulers") for line in lines)


class DeviceClock:
    """Of a device that tells these figures of whatever it is asked to do, but for nothing."""

    def __init__(self, peak_bytes: int | None, syncs: int | None) -> None:
        self.figures = (peak_bytes, syncs)
        self.updates = 0

    def peak_bytes(self, work: Callable[[], object]) -> int | None:
        return self._told(work, self.figures[0])

    def syncs(self, work: Callable[[], object]) -> int | None:
        return self._told(work, self.figures[1])

    def _told(self, work: Callable[[], object], figure: int | None) -> int | None:
        work()
        self.updates += work is not counting._nothing  # noqa: SLF001 - what it is asked with first
        return figure


@pytest.mark.parametrize("syncs", [1, 30])
def test_a_device_s_own_count_of_peaks_and_syncs_is_kept(monkeypatch: pytest.MonkeyPatch, syncs: int) -> None:
    """Syncs are never fewer than dispatch shows: one a tensor here."""
    spec = "torch.optim:Adam(foreach=False, lr=0.001)"
    expected = count(spec, None, "ten", "many").lists
    monkeypatch.setattr(counting, "clock", lambda _: DeviceClock(7680, syncs))
    found = count(spec, None, "ten", "many").lists
    for name, moment in (("ten", "warm"), ("ten", "scheduled"), ("many", "warm")):
        by_host = expected[name].moments[moment]
        own = msgspec.structs.replace(by_host, peak_bytes=7680, syncs=max(by_host.syncs, syncs))
        assert found[name].moments[moment] == own
    for moment in ("first", "loading", "resumed", "closure"):
        assert found["ten"].moments[moment] == expected["ten"].moments[moment]


@pytest.mark.parametrize(("figures", "updates"), [((None, None), 0), ((512, None), 2), ((512, 3), 4)])
def test_where_a_device_keeps_no_count_no_update_is_made_for_it(
    monkeypatch: pytest.MonkeyPatch, figures: tuple[int | None, int | None], updates: int
) -> None:
    device = DeviceClock(*figures)
    monkeypatch.setattr(counting, "clock", lambda _: device)
    count("torch.optim:SGD(lr=0.01)", None, "ten")
    assert device.updates == updates


@pytest.mark.cuda
def test_on_a_gpu_peaks_are_the_allocator_s_and_syncs_those_of_the_driver() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")

    class Uploads(cost_mutants.Sound):
        """Sends a number to the GPU in every update, which dispatch takes for no sync."""

        def update(self, parameter: torch.Tensor, gradient: torch.Tensor, lr: float, momentum: float) -> None:
            super().update(parameter, gradient * torch.tensor(1.0).to(gradient.device), lr, momentum)

    def warm(kind: type[cost_mutants.Sound]) -> Counts:
        return counting.count(made(kind), Needs(), "cuda", lists=("ten",)).cost.lists["ten"].moments["warm"]

    sound, uploads = warm(cost_mutants.Sound), warm(Uploads)
    assert sound.syncs == 0
    assert uploads.syncs == 10
    assert uploads.peak_bytes > sound.peak_bytes
    assert uploads.peak_bytes % 512 == 0  # as the allocator rounds
