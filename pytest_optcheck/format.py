"""The golden file: what it holds, and its JSON text.

Only plain JSON is read, and everything in it is checked before use. Imports neither torch nor pytest.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from pytest_optcheck.cost.figures import Cost, Timing  # noqa: TC001 - msgspec reads the annotations at run time
from pytest_optcheck.curves import Dtype, Needs  # noqa: TC001 - ditto
from pytest_optcheck.ensembles.figures import Ensemble  # noqa: TC001 - ditto
from pytest_optcheck.errors import OptcheckError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA = 2
"""Version of the file format; a file of another version is never interpreted."""

MEND = "re-record it with --optcheck-update, or restore the file"
"""The end of what is said of a golden that is no good."""


ROWS = ("losses", "members")
"""Keys whose lists have a line for each item: a kept loss, a seed."""


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


class Textbook(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The float64 curve against that of the textbook rule of its family, when it was recorded; never held against it.

    Attributes:
        rule: the family's rule, as ``AdamW``.
        deviation: the largest relative deviation, in loss or norms; None where the rule does not train to the end.
        departs: updates made when a loss or a norm was first outside its envelope; None where none was.
        tensor: whose norm was outside first, if one was.
        options: the departures from the textbook that torch's class is known for, and that the rule was given.
        strict: the largest relative deviation without them; None where there are none, or as `deviation` is.
    """

    rule: str
    deviation: float | None
    departs: int | None = None
    tensor: str = ""
    options: tuple[str, ...] = ()
    strict: float | None = None


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
        ensemble: float32 runs over many seeds; None where none are kept for this reference model.
        costs: what its steps cost in operations, by `cost.figures.version_key`; counts are exact, and comparable
            under that alone.
        timings: what its steps cost in time, a machine each.
        textbook: how its float64 curve compares with the rule of its family; None where it was not compared.
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
    ensemble: Ensemble | None = None
    costs: dict[str, Cost] = {}
    timings: tuple[Timing, ...] = ()
    textbook: Textbook | None = None

    def reference(self, dtype: Dtype, route: str) -> Curve | None:
        """The curve that a run of `route` in `dtype` is judged against; None where there is none."""
        found = self.routes.get(route, "same")
        return found.curve if isinstance(found, Departure) else self.curves.get(dtype)


def decode(text: str, path: Path) -> Golden | None:
    """Read a golden from JSON; None where its schema is older than `SCHEMA`, so that it counts as stale.

    Raises:
        UnreadableGoldenError: it is no JSON, has a wrong or missing key, or holds a number that is not finite.
        OptcheckError: it is of a newer schema, so another version of this plugin needs it.
    """
    try:
        raw = json.loads(text)
    except ValueError as error:  # a JSONDecodeError, or a number of too many digits
        found = f"{error.msg}, line {error.lineno}" if isinstance(error, json.JSONDecodeError) else one_line(error)
        raise UnreadableGoldenError(f"{path}: is not JSON, or is cut off ({found}); {MEND}") from error
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise UnreadableGoldenError(f"{path}: key schema is {schema!r}, expected {SCHEMA}; {MEND}")
    if schema > SCHEMA:
        raise OptcheckError(f"{path}: key schema is {schema}, this plugin reads {SCHEMA}; upgrade pytest-optcheck")
    if schema < SCHEMA:
        return None
    for key, value in _numbers(raw):
        if not math.isfinite(value):
            raise UnreadableGoldenError(f"{path}: key {key} is {value}, expected a finite number; {MEND}")
    try:
        return msgspec.convert(raw, Golden)
    except msgspec.ValidationError as error:
        raise UnreadableGoldenError(f"{path}: {_key_error(error)}; {MEND}") from error


def encode(golden: Golden) -> str:
    """The JSON text of `golden`: full precision, one line a kept loss, one a tensor's norms and one a seed.

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
    if isinstance(value, dict) and not all(type(item) is int for item in value.values()):  # counts share a line
        items = (f"{inner}{json.dumps(name)}: {_lines(item, inner, rows=name in ROWS)}" for name, item in value.items())
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if rows and value:
        return "[\n" + ",\n".join(inner + json.dumps(item) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)
