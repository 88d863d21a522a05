from __future__ import annotations

from typing import NamedTuple

import pytest
from msgspec import structs

from pytest_optcheck.cost.figures import Cost, Counts, ListCost
from pytest_optcheck.cost.gate import Comparison, compare

WARM = Counts(
    {"mul_.Tensor": 10, "add_.Tensor": 20}, {"mul_": 10, "add_": 20}, calls=100, syncs=10, new_bytes=800, peak_bytes=80
)
FIRST = Counts({"zeros_like": 10})
TEN = ListCost(
    {"first": FIRST, "warm": WARM},
    parameter_bytes=4000,
    state_bytes=8000,
    tensors=10,
    grown_bytes=100,
    held=("state",),
    recompiles=1,
)
MANY = ListCost({"warm": WARM}, parameter_bytes=8000, state_bytes=16000)
OLD = Cost({"ten": TEN, "many": MANY})


def warm(**changes: object) -> ListCost:
    """The list of ten with another warm update."""
    return structs.replace(TEN, moments={"first": FIRST, "warm": structs.replace(WARM, **changes)})


def ten(**changes: object) -> ListCost:
    """The list of ten changed."""
    return structs.replace(TEN, **changes)


class Case(NamedTuple):
    """What became of the list of ten, and what is said of it."""

    name: str
    new: ListCost
    heavier: tuple[str, ...] = ()
    lighter: tuple[str, ...] = ()


