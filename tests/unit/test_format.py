from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from interpreter import imported

from pytest_optcheck.curves import Dtype, Needs
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.format import (
    SCHEMA,
    Curve,
    Departure,
    Golden,
    Point,
    Recorded,
    UnreadableGoldenError,
    WorkloadId,
    decode,
    encode,
)

SPEC = "torch.optim:Adam(lr=0.1)"

HERE = Path("golden.json")

MEND = "re-record it with --optcheck-update, or restore the file"


def golden(spec: str = SPEC, workload: str = "toy", loss: float = 0.1) -> Golden:
    """A small golden with numbers that need all 17 digits."""
    curve = Curve(
        losses=[Point(0, 1.0, 0.0), Point(1, loss, 1e-16), Point(2, 1 / 3, 2.5e-300)],
        norms={"weight": [Point(1, math.pi, 0.0), Point(2, 5e-324, 0.0)], "bias": [Point(1, 0.0, 0.0)]},
    )
    return Golden(
        schema=SCHEMA,
        spec=spec,
        workload=WorkloadId(workload, "0123456789abcdef", 2),
        recorded=Recorded("0", "2.9", "2.1", "3.11", "Linux", "cpu", "cpu", "2026-01-01", "first — é"),
        needs=Needs(closure=True, frozen=("bias",)),
        stochastic=False,
        resolution=1e-9,
        curves={"float64": curve, "float32": msgspec.structs.replace(curve, horizon=2, diverges=(2, 2))},
    )


def altered(*keys: str | int, value: object = None, drop: bool = False, base: Golden | None = None) -> str:
    """The text of a golden in which one value, found by its keys, is replaced or dropped."""
    raw = json.loads(encode(base or golden()))
    place: Any = raw
    for key in keys[:-1]:
        place = place[key]
    if drop:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return json.dumps(raw)


def refusal(text: str) -> str:
    """The one line with which `text` is refused; recording anew may replace it."""
    with pytest.raises(UnreadableGoldenError) as caught:
        decode(text, HERE)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    return line


def test_text_and_golden_are_two_forms_of_one_thing() -> None:
    assert decode(encode(golden()), HERE) == golden()


def test_the_file_holds_plain_json() -> None:
    raw = json.loads(encode(golden()))
    assert list(raw) == list(Golden.__struct_fields__)
    assert raw["curves"]["float64"]["losses"] == [[0, 1.0, 0.0], [1, 0.1, 1e-16], [2, 1 / 3, 2.5e-300]]


def test_the_file_has_one_line_for_each_kept_loss_and_for_each_tensor() -> None:
    lines = encode(golden()).splitlines()
    assert lines.count("    [1, 0.1, 1e-16],") == 2
    assert lines.count("    [2, 0.3333333333333333, 2.5e-300]") == 2
    assert lines.count('    "weight": [[1, 3.141592653589793, 0.0], [2, 5e-324, 0.0]],') == 2
    assert lines.count('    "bias": [[1, 0.0, 0.0]]') == 2


def test_one_changed_loss_changes_one_line_a_curve() -> None:
    before, after = encode(golden()).splitlines(), encode(golden(loss=0.2)).splitlines()
    differing = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert differing == [("    [1, 0.1, 1e-16],", "    [1, 0.2, 1e-16],")] * 2


def test_the_file_ends_with_a_line_end_and_has_no_trailing_blanks() -> None:
    text = encode(golden())
    assert text.endswith("}\n")
    assert not text.endswith("\n\n")
    assert all(line == line.rstrip() for line in text.splitlines())


def test_empty_collections_stay_on_their_line() -> None:
    bare = msgspec.structs.replace(golden(), curves={})
    assert {' "curves": {},', ' "routes": {},', ' "rates": [],', ' "timings": [],'} <= set(encode(bare).splitlines())
    curve = Curve(losses=[], norms={})
    assert '   "losses": [],' in encode(msgspec.structs.replace(golden(), curves={"float64": curve})).split("\n")


def routed() -> Golden:
    """A golden with a route that was the same, one with a curve of its own, and one that was refused."""
    curve = Curve(losses=[Point(0, 1.0, 0.0), Point(2, 0.7, 1e-9)], norms={"bias": [Point(1, 0.1, 0.0)]})
    return msgspec.structs.replace(
        golden(),
        routes={"foreach": "same", "capturable": Departure(3e-8, curve), "fused": Departure(refused="ValueError: no")},
        broken={"plain": {"lr_zero": "moved"}},
        rates=[[0.1, 0.05], [0.2, 0.1]],
        variants=("torch.optim:Adam(amsgrad=True)",),
        dead=("momentum",),
    )


