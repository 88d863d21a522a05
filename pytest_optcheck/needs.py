"""What an optimizer needs, found by trying: its own error messages are the first hint."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from msgspec import structs

from pytest_optcheck.building import first_argument, plain, sample
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.curves import DTYPES, Needs, Run
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_optcheck.curves import Dtype
    from pytest_optcheck.specs import OptimizerSpec
    from pytest_optcheck.workloads.base import Workload

TRIAL_STEPS = 6
"""Updates of a trial: on ``zoo`` every tensor has had, missed and regained a gradient by then."""

DEPTH = 3
"""Needs that hints may pile up."""

TRAINING_S = 1.0
"""Seconds inside ``step()`` that one training may take; a slower optimizer makes fewer updates, since recording
trains some forty times."""

LEAN_TRAINING_S = 0.5
"""The same in a lean recording."""

FEWEST = 8
"""Updates below which a curve says too little."""

FEWEST_S = 2.0
"""Seconds that the fewest updates may take; an optimizer that needs more is not recorded."""

FEWEST_TENSORS = 0.15
"""Share of a reference model's tensors that an optimizer must accept; rules for matrices take 2 of 10 at times."""

OWN_BACKWARD = ("backward", "fused_backward")
"""Methods by which an optimizer computes the gradients itself, which the training loop does not drive."""

Change = tuple[tuple[str, Any], ...]
"""Fields of `Needs`, or ``dtype``, with the value to try."""

HINTS: tuple[tuple[str, tuple[Change, ...]], ...] = (
    (r"process group", ((("process_group", True),),)),
    (r"\b(use_\w+)", ((("flag", r"\1"),),)),
    (
        r"closure",
        (
            (("closure", True),),
            (("closure", True), ("one_group", True)),
            (("closure", True), ("primed", True)),
            (("evaluated", True),),
        ),
    ),
    (r"__contains__|class 'str'|string ind|dict", ((("grouped", True),),)),
    (r"parameter groups|per-parameter options", ((("one_group", True),),)),
    (r"require grad|grad_fn|create_graph", ((("create_graph", True),),)),
    (r"dense grad", ((("sparse", True),),)),
    (r"dtype|scalar type|Float\b|Double\b|float32", ((("dtype", "float32"),),)),
    (r"has no attribute|not iterable|Module", ((("first", "module"),),)),
    (r"unpack|named?\b", ((("first", "named"),),)),
)
"""What a message holds -> what to try; ``\\1`` stands for what the pattern caught."""

UNHINTED: tuple[Change, ...] = (
    (("closure", True),),
    (("one_group", True),),
    (("closure", True), ("one_group", True)),
    (("evaluated", True),),
    (("grouped", True),),
    (("first", "named"),),
    (("first", "module"),),
    (("create_graph", True),),
    (("dtype", "float32"),),
    (("sparse", True),),
)
"""What is tried where no hint helps."""


def discover(
    spec: OptimizerSpec, workload: Workload, device: str, training_s: float = TRAINING_S
) -> tuple[Needs, Dtype]:
    """The fewest needs under which the optimizer trains `workload`, and the widest dtype it accepts.

    Args:
        spec: what is tried.
        workload: what it is tried on.
        device: where.
        training_s: seconds inside ``step()`` from which on fewer updates are made.

    Returns:
        Needs and one of `DTYPES`. A tensor is frozen only if the optimizer raises with it.

    Raises:
        OptcheckError: nothing that was tried trains, or an update takes too long; the line holds the optimizer's
            own words.
    """
    own = next((name for name in OWN_BACKWARD if callable(getattr(sample(spec), name, None))), None)
    if own is not None:
        raise OptcheckError(f"{spec.text} computes gradients itself ({own}): write an adapter, see docs/wrappers.md")
    trials = _Trials(spec, workload)
    start = Conditions(DTYPES[0], device, Needs(first=first_argument(spec)))
    found = trials.search(start) or trials.without_refused(start)
    if found is None:
        raise OptcheckError(
            f"{spec.text} does not train {workload.name}: {trials.first}; leave it out by listing its workloads"
        )
    found = trials.primed(found)
    return trials.in_time(found, training_s), found.dtype


