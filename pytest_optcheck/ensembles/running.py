"""One training, held at its end to be looked at. Imports torch."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING

from pytest_optcheck.determinism import deterministic, process_group
from pytest_optcheck.training import Training

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_optcheck.conditions import Conditions
    from pytest_optcheck.curves import Run
    from pytest_optcheck.specs import Factory
    from pytest_optcheck.workloads.base import Workload


@contextlib.contextmanager
def trained(factory: Factory, workload: Workload, conditions: Conditions) -> Iterator[tuple[Training, Run]]:
    """Train as `training.train` does; during the block the parameters are those to evaluate.

    Args:
        factory: makes the optimizer.
        workload: the reference model.
        conditions: everything else.
    """
    with (
        deterministic(conditions.device),
        warnings.catch_warnings(),
        process_group(needed=conditions.needs.process_group),
    ):
        warnings.simplefilter("ignore")  # of the optimizer's
        training = Training(factory, workload, conditions)
        run = training.run()
        if run.failure is None and training.switches:
            training.optimizer.eval()
        yield training, run