def test_a_route_that_was_the_same_is_one_word_and_another_says_only_what_it_knows() -> None:
    raw = json.loads(encode(routed()))["routes"]
    assert raw["foreach"] == "same"
    assert list(raw["capturable"]) == ["deviation", "curve"]
    assert raw["fused"] == {"refused": "ValueError: no"}


def test_a_golden_with_routes_laws_and_rates_is_read_as_it_was_written() -> None:
    assert decode(encode(routed()), HERE) == routed()


def test_a_golden_of_an_optimizer_without_routes_may_leave_them_out() -> None:
    raw = json.loads(encode(golden()))
    for key in ("routes", "broken", "rates", "optional", "variants", "dead"):
        del raw[key]
    assert decode(json.dumps(raw), HERE) == golden()


@pytest.mark.parametrize(
    ("route", "dtype", "expected"),
    [
        ("plain", "float64", 3),
        ("plain", "float32", 3),
        ("foreach", "float64", 3),
        ("capturable", "float64", 2),
        ("fused", "float64", None),
    ],
)
def test_a_route_is_judged_by_its_own_curve_where_it_has_one(route: str, dtype: Dtype, expected: int | None) -> None:
    found = routed().reference(dtype, route)
    assert (found and len(found.losses)) == expected


def test_a_dtype_without_a_curve_has_no_reference() -> None:
    only = msgspec.structs.replace(golden(), curves={"float32": golden().curves["float32"]})
    assert only.reference("float64", "plain") is None


@pytest.mark.parametrize(
    ("keys", "value", "complaint"),
    [
        (("routes", "foreach"), "similar", "key routes[...]: "),
        (("routes", "foreach"), {"refused": 3}, "key routes[...].refused: Expected `str`, got `int`"),
        (("routes", "foreach"), {"more": 3}, "key routes[...]: Object contains unknown field `more`"),
        (("routes", "capturable", "curve", "losses"), [], "key routes[...].curve.losses: "),
        (("routes", "capturable", "deviation"), math.nan, "key routes.capturable.deviation is nan"),
        (("rates", 1, 0), math.inf, "key rates[1][0] is inf, expected a finite number"),
        (("rates", 1), 0.1, "key rates[1]: Expected `array`, got `float`"),
        (("broken", "plain"), ["lr_zero"], "key broken[...]: Expected `object`, got `array`"),
        (("dead",), "momentum", "key dead: Expected `array`, got `str`"),
    ],
)
def test_a_route_rate_or_law_of_the_wrong_kind_names_its_key(
    keys: tuple[str | int, ...], value: object, complaint: str
) -> None:
    assert refusal(altered(*keys, value=value, base=routed())).startswith(f"golden.json: {complaint}")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_golden_with_a_number_that_is_not_finite_is_not_encoded(value: float) -> None:
    with pytest.raises(OptcheckError) as caught:
        encode(golden(loss=value))
    assert str(caught.value) == (f"golden of {SPEC} on toy: curves.float64.losses[1][1] is {value}, not finite")


@pytest.mark.parametrize("length", [0, 1, 40, 400, -3])
def test_a_file_that_is_cut_off_is_refused_with_the_line(length: int) -> None:
    text = encode(golden())[:length]
    line = refusal(text)
    assert line.startswith("golden.json: is not JSON, or is cut off (")
    assert f"line {text.count(chr(10)) + 1}" in line
    assert line.endswith(MEND)


def test_an_endless_integer_is_refused_in_one_line() -> None:
    assert refusal(f'{{"schema": {SCHEMA}, "resolution": ' + "1" * 5000 + "}").startswith("golden.json: ")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[]", "None"),
        ("3", "None"),
        ("null", "None"),
        ("{}", "None"),
        ('{"schema": null}', "None"),
        ('{"schema": "1"}', "'1'"),
        ('{"schema": true}', "True"),
        ('{"schema": 1.0}', "1.0"),
    ],
)
def test_a_file_without_a_schema_number_is_refused(text: str, found: str) -> None:
    assert refusal(text) == f"golden.json: key schema is {found}, expected {SCHEMA}; {MEND}"


