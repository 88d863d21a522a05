"""The roster of a discovered module: which of its optimizers are guarded, with what limitation, and which cannot be.

One JSON file a module beside its goldens, so that a check need not try again what did not work. Imports neither
torch nor pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pytest_optcheck.errors import OptcheckError, one_line
from pytest_optcheck.goldens import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA = 1
"""Version of the file format; a file of another version is made anew."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One optimizer.

    Attributes:
        guarded: reference models on which it has a golden.
        limits: what it needs or cannot do, in a few words each.
        refused: reference model -> why it cannot be recorded there; the key is empty where it is left out at once.
    """

    guarded: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    refused: dict[str, str] = {}


class Roster(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All optimizers of a module, by canonical spec."""

    schema: int
    module: str
    optimizers: dict[str, Entry]

    def refuses(self, spec: str, workload: str) -> bool:
        """Whether it was found that `spec` cannot be recorded on `workload`."""
        return workload in self.optimizers.get(spec, Entry()).refused

    def with_recorded(self, spec: str, workload: str, limits: tuple[str, ...]) -> Roster:
        """With a golden of `spec` on `workload`."""
        old = self.optimizers.get(spec, Entry())
        refused = {name: why for name, why in old.refused.items() if name not in (workload, "")}
        guarded = tuple(sorted({*old.guarded, workload}))
        return self._with(spec, Entry(guarded, tuple(dict.fromkeys((*old.limits, *limits))), refused))

    def with_refused(self, spec: str, workload: str, why: str) -> Roster:
        """With the reason why `spec` cannot be recorded on `workload`."""
        old = self.optimizers.get(spec, Entry())
        guarded = tuple(name for name in old.guarded if name != workload)
        return self._with(spec, Entry(guarded, old.limits, {**old.refused, workload: why}))

    def _with(self, spec: str, entry: Entry) -> Roster:
        optimizers = dict(sorted({**self.optimizers, spec: entry}.items()))
        address, call, _ = spec.partition("(")
        if call:
            optimizers.pop(address, None)  # it was left out for want of an argument, and has that now
        return msgspec.structs.replace(self, optimizers=optimizers)

    def table(self) -> Iterator[str]:
        """Guarded, guarded with a limitation, not guardable and why."""
        by_kind: dict[str, list[str]] = {"guarded": [], "guarded with a limitation": [], "not guardable": []}
        for spec, entry in self.optimizers.items():
            name = (spec.partition(":")[2] or spec).removesuffix("()")
            reasons = [
                *entry.limits,
                *(f"not on {workload}: {why}" if workload else why for workload, why in entry.refused.items()),
            ]
            kind = "not guardable" if not entry.guarded else "guarded with a limitation" if reasons else "guarded"
            by_kind[kind].append(f"{name}: {'; '.join(reasons)}" if reasons else name)
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in by_kind.items())
        yield f"{self.module}: {len(self.optimizers)} optimizers, {counts}"
        for kind, names in by_kind.items():
            if kind == "guarded" and names:
                yield f"  {kind}: {', '.join(names)}"
            elif kind != "guarded":
                yield from (f"  {kind}: {name}" for name in names)


class Rosters:
    """The rosters under the directory of the goldens; any process may load, one process writes."""

    def __init__(self, root: Path) -> None:
        """`root` need not exist before the first `save`."""
        self.root = root

    def path(self, module: str) -> Path:
        """Where the roster of `module` lies, whether it exists or not."""
        return self.root / f"{module}.json"

    def load(self, module: str) -> Roster:
        """The stored roster; an empty one where there is none, or one of another schema.

        Raises:
            OptcheckError: the file is there and is no roster.
        """
        path = self.path(module)
        try:
            roster = msgspec.json.decode(path.read_bytes(), type=Roster)
        except FileNotFoundError:
            return Roster(SCHEMA, module, {})
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
            raise OptcheckError(
                f"{path}: is no roster ({one_line(error)}); delete it and run --optcheck-update"
            ) from error
        return roster if roster.schema == SCHEMA else Roster(SCHEMA, module, {})

    def save(self, roster: Roster) -> None:
        """Write `roster` whole or not at all.

        Raises:
            OptcheckError: the directory or the file cannot be written.
        """
        text = msgspec.json.format(msgspec.json.encode(roster), indent=1).decode()
        write_whole(self.path(roster.module), text + "\n")