CASES = (
    Case("the same", TEN),
    Case(
        "one more operation",
        warm(ops={"mul_.Tensor": 10, "add_.Tensor": 20, "_local_scalar_dense": 1}),
        heavier=("ten, warm: 30 → 31 operations (+1 _local_scalar_dense)",),
    ),
    Case(
        "one operation less",
        warm(ops={"mul_.Tensor": 10, "add_.Tensor": 19}),
        lighter=("ten, warm: 30 → 29 operations (-1 add_.Tensor)",),
    ),
    Case("as many others", warm(ops={"lerp_.Scalar": 10, "sub_.Tensor": 20})),
    Case(
        "two for one",
        warm(ops={"add_.Tensor": 20, "div_.Tensor": 1000, "sqrt_": 1000}),
        heavier=("ten, warm: 30 → 2,020 operations (+1,000 div_.Tensor, +1,000 sqrt_, -10 mul_.Tensor)",),
    ),
    Case(
        "one for two",
        warm(ops={"lerp_.Scalar": 10}),
        lighter=("ten, warm: 30 → 10 operations (+10 lerp_.Scalar, -20 add_.Tensor, -10 mul_.Tensor)",),
    ),
    Case(
        "more kinds than anyone reads",
        warm(ops=dict.fromkeys("abcdefgh", 5)),
        heavier=("ten, warm: 30 → 40 operations (+5 a, +5 b, +5 c, +5 d, +5 e, -20 add_.Tensor, and 4 more)",),
    ),
    Case(
        "more at every depth",
        warm(kernels={"mul_": 10, "add_": 21}),
        heavier=("ten, warm: 30 → 31 operations at every depth (+1 add_)",),
    ),
    Case(
        "less at every depth",
        warm(kernels={"mul_": 10}),
        lighter=("ten, warm: 30 → 10 operations at every depth (-20 add_)",),
    ),
    Case("no kernels taken", warm(kernels={})),
    Case("one more call a tensor", warm(calls=110)),
    Case("more calls than that", warm(calls=111), heavier=("ten, warm: 100 → 111 Python calls",)),
    Case("one call less", warm(calls=99), lighter=("ten, warm: 100 → 99 Python calls",)),
    Case("no calls taken", warm(calls=0)),
    Case(
        "a schedule evaluated once more",
        warm(schedule_calls=1),
        heavier=("ten, warm: 0 → 1 Python calls of schedulers",),
    ),
    Case("one more sync", warm(syncs=11), heavier=("ten, warm: 10 → 11 syncs",)),
    Case("no sync", warm(syncs=0), lighter=("ten, warm: 10 → 0 syncs",)),
    Case("more allocated", warm(new_bytes=1600), heavier=("ten, warm: 800 → 1,600 bytes allocated",)),
    Case("less allocated", warm(new_bytes=0), lighter=("ten, warm: 800 → 0 bytes allocated",)),
    Case("a higher peak", warm(peak_bytes=81), heavier=("ten, warm: 80 → 81 bytes at the peak",)),
    Case("a lower peak", warm(peak_bytes=79), lighter=("ten, warm: 80 → 79 bytes at the peak",)),
    Case(
        "fewer operations that the host waits for",
        warm(ops={"add_.Tensor": 20}, syncs=30),
        heavier=("ten, warm: 10 → 30 syncs",),
        lighter=("ten, warm: 30 → 20 operations (-10 mul_.Tensor)",),
    ),
    Case("another moment", ten(moments={**TEN.moments, "resumed": WARM})),
    Case("a moment less", ten(moments={"warm": WARM}), heavier=("ten, first: can no longer be counted",)),
    Case("more state", ten(state_bytes=12000), heavier=("ten: 2.0 → 3.0 state bytes per parameter byte",)),
    Case("less state", ten(state_bytes=0), lighter=("ten: 2.0 → 0.0 state bytes per parameter byte",)),
    Case(
        "three bytes more of state",
        ten(state_bytes=8003),
        heavier=("ten: 2.000 → 2.001 state bytes per parameter byte",),
    ),
    Case("more growth", ten(grown_bytes=101), heavier=("ten: 100 → 101 bytes grown in later updates",)),
    Case("less growth", ten(grown_bytes=0), lighter=("ten: 100 → 0 bytes grown in later updates",)),
    Case(
        "held for another reason",
        ten(held=("optimizer", "parameters")),
        heavier=("ten: no longer freed by reference count: optimizer, parameters",),
        lighter=("ten: now freed by reference count: state",),
    ),
    Case("a recompile more", ten(recompiles=2), heavier=("ten: 1 → 2 recompiles under changing learning rates",)),
    Case("no recompile", ten(recompiles=0), lighter=("ten: 1 → 0 recompiles under changing learning rates",)),
    Case("nothing compiled", ten(recompiles=None)),
    Case(
        "fewer tensors",
        ten(parameter_bytes=3000, state_bytes=1),
        heavier=("ten: takes 3,000 bytes of parameters, took 4,000; not comparable",),
    ),
    Case(
        "more tensors",
        ten(parameter_bytes=5000, state_bytes=99999),
        lighter=("ten: takes 5,000 bytes of parameters, took 4,000; not comparable",),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_gate_answers(case: Case) -> None:
    assert compare(Cost({"ten": case.new, "many": MANY}), OLD) == Comparison(case.heavier, case.lighter)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_heavier_one_way_is_lighter_the_other(case: Case) -> None:
    lost = "a moment" in case.name or "another moment" in case.name  # what only one side has is no loss of the other's
    spared = "call a tensor" in case.name or "one call less" in case.name  # which may come and not go
    found = compare(OLD, Cost({"ten": case.new, "many": MANY}))
    assert lost or spared or (len(found.heavier), len(found.lighter)) == (len(case.lighter), len(case.heavier))


def test_a_list_that_can_no_longer_be_counted_is_heavier() -> None:
    assert compare(Cost({"ten": TEN}), OLD) == Comparison(("many: can no longer be counted",))


def test_what_can_no_longer_be_counted_says_why() -> None:
    without = structs.replace(TEN, moments={"warm": WARM}, parameter_bytes=4000)
    fewer = structs.replace(MANY, parameter_bytes=1000)
    refused = {"ten, first": "KeyError: 'step'", "many": "ValueError: odd", "zoo": "OSError"}
    assert compare(Cost({"ten": without, "many": fewer}), OLD, refused).heavier == (
        "ten, first: can no longer be counted: KeyError: 'step'",
        "many: takes 1,000 bytes of parameters, took 8,000; not comparable: ValueError: odd",
    )
    assert compare(Cost({"ten": TEN}), OLD, refused).heavier == ("many: can no longer be counted: ValueError: odd",)


def test_a_list_that_could_not_be_counted_before_is_no_loss() -> None:
    assert compare(OLD, Cost({"ten": TEN})) == Comparison()


def test_lines_come_list_by_list() -> None:
    new = Cost({"many": structs.replace(MANY, grown_bytes=1), "ten": structs.replace(TEN, grown_bytes=101)})
    assert [line.partition(":")[0] for line in compare(new, OLD).heavier] == ["ten", "many"]


def test_state_without_parameters_to_compare_it_with_is_told_in_bytes() -> None:
    huge = 10**12
    old = ListCost({}, parameter_bytes=huge, state_bytes=huge)
    new = structs.replace(old, state_bytes=huge + 1)
    found = compare(Cost({"ten": new}), Cost({"ten": old}))
    assert found.heavier == ("ten: 1,000,000,000,000 → 1,000,000,000,001 state bytes",)


def test_no_parameters_at_all_are_no_division_by_zero() -> None:
    old = ListCost({}, parameter_bytes=0, state_bytes=4)
    found = compare(Cost({"ten": structs.replace(old, state_bytes=8)}), Cost({"ten": old}))
    assert found.heavier == ("ten: 4 → 8 state bytes",)
