"""The store of goldens: one JSON file for one optimizer on one reference model.

Only plain JSON is read, and everything in it is checked before use. Imports neither torch nor pytest.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from pytest_optcheck.curves import Dtype, Needs  # noqa: TC001 - msgspec reads the annotations at run time
from pytest_optcheck.errors import OptcheckError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = 2
"""Version of the file format; a file of another version is never interpreted."""

ABANDONED_S = 3600
"""Age at which a temporary file cannot belong to a recording that still runs."""


class UnreadableGoldenError(OptcheckError):
    """A golden that is there and is no good; recording anew replaces it."""


class Point(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A reference value after so many updates, and the relative deviation that rounding alone can cause."""

    step: Annotated[int, msgspec.Meta(ge=0)]
    value: float
    envelope: Annotated[float, msgspec.Meta(ge=0.0)]


Points = Annotated[list[Point], msgspec.Meta(min_length=1)]


class Curve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reference run in one dtype.

    Attributes:
        losses: one point a kept step; row by row in the file.
        norms: L2 norm by tensor name, at a few steps.
        horizon: the first step whose loss envelope passes 1e-3, or None.
        diverges: first and last update at which the jittered reference runs left the finite numbers; None
            for a run that stays finite.
    """

    losses: Points
    norms: dict[str, Points]
    horizon: int | None = None
    diverges: tuple[int, int] | None = None


class WorkloadId(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which reference model the golden was recorded on."""

    name: str
    digest: str
    steps: int


