"""What an optimizer needs, found by trying: closure, sparse gradients, one group, tensors it refuses."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from msgspec import structs

from pytest_optcheck.building import plain
from pytest_optcheck.curves import DTYPES, Needs
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.training import Conditions, train

if TYPE_CHECKING:
    from pytest_optcheck.curves import Dtype
    from pytest_optcheck.specs import OptimizerSpec
    from pytest_optcheck.workloads.base import Workload

TRIAL_STEPS = 6
"""Updates of a trial: on ``zoo`` every tensor has had, missed and regained a gradient by then."""


def discover(spec: OptimizerSpec, workload: Workload, device: str) -> tuple[Needs, Dtype]:
    """The fewest needs under which the optimizer trains `workload`, and the widest dtype it accepts.

    Args:
        spec: what is tried.
        workload: what it is tried on.
        device: where.

    Returns:
        Needs and one of `DTYPES`. A tensor is frozen only if the optimizer raises with it.

    Raises:
        OptcheckError: nothing that was tried trains; the line holds the optimizer's own words.
    """
    first = ""
    for dtype, sparse in product(DTYPES, (False, True)):
        candidates = [
            Conditions(dtype, device, Needs(closure=closure, sparse=sparse, one_group=one_group))
            for one_group, closure in product((False, True), repeat=2)
        ]
        for conditions in candidates:
            failure = _trial(spec, workload, conditions)
            if failure is None:
                return conditions.needs, dtype
            first = first or failure
        settled = [found for conditions in candidates if (found := _without_refused(spec, workload, conditions))]
        if settled:
            return min((found.needs for found in settled), key=lambda needs: len(needs.frozen)), dtype
    raise OptcheckError(f"{spec.text} does not train {workload.name}: {first}; leave it out by listing its workloads")


def _trial(spec: OptimizerSpec, workload: Workload, conditions: Conditions) -> str | None:
    """What the optimizer raised within `TRIAL_STEPS` updates, or None."""
    run = train(plain(spec), workload, replace(conditions, steps=min(TRIAL_STEPS, workload.steps)))
    return run.failure.message if run.failure is not None and run.failure.kind == "raised" else None


def _without_refused(spec: OptimizerSpec, workload: Workload, conditions: Conditions) -> Conditions | None:
    """`conditions` with those tensors frozen that the optimizer refuses; None if it accepts none.

    Tensors are added one by one, so that one which it refuses only in the company of others is found as well.
    A tensor without dimensions has no sparse gradient: where gradients must be sparse it is refused untried.
    """
    accepted: list[str] = []
    settled = None
    for name, shape in workload.tensor_shapes.items():
        frozen = tuple(other for other in workload.tensor_shapes if other not in (*accepted, name))
        attempt = replace(conditions, needs=structs.replace(conditions.needs, frozen=frozen))
        if (shape or not conditions.needs.sparse) and _trial(spec, workload, attempt) is None:
            accepted.append(name)
            settled = attempt
    return settled