@dataclass(slots=True)
class _Trials:
    """Short trainings of one optimizer.

    Attributes:
        first: what it raised first.
    """

    spec: OptimizerSpec
    workload: Workload
    first: str = ""
    _runs: dict[Conditions, Run] = field(default_factory=dict)

    def run(self, conditions: Conditions) -> Run:
        """A trial, made once; its seconds are those it would have taken on a machine with nothing else to do."""
        if conditions not in self._runs:
            short = replace(conditions, steps=min(TRIAL_STEPS, self.workload.steps))
            started_s, started_cpu_s = time.perf_counter(), time.process_time()
            run = train(plain(self.spec), self.workload, short)
            share = (time.process_time() - started_cpu_s) / (time.perf_counter() - started_s)
            self._runs[conditions] = replace(run, step_s=run.step_s * min(1.0, share))
        return self._runs[conditions]

    def raised(self, conditions: Conditions) -> str | None:
        """What the optimizer raised in a trial, or None."""
        failure = self.run(conditions).failure
        if failure is None or failure.kind != "raised":
            return None
        self.first = self.first or failure.message
        return failure.message

    def search(self, start: Conditions) -> Conditions | None:
        """`start`, or what hints and then guesses add to it; None if nothing trains."""
        message = self.raised(start)
        if message is None:
            return start
        hinted = self._follow(start, message, DEPTH)
        if hinted is not None:
            return hinted
        tried = (_changed(start, change) for change in UNHINTED)
        return next((conditions for conditions in tried if self.raised(conditions) is None), None)

    def _follow(self, conditions: Conditions, message: str, depth: int) -> Conditions | None:
        for candidate in _hinted(conditions, message) if depth else ():
            again = self.raised(candidate)
            if again is None:
                return candidate
            found = self._follow(candidate, again, depth - 1) if again != message else None
            if found is not None:
                return found
        return None

    def without_refused(self, start: Conditions) -> Conditions | None:
        """What trains with those tensors frozen that the optimizer refuses; None if it accepts none.

        Needs are found on one tensor alone, then every other is tried alone with them, then all that were accepted
        together; where that fails they are added one by one, so that one which is refused only in the company of
        others is found as well. A tensor without dimensions has no sparse gradient.
        """
        shapes = self.workload.tensor_shapes
        alone = sorted(shapes, key=lambda name: -len(shapes[name]) if len(shapes[name]) <= 2 else 1)  # noqa: PLR2004 - matrices first
        for name in alone:
            found = self.search(self._only(start, [name]))
            if found is not None:
                break
        else:
            return None
        able = [name for name in shapes if shapes[name] or not found.needs.sparse]
        able = [name for name in able if self.raised(self._only(found, [name])) is None]
        together = self._only(found, able)
        if self.raised(together) is None:
            return self._enough(together, able)
        accepted: list[str] = []
        for name in able:
            if self.raised(self._only(found, [*accepted, name])) is None:
                accepted.append(name)
        return self._enough(self._only(found, accepted), accepted)

    def _enough(self, found: Conditions, accepted: list[str]) -> Conditions | None:
        """`found`, unless so few tensors are left that it does not count as training."""
        return found if len(accepted) >= FEWEST_TENSORS * len(self.workload.tensor_shapes) else None

    def _only(self, conditions: Conditions, names: list[str]) -> Conditions:
        frozen = tuple(name for name in self.workload.tensor_shapes if name not in names)
        return replace(conditions, needs=structs.replace(conditions.needs, frozen=frozen))

    def primed(self, found: Conditions) -> Conditions:
        """With gradients computed before the step too, if a closure is needed and that makes a difference.

        Some two-step rules take the gradients they are called with for those of the weights; given the closure
        alone they go on with old ones, and raise nothing.
        """
        if not found.needs.closure:
            return found
        primed = replace(found, needs=structs.replace(found.needs, primed=True))
        if self.raised(primed) is not None or self.run(primed).losses == self.run(found).losses:
            return found
        return primed

    def in_time(self, found: Conditions, training_s: float) -> Needs:
        """The needs, with fewer updates where one takes long.

        Raises:
            OptcheckError: even the fewest updates take too long.
        """
        update_s = self._update_s(found)
        if update_s * self.workload.steps > training_s:  # the first trial may have imported or compiled something
            del self._runs[found]
            update_s = min(update_s, self._update_s(found))
        if update_s * self.workload.steps <= training_s:
            return found.needs
        if update_s * FEWEST > FEWEST_S:
            raise OptcheckError(f"{self.spec.text} is too slow on {self.workload.name}: {update_s:.2g} s an update")
        steps = max(FEWEST, int(training_s / update_s))
        return found.needs if steps >= self.workload.steps else structs.replace(found.needs, steps=steps)

    def _update_s(self, found: Conditions) -> float:
        """Seconds inside ``step()`` of one update of a trial."""
        run = self.run(found)
        return run.step_s / max(1, len(run.losses) - 1)


def _hinted(conditions: Conditions, message: str) -> Iterator[Conditions]:
    for pattern, changes in HINTS:
        match = re.search(pattern, message)
        if match is None:
            continue
        for change in changes:
            expanded = tuple((key, _expanded(match, value)) for key, value in change)
            candidate = _changed(conditions, expanded)
            if candidate != conditions:
                yield candidate


def _expanded(match: re.Match[str], value: Any) -> Any:  # noqa: ANN401 - a value of some field
    return match.expand(value) if isinstance(value, str) and "\\" in value else value


def _changed(conditions: Conditions, change: Change) -> Conditions:
    fields = dict(change)
    dtype: Dtype = fields.pop("dtype", conditions.dtype)
    return replace(conditions, dtype=dtype, needs=structs.replace(conditions.needs, **fields))
