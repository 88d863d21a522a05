"""What a side of a comparison can be asked to do: plain data in, plain data out.

A process that has entered the place of its side runs these; see `twins`.
"""

from __future__ import annotations

import contextlib
import re
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_optcheck import workloads
from pytest_optcheck.building import plain
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.cost import sides
from pytest_optcheck.cost.clock import clock
from pytest_optcheck.cost.counting import count
from pytest_optcheck.curves import Needs
from pytest_optcheck.format import encode
from pytest_optcheck.needs import discover
from pytest_optcheck.recorder import Recording, record
from pytest_optcheck.specs import parse
from pytest_optcheck.training import train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_optcheck.cost.sides import StepSide
    from pytest_optcheck.cost.stopwatch import Sample
    from pytest_optcheck.curves import Dtype

Plain = dict[str, Any]
NAME = re.compile(r"[A-Za-z_][\w.]*")
"""A dotted name in the text of a spec; what is none of a module's does no harm."""


class Commands:
    """What one process was asked; every public method is a command."""

    def __init__(self) -> None:
        """Nothing is timed yet."""
        self._timed: StepSide | None = None
        self._stack = contextlib.ExitStack()

    def origins(self, spec: str) -> dict[str, str]:
        """The files of the modules that a spec names, by module, once it is known that it can be built.

        Raises:
            OptcheckError: it cannot be.
        """
        plain(parse(spec))
        modules = {_module(name) for name in NAME.findall(spec)} - {""}
        files = {name: getattr(sys.modules[name], "__file__", None) for name in sorted(modules)}
        return {name: file for name, file in files.items() if file}

    def needs(self, spec: str, workload: str, device: str) -> Plain:
        """What the optimizer needs on a reference model, and the widest dtype it accepts.

        Raises:
            OptcheckError: it does not train it.
        """
        needs, dtype = discover(parse(spec), workloads.load(workload), device)
        return {"needs": msgspec.to_builtins(needs), "dtype": dtype}

    def train(self, spec: str, workload: str, device: str, needs: Plain, dtype: Dtype) -> Plain:
        """Train once; the digest of the reference model, and the run.

        Raises:
            OptcheckError: spec or reference model cannot be used.
        """
        model = workloads.load(workload)
        conditions = Conditions(dtype, device, msgspec.convert(needs, Needs), watch=True)
        run = train(plain(parse(spec)), model, conditions)
        return {"digest": model.digest, "run": asdict(run)}

    def golden(self, spec: str, workload: str, device: str, dtype: Dtype) -> str:
        """Record a golden of the plain route in one dtype; its JSON.

        Raises:
            OptcheckError: it cannot be recorded.
        """
        what = Recording(parse(spec), workloads.load(workload), device, diverges=True, dtypes=(dtype,), lean=True)
        return encode(record(what))

    def count(self, spec: str, device: str, needs: Plain, lists: Sequence[str]) -> Plain:
        """Count what a step costs; a `counting.Counted`, by name.

        Raises:
            OptcheckError: the spec cannot be built.
        """
        found = count(parse(spec), msgspec.convert(needs, Needs), device, lists=lists)
        return {"cost": msgspec.to_builtins(found.cost), "refused": found.refused}

    def device(self, device: str) -> str:
        """What tells a device apart from all others of this machine."""
        return clock(device).name

    def trouble(self, device: str) -> str:
        """Why no time taken now would mean anything; empty where it would."""
        return clock(device).trouble()

    def prepare(self, spec: str, device: str, needs: Plain, names: Sequence[str] | None) -> Plain:
        """Get ready to time steps, until `finish`.

        Args:
            spec: the optimizer.
            device: where.
            needs: of the optimizer.
            names: tensors to time it on; None for as many as it takes.

        Returns:
            ``names`` as they are, or ``refused`` with the reason.

        Raises:
            OptcheckError: the spec cannot be built.
        """
        self.finish()
        optimizer, needed = parse(spec), msgspec.convert(needs, Needs)
        try:
            accepted = sides.accepted(optimizer, needed, device)
        except sides.RefusedError as error:
            return {"names": [], "refused": str(error)}
        wanted = list(accepted if names is None else names)
        if not set(wanted) <= set(accepted):
            return {"names": [], "refused": "it no longer takes all tensors that it could be timed on"}
        self._stack.enter_context(sides.settled(device, needed))
        self._timed = sides.side(optimizer, needed, device, wanted)
        return {"names": wanted, "refused": ""}

    def fresh(self) -> float:
        """As of `stopwatch.Side`."""
        return self._side.fresh()

    def sample(self, steps: int) -> Sample:
        """As of `stopwatch.Side`."""
        return self._side.sample(steps)

    def leave(self) -> None:
        """As of `stopwatch.Side`."""
        self._side.leave()

    def finish(self) -> None:
        """Timing is over."""
        self._timed = None
        self._stack.close()

    @property
    def _side(self) -> StepSide:
        if self._timed is None:
            raise RuntimeError("nothing was prepared to be timed")
        return self._timed


def _module(name: str) -> str:
    """The longest beginning of a dotted name that is an imported module; empty where none is."""
    while name and name not in sys.modules:
        name = name.rpartition(".")[0]
    return name