def test_a_newer_schema_asks_for_an_upgrade() -> None:
    with pytest.raises(OptcheckError) as caught:
        decode(altered("schema", value=SCHEMA + 1), HERE)
    assert not isinstance(caught.value, UnreadableGoldenError), "it is good: recording anew must not replace it"
    assert str(caught.value) == (
        f"golden.json: key schema is {SCHEMA + 1}, this plugin reads {SCHEMA}; upgrade pytest-optcheck"
    )


def test_an_older_schema_is_not_interpreted() -> None:
    assert decode('{"schema": 0, "unknown": NaN}', HERE) is None


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        (("resolution",), "resolution"),
        (("curves", "float64", "losses", 0, 1), "curves.float64.losses[0][1]"),
        (("curves", "float64", "losses", 2, 2), "curves.float64.losses[2][2]"),
        (("curves", "float32", "norms", "weight", 1, 1), "curves.float32.norms.weight[1][1]"),
        (("curves", "float32", "horizon"), "curves.float32.horizon"),
        (("recorded", "reason"), "recorded.reason"),
    ],
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_names_its_key(keys: tuple[str | int, ...], key: str, value: float) -> None:
    assert refusal(altered(*keys, value=value)) == (
        f"golden.json: key {key} is {value}, expected a finite number; {MEND}"
    )


def test_a_number_too_large_for_a_float_names_its_key() -> None:
    text = altered("resolution", value="HERE").replace('"HERE"', "1e999")
    assert refusal(text) == f"golden.json: key resolution is inf, expected a finite number; {MEND}"


@pytest.mark.parametrize(
    ("keys", "value", "complaint"),
    [
        (("spec",), 3, "key spec: Expected `str`, got `int`"),
        (("workload", "steps"), "2", "key workload.steps: Expected `int`, got `str`"),
        (("workload", "steps"), 2.5, "key workload.steps: Expected `int`, got `float`"),
        (("stochastic",), 0, "key stochastic: Expected `bool`, got `int`"),
        (("resolution",), "small", "key resolution: Expected `float | null`, got `str`"),
        (("needs", "frozen"), "bias", "key needs.frozen: Expected `array`, got `str`"),
        (("curves", "float64"), None, "key curves[...]: Expected `object`, got `null`"),
        (("curves", "float64", "losses", 1, 1), None, "key curves[...].losses[1][1]: Expected `float`, got `null`"),
        (("curves", "float64", "losses", 1), [1, 2.0], "key curves[...].losses[1]: "),
        (("curves", "float64", "losses", 1), [1, 2.0, 0.0, 0.0], "key curves[...].losses[1]: "),
        (("curves", "float64", "diverges"), [1], "key curves[...].diverges: "),
        (("resolution",), 10**400, "key resolution: "),
    ],
)
def test_a_value_of_the_wrong_type_names_its_key(keys: tuple[str | int, ...], value: object, complaint: str) -> None:
    line = refusal(altered(*keys, value=value))
    assert line.startswith(f"golden.json: {complaint}")
    assert line.endswith(MEND)


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        (("spec",), "(top level)"),
        (("curves",), "(top level)"),
        (("workload", "digest"), "workload"),
        (("recorded", "torch"), "recorded"),
        (("curves", "float64", "losses"), "curves[...]"),
    ],
)
def test_a_missing_key_is_named(keys: tuple[str, ...], where: str) -> None:
    assert refusal(altered(*keys, drop=True)) == (
        f"golden.json: key {where}: Object missing required field `{keys[-1]}`; {MEND}"
    )


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        (("more",), "(top level)"),
        (("workload", "more"), "workload"),
        (("recorded", "more"), "recorded"),
        (("curves", "float64", "more"), "curves[...]"),
    ],
)
def test_an_unknown_key_is_named(keys: tuple[str, ...], where: str) -> None:
    assert refusal(altered(*keys, value=1)) == (
        f"golden.json: key {where}: Object contains unknown field `more`; {MEND}"
    )


def test_an_unknown_need_is_named() -> None:
    """A need that this version does not know must not be passed over: the training would be another one."""
    assert "more" in refusal(altered("needs", "more", value=True))


@pytest.mark.parametrize("keys", [("losses",), ("norms", "weight")])
def test_a_curve_without_points_is_refused(keys: tuple[str, ...]) -> None:
    """The judge needs a value to compare with and a last one to report."""
    assert keys[0] in refusal(altered("curves", "float64", *keys, value=[]))


def test_the_format_imports_neither_torch_nor_pytest() -> None:
    assert imported("pytest_optcheck.format", "torch", "pytest") == []
