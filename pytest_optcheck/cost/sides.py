"""What takes part in a timed block in this process: the step of an optimizer on ready gradients, and the control."""

from __future__ import annotations

import contextlib
import warnings
from functools import partial
from typing import TYPE_CHECKING

import torch

from pytest_optcheck import building
from pytest_optcheck.conditions import NOTHING
from pytest_optcheck.cost import lists
from pytest_optcheck.cost.clock import clock
from pytest_optcheck.cost.stopwatch import Sample, undistracted
from pytest_optcheck.cost.subject import Subject
from pytest_optcheck.determinism import deterministic, process_group
from pytest_optcheck.errors import one_line
from pytest_optcheck.specs import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_optcheck.cost.clock import Clock
    from pytest_optcheck.curves import Needs
    from pytest_optcheck.specs import OptimizerSpec

    Step = Callable[[], object]

LIST = "ten"
"""The tensors that steps are timed on.

Those of ``zoo`` take twice as long to say the same: measured with six optimizers, spread² × seconds of a block is equal
on both. And more optimizers refuse some of them.
"""

CONTROL = "torch.optim:SGD(foreach=False, lr=0.001, momentum=0.9)"
"""The step that all others are measured by: a plain rule with a state, tensor by tensor."""

WARM = 5
"""Steps that warm an instance up: its state is there after the first, and torch has met every operation."""


class RefusedError(Exception):
    """The optimizer takes none of the tensors it could be timed on; its text is the optimizer's own."""


class Timed(Subject):
    """An optimizer whose step is timed. Its schedulers are never stepped: they end, and timing does not."""

    def ready(self) -> None:
        """Give the tensors their gradients anew; not part of the step."""
        if self._needs.create_graph or self._needs.primed or self._needs.evaluated:
            self._evaluate()
        else:
            self._tensors.give(self._problem, self._names, self.updates)
            self._make_sparse()

    def step(self) -> Step:
        """What makes an update. An objective that the update itself evaluates is part of it."""
        update: Step = self.optimizer.step
        if self._needs.evaluated:
            loss = self._evaluate()
            return partial(self.optimizer.step, lambda: loss)
        if self._needs.closure:
            return partial(self.optimizer.step, self._evaluate)
        if self._needs.create_graph:  # whose history an update ends

            def evaluated() -> None:
                self._evaluate()
                update()

            return evaluated
        return update


class StepSide:
    """A step in this process; see `stopwatch.Side`.

    Attributes:
        make: makes a fresh optimizer.
        clock: of the device it runs on.
    """

    def __init__(self, make: Callable[[], Timed], clock: Clock) -> None:
        """The first optimizer is made by `fresh`."""
        self.make = make
        self.clock = clock
        self._ready: Step = _nothing
        self._step: Step = _nothing
        self._stack = contextlib.ExitStack()

    def fresh(self) -> float:
        """Make an optimizer and warm it up."""
        self._stack.enter_context(undistracted())
        made = self.make()
        self._ready, self._step = made.ready, made.step()
        return min(self.sample(1).step_s for _ in range(WARM))

    def sample(self, steps: int) -> Sample:
        """Time the steps."""
        self._ready()
        reading = self.clock.time(partial(_repeat, self._step, steps))
        return Sample(reading.seconds / steps, reading.disturbed)

    def leave(self) -> None:
        """Give the optimizer up."""
        self._ready = self._step = _nothing
        self._stack.close()


def side(spec: OptimizerSpec, needs: Needs, device: str, names: Sequence[str]) -> StepSide:
    """The step of a spec's optimizer on these tensors of `LIST`; to be used `settled`.

    Raises:
        OptcheckError: the spec cannot be built at all.
    """
    make = partial(
        Timed, assembly=building.plain(spec), tensors=lists.load(LIST), names=names, needs=needs, device=device
    )
    return StepSide(make, clock(device))


def control(device: str, names: Sequence[str]) -> StepSide:
    """The step of the control on these tensors of `LIST`."""
    return side(parse(CONTROL), NOTHING, device, names)


def accepted(spec: OptimizerSpec, needs: Needs, device: str) -> list[str]:
    """The tensors of `LIST` that the optimizer takes: all of them, or the matrices.

    Raises:
        OptcheckError: the spec cannot be built at all.
        RefusedError: it takes neither.
    """
    shapes = lists.load(LIST).tensor_shapes
    refusals = []
    for names in (list(shapes), [name for name, shape in shapes.items() if len(shape) == building.MATRIX_DIM]):
        tried = side(spec, needs, device, names).make
        try:
            with settled(device, needs):
                made = tried()
                made.ready()
                made.step()()
        except Exception as error:  # noqa: BLE001 - foreign code: anything may come out of it
            refusals.append(one_line(error))
        else:
            return names
    raise RefusedError(refusals[0])


@contextlib.contextmanager
def settled(device: str, needs: Needs) -> Iterator[None]:
    """What blocks are timed under: one thread; settings and random streams that come back after."""
    with deterministic(device), process_group(needed=needs.process_group), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the optimizer's
        torch.set_deterministic_debug_mode("default")  # otherwise torch fills new memory, which costs time
        yield


def _repeat(step: Step, times: int) -> None:
    for _ in range(times):
        step()


def _nothing() -> None:
    """Stand for a step where there is no optimizer."""
