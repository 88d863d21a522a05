"""The protocol of updates on which an optimizer's cost is counted: spec × needs × device -> Cost."""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from msgspec import structs

from pytest_optcheck import building
from pytest_optcheck.cost import recompiles
from pytest_optcheck.cost.clock import clock
from pytest_optcheck.cost.dispatched import Dispatched
from pytest_optcheck.cost.figures import Cost, Counts, ListCost
from pytest_optcheck.cost.lists import NAMES, Many, Ten, load
from pytest_optcheck.cost.meters import ByDevice, Calls, Kernels, Unmetered
from pytest_optcheck.cost.subject import Subject
from pytest_optcheck.determinism import deterministic, process_group
from pytest_optcheck.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_optcheck.cost.lists import TensorList
    from pytest_optcheck.curves import Needs
    from pytest_optcheck.specs import OptimizerSpec

Ask = Callable[[Callable[[], object]], "int | None"]
"""Does some work, and says what a device counted of it, see `clock.Clock`."""

Make = Callable[[Sequence[str]], Subject]
"""Builds a fresh subject on some tensors of a list."""

Refusals = dict[str, str]
"""What the optimizer raised, by moment; by the empty text where it refused tensors of the list."""

WARM = 7
"""The update that counts as warm: past RAdam's five without a variance, and no multiple of a usual period."""

WARM_MANY = 2
"""The same on ``many``, where an update costs as much as all of them on the other lists."""

GROWTH = 50
"""Updates after the warm one in which memory may grow."""

GROWTH_EVALUATED = 5
"""The same for an optimizer that asks for a closure: it may evaluate it often, and its history grows at once."""

GROWING = 2
"""Tensors of the list that memory may grow on, a matrix and a vector: growth of one shows as well as that of all."""


def _nothing() -> None:
    """Work that leaves nothing to count."""


class Counted(NamedTuple):
    """What was counted, and why the rest was not.

    Attributes:
        cost: of what was counted.
        refused: what the optimizer raised, in a line each, by ``ten`` where it refused tensors of that list, and by
            ``ten, resumed`` where it refused that moment.
    """

    cost: Cost
    refused: dict[str, str]


def count(
    spec: OptimizerSpec,
    needs: Needs,
    device: str = "cpu",
    *,
    lists: Sequence[str] = NAMES,
    compiled: bool = False,
) -> Counted:
    """Count what `spec` costs on each list; nothing is trained.

    The protocol is the same every time, so that what a rule does every tenth update falls on the same one. On each
    list one instance makes an update and is thrown away: what is imported or cached once in a process belongs to no
    update. Of another one the first update is dispatched under a meter, and so is the `WARM` one; the next two give
    its operations at every depth and its Python calls, the two after them dispatch and calls under other learning
    rates. Then fresh objects load its state and make an update.

    On ``ten`` there is besides an update with a closure that is not needed, and `GROWTH` updates of `GROWING` tensors,
    each after the parameters were given other memory, as by moving a model. On ``many`` only the second update is
    metered, and the calls of the third: what is done for every tensor counts there, and all the rest would cost as
    much as both other lists. An optimizer so slow that its needs limit its updates goes without ``many`` and without
    growth.

    All figures are of the calling thread. Operations, bytes and calls are those of the host's side on any device. Of
    a GPU, updates more at the warm moment and under other learning rates give the peak by its allocator, and the syncs
    that dispatch does not show.

    Args:
        spec: what is counted.
        needs: of the optimizer. Tensors of ``zoo`` that it refuses are in them; of the other lists all are tried,
            then the matrices alone. A list that it refuses altogether is left out.
        device: of the tensors.
        lists: names of those to count on.
        compiled: count recompiles as well, on ``ten``; that takes seconds.

    Raises:
        OptcheckError: the spec cannot be built at all, or there is no such list.
    """
    assembly = building.plain(spec)
    found: dict[str, ListCost] = {}
    refused: dict[str, str] = {}
    for name in lists:
        tensors = load(name)
        if needs.steps and name == Many.name:
            continue
        with _held_still(device, needs), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the optimizer's
            make = partial(Subject, assembly, tensors, needs, device)
            cost, refusals = _first_accepted(tensors, make, needs, compiled=compiled)
        if cost is not None:
            found[name] = cost
        refused |= {f"{name}, {moment}" if moment else name: why for moment, why in refusals.items()}
    return Counted(Cost(found), refused)


@contextlib.contextmanager
def _held_still(device: str, needs: Needs) -> Iterator[None]:
    """Everything `deterministic` but for the algorithms, of which the usual ones are counted, and the collector off."""
    collects = gc.isenabled()
    gc.disable()
    try:
        with deterministic(device), process_group(needed=needs.process_group):
            torch.set_deterministic_debug_mode("default")  # else every new tensor is filled; comes back with the rest
            yield
    finally:
        if collects:
            gc.enable()