class Recorded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where, when and why the golden was recorded; never compared."""

    optcheck: str
    torch: str
    numpy: str
    python: str
    platform: str
    cpu: str
    device: str
    when: str
    reason: str


class Departure(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A route that did not land on the plain curve when it was recorded.

    Attributes:
        deviation: the largest relative deviation from the plain curve, in loss or norms; None where it raised
            or left the finite numbers.
        curve: where the route went instead; it is guarded there from then on.
        refused: what it raised, in one line; the route is left alone then.
    """

    deviation: float | None = None
    curve: Curve | None = None
    refused: str = ""


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The stored reference for one (spec, workload).

    Attributes:
        curves: by dtype; float64 is missing where the optimizer does not accept it.
        stochastic: two identical runs differed.
        resolution: the smallest relative change of the learning rate that was seen, or None.
        routes: route -> ``same`` where it landed on the plain curve, else how it departed.
        broken: route -> law -> how the optimizer broke it when it was recorded; never held against it. What it
            breaks on the plain route is excused on every other.
        rates: learning rate of each group after 0, 1, 2, … updates, beyond the end too; empty without schedulers.
        optional: keys of a parameter group that a loaded state dict may lack, and ``step`` where its counters
            may be plain numbers.
        variants: specs derived from the signature of this one, recorded beside it.
        dead: arguments that changed nothing when they were varied.
    """

    schema: int
    spec: str
    workload: WorkloadId
    recorded: Recorded
    needs: Needs
    stochastic: bool
    resolution: float | None
    curves: Annotated[dict[Literal["float64", "float32"], Curve], msgspec.Meta(min_length=1)]
    routes: dict[str, Literal["same"] | Departure] = {}
    broken: dict[str, dict[str, str]] = {}
    rates: list[list[float]] = []
    optional: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    dead: tuple[str, ...] = ()

    def reference(self, dtype: Dtype, route: str) -> Curve | None:
        """The curve that a run of `route` in `dtype` is judged against; None where there is none."""
        found = self.routes.get(route, "same")
        return found.curve if isinstance(found, Departure) else self.curves.get(dtype)


class Goldens:
    """Goldens under one directory; any process may load, one process writes."""

    def __init__(self, root: Path) -> None:
        """`root` need not exist before the first `save`."""
        self.root = root

    def path(self, spec: str, workload: str) -> Path:
        """Where the golden of `spec` (canonical text) on `workload` lies, whether it exists or not."""
        digest = hashlib.sha256(spec.encode()).hexdigest()[:8]
        slug = re.sub(r"[^A-Za-z0-9.]+", "-", spec).strip("-.")[:60]
        return self.root / f"{slug}-{digest}" / f"{workload}.json"

    def load(self, spec: str, workload: str) -> Golden | None:
        """The stored golden, or None where there is none.

        Raises:
            UnreadableGoldenError: the file cannot be read, is no JSON, has a wrong or missing key, holds a
                number that is not finite, or belongs to another spec or workload.
            OptcheckError: it is of a newer schema, so another version of this plugin needs it.
        """
        path = self.path(spec, workload)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise UnreadableGoldenError(f"{path}: cannot be read ({one_line(error)})") from error
        golden = _decoded(text, path)
        if golden is not None:
            for key, found, expected in (
                ("spec", golden.spec, spec),
                ("workload.name", golden.workload.name, workload),
            ):
                if found != expected:
                    raise UnreadableGoldenError(f"{path}: key {key} is {found!r}, expected {expected!r}; {_MEND}")
        return golden

    def save(self, golden: Golden) -> Path:
        """Write `golden` whole or not at all; a reader sees the old file or the new one.

        Raises:
            OptcheckError: the directory or the file cannot be written.
        """
        path = self.path(golden.spec, golden.workload.name)
        write_whole(path, encode(golden))
        return path

    def check_writable(self) -> None:
        """Make the directory and try a file in it; also clear what a killed recording left long ago.

        Raises:
            OptcheckError: it cannot be made or written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise OptcheckError(
                f"curve directory {self.root} cannot be written ({one_line(error)}); "
                "choose another with --optcheck-curves or the ini setting optcheck_curves"
            ) from error
        for left in self.root.glob("**/.*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > ABANDONED_S:
                    left.unlink()


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all; a reader sees the old one or the new one.

    Raises:
        OptcheckError: the directory or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
        temporary = Path(name)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor has no path
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            temporary.chmod(0o644)  # a temporary file is private to its user; a golden is not
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OptcheckError(f"{path}: cannot be written ({one_line(error)})") from error


_MEND = "re-record it with --optcheck-update, or restore the file"


def decode(text: str, path: Path) -> Golden | None:
    """Read a golden from JSON; None where its schema is older than `SCHEMA`, so that it counts as stale.

    Raises:
        OptcheckError: as `Goldens.load`.
    """
    try:
        raw = json.loads(text)
    except ValueError as error:  # a JSONDecodeError, or a number of too many digits
        found = f"{error.msg}, line {error.lineno}" if isinstance(error, json.JSONDecodeError) else one_line(error)
        raise UnreadableGoldenError(f"{path}: is not JSON, or is cut off ({found}); {_MEND}") from error
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise UnreadableGoldenError(f"{path}: key schema is {schema!r}, expected {SCHEMA}; {_MEND}")
    if schema > SCHEMA:
        raise OptcheckError(f"{path}: key schema is {schema}, this plugin reads {SCHEMA}; upgrade pytest-optcheck")
    if schema < SCHEMA:
        return None
    for key, value in _numbers(raw):
        if not math.isfinite(value):
            raise UnreadableGoldenError(f"{path}: key {key} is {value}, expected a finite number; {_MEND}")
    try:
        return msgspec.convert(raw, Golden)
    except msgspec.ValidationError as error:
        raise UnreadableGoldenError(f"{path}: {_key_error(error)}; {_MEND}") from error


_decoded = functools.lru_cache(maxsize=1024)(decode)
"""Collection looks at every golden, then each of its cases does: decoding takes longer than reading the file."""


def encode(golden: Golden) -> str:
    """The JSON text of `golden`: full precision, one line a kept loss and one a tensor's norms.

    Raises:
        OptcheckError: a number in it is not finite.
    """
    raw = msgspec.to_builtins(golden)
    for key, value in _numbers(raw):
        if not math.isfinite(value):
            raise OptcheckError(f"golden of {golden.spec} on {golden.workload.name}: {key} is {value}, not finite")
    return _lines(raw, "", rows=False) + "\n"


def _key_error(error: msgspec.ValidationError) -> str:
    """The validator's "Expected `int`, got `str` - at `$.workload.steps`" with the key in front."""
    message, _, where = str(error).partition(" - at ")
    return f"key {where.strip('`').removeprefix('$.') or '(top level)'}: {message}"


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, float]]:  # noqa: ANN401 - any JSON
    if isinstance(value, float):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _numbers(item, f"{key}.{name}" if key else name)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _numbers(item, f"{key}[{index}]")


def _lines(value: Any, indent: str, *, rows: bool) -> str:  # noqa: ANN401 - any JSON
    """JSON with a line for each key, and for each row of a list where `rows` is set."""
    inner = indent + " "
    if isinstance(value, dict) and value:
        items = (
            f"{inner}{json.dumps(name)}: {_lines(item, inner, rows=name == 'losses')}" for name, item in value.items()
        )
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if rows and value:
        return "[\n" + ",\n".join(inner + json.dumps(item) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)