def _first_accepted(
    tensors: TensorList, make: Make, needs: Needs, *, compiled: bool
) -> tuple[ListCost | None, Refusals]:
    """The cost on all tensors that `needs` leave, else on the matrices among them; None if those are refused too."""
    first: Refusals = {}
    shapes = tensors.tensor_shapes
    names = [name for name in shapes if name not in needs.frozen]
    for tried in (names, [name for name in names if len(shapes[name]) == building.MATRIX_DIM]):
        if not tried:
            continue
        moments: Refusals = {}
        try:
            if tensors.name == Many.name:
                return _count_many(make(tried)), first
            make(tried).update(Unmetered())
            if tensors.name == Ten.name:
                return _count_ten(make, tried, needs, moments, compiled=compiled), first | moments
            return _count(make(tried), moments), first | moments
        except Exception as error:  # noqa: BLE001 - foreign code; whatever it raises, it refuses these tensors
            first.setdefault("", one_line(error))
    return None, first


def _count_many(subject: Subject) -> ListCost:
    while subject.updates < WARM_MANY - 1:
        subject.update(Unmetered())
    warm = subject.update(Dispatched(subject.device)).counts()
    state_bytes = subject.state_bytes
    warm = _with_calls(warm, subject.update(Calls(subject.device)))
    moments = {"warm": _by_device(subject, warm)}
    return ListCost(moments, subject.parameter_bytes, state_bytes, len(subject.parameters), held=subject.take_apart())


def _count_ten(make: Make, names: Sequence[str], needs: Needs, refusals: Refusals, *, compiled: bool) -> ListCost:
    evaluates = needs.closure or needs.evaluated
    cost = _count(make(names), refusals, closure=not evaluates)
    if not needs.steps:
        grown = _grown(make(names[:GROWING]), GROWTH_EVALUATED if evaluates else GROWTH)
        cost = structs.replace(cost, grown_bytes=grown)
    if compiled and not (evaluates or needs.create_graph):
        cost = structs.replace(cost, recompiles=_recompiles(make(names)))
    return cost


def _count(subject: Subject, refusals: Refusals, *, closure: bool = False) -> ListCost:
    moments = {"first": subject.update(Dispatched(subject.device)).counts()}
    while subject.updates < WARM - 1:
        subject.update(Unmetered())
    warm = subject.update(Dispatched(subject.device)).counts()
    state_bytes = subject.state_bytes
    warm = structs.replace(warm, kernels=subject.update(Kernels()).counted)
    warm = _with_calls(warm, subject.update(Calls(subject.device)))
    moments["warm"] = _by_device(subject, warm)
    subject.halve_rates()
    scheduled = subject.update(Dispatched(subject.device)).counts()
    subject.halve_rates()
    scheduled = _with_calls(scheduled, subject.update(Calls(subject.device)))
    moments["scheduled"] = _by_device(subject, scheduled, subject.halve_rates)
    moments |= _resumed(subject, refusals)
    if closure:
        moments |= _with_closure(subject, refusals)
    return ListCost(moments, subject.parameter_bytes, state_bytes, len(subject.parameters), held=subject.take_apart())


def _with_calls(counts: Counts, calls: Calls) -> Counts:
    scheduled = calls.counted - calls.first
    return structs.replace(counts, calls=calls.first, schedule_calls=scheduled, syncs=counts.syncs + calls.syncs)


def _by_device(subject: Subject, counts: Counts, before: Callable[[], object] = _nothing) -> Counts:
    """The counts with peak and syncs by the device, each of an update after `before`; where it counts, as a GPU."""
    found = clock(subject.device)
    peak_bytes, syncs = (_asked(subject, ask, before) for ask in (found.peak_bytes, found.syncs))
    if peak_bytes is not None:
        counts = structs.replace(counts, peak_bytes=peak_bytes)
    return structs.replace(counts, syncs=max(counts.syncs, syncs or 0))


def _asked(subject: Subject, ask: Ask, before: Callable[[], object]) -> int | None:
    """What the device counts of an update; None, and no update, where it keeps no count."""
    if ask(_nothing) is None:
        return None
    before()
    return subject.update(ByDevice(ask)).counted


def _resumed(subject: Subject, refusals: Refusals) -> dict[str, Counts]:
    """The load and the first update after it; nothing where there is no state dict, or it does not load."""
    load = Dispatched(subject.device)
    try:
        fresh = subject.resume(load)
        return {"loading": load.counts(), "resumed": fresh.update(Dispatched(subject.device)).counts()}
    except Exception as error:  # noqa: BLE001 - foreign code
        refusals |= dict.fromkeys(("loading", "resumed"), one_line(error))
        return {}


def _with_closure(subject: Subject, refusals: Refusals) -> dict[str, Counts]:
    """An update with a closure; nothing where none is taken."""
    try:
        return {"closure": subject.update(Dispatched(subject.device), closure=True).counts()}
    except Exception as error:  # noqa: BLE001 - foreign code; nothing else is asked of this subject
        refusals["closure"] = one_line(error)
        return {}


def _recompiles(subject: Subject) -> int | None:
    """Recompiles under changing learning rates; None where the step does not compile."""
    try:
        return recompiles.count(subject)
    except Exception:  # noqa: BLE001 - foreign code; why it does not compile is for the route that does
        return None


def _grown(subject: Subject, updates: int) -> int:
    """Memory that so many updates after the warm one add to what is kept."""
    meter = Dispatched(subject.device)
    while subject.updates < WARM:
        subject.update(meter)
    before = meter.alive_bytes
    for _ in range(updates):
        subject.move()
        subject.update(meter)
    return meter.alive_bytes - before
