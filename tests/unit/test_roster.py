from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

import interpreter
import pytest

from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.goldens import write_whole
from pytest_optcheck.roster import SCHEMA, Entry, Roster, Rosters

if TYPE_CHECKING:
    from pathlib import Path

NEAT = "lib:Neat"
ODD = "lib:Odd(lr=0.01)"
EMPTY = Roster(SCHEMA, "lib", {})


def roster(**entries: Entry) -> Roster:
    """A roster of ``lib`` with an entry for each class."""
    return Roster(SCHEMA, "lib", {f"lib:{name}": entry for name, entry in entries.items()})


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    store = Rosters(tmp_path / "not" / "yet" / "there")
    saved = EMPTY.with_recorded(NEAT, "bowl", ("é",)).with_refused(ODD, "bowl", "raises")
    store.save(saved)
    assert store.load("lib") == saved
    assert [path.name for path in store.root.iterdir()] == ["lib.json"]


def test_each_module_has_a_roster_of_its_own(tmp_path: Path) -> None:
    store = Rosters(tmp_path)
    store.save(EMPTY.with_recorded(NEAT, "bowl", ()))
    assert store.path("lib") == tmp_path / "lib.json"
    assert store.path("lib.part") == tmp_path / "lib.part.json"
    assert store.load("lib.part") == Roster(SCHEMA, "lib.part", {})


def test_a_missing_roster_is_empty_and_is_not_made(tmp_path: Path) -> None:
    root = tmp_path / "nowhere"
    assert Rosters(root).load("lib") == EMPTY
    assert not root.exists()


@pytest.mark.parametrize("schema", [SCHEMA - 1, SCHEMA + 1])
def test_a_roster_of_another_schema_is_empty(tmp_path: Path, schema: int) -> None:
    store = Rosters(tmp_path)
    store.save(Roster(schema, "lib", {NEAT: Entry(("bowl",))}))
    assert store.load("lib") == EMPTY


@pytest.mark.parametrize(
    ("damaged", "found"),
    [
        (b"", "DecodeError: Input data was truncated"),
        (b'{"schema": 1, "mod', "DecodeError: Input data was truncated"),
        (b"<<<<<<< ours\n", "DecodeError: JSON is malformed: invalid character (byte 0)"),
        (b"[]", "ValidationError: Expected `object`, got `array`"),
        (b'{"schema": 1, "module": "lib"}', "ValidationError: Object missing required field `optimizers`"),
        (
            b'{"schema": 1, "module": "lib", "optimizers": {"lib:Neat": {"guarded": "bowl"}}}',
            "ValidationError: Expected `array`, got `str` - at `$.optimizers[...].guarded`",
        ),
        (
            b'{"schema": 1, "module": "lib", "optimizers": {}, "more": 1}',
            "ValidationError: Object contains unknown field `more`",
        ),
    ],
)
def test_a_damaged_roster_is_one_line_with_the_file_and_the_way_out(tmp_path: Path, damaged: bytes, found: str) -> None:
    store = Rosters(tmp_path)
    store.path("lib").write_bytes(damaged)
    with pytest.raises(OptcheckError) as caught:
        store.load("lib")
    path = store.path("lib")
    assert str(caught.value) == f"{path}: is no roster ({found}); delete it and run --optcheck-update"


@pytest.mark.parametrize("text", [b"\xff\xfe", b'{"schema": 1, "module": "\xff", "optimizers": {}}'])
def test_a_roster_that_is_no_text_is_named(tmp_path: Path, text: bytes) -> None:
    store = Rosters(tmp_path)
    store.path("lib").write_bytes(text)
    with pytest.raises(OptcheckError, match=r"lib\.json: is no roster \(.*\); delete it and run --optcheck-update$"):
        store.load("lib")


def test_a_directory_in_the_place_of_a_roster_is_named(tmp_path: Path) -> None:
    store = Rosters(tmp_path)
    store.path("lib").mkdir()
    with pytest.raises(OptcheckError, match=r"lib\.json: is no roster \(IsADirectoryError: "):
        store.load("lib")


def test_the_file_is_sorted_by_optimizer_says_nothing_of_defaults_and_ends_its_last_line(tmp_path: Path) -> None:
    store = Rosters(tmp_path)
    store.save(EMPTY.with_refused(ODD, "bowl", "raises").with_recorded(NEAT, "mlp", ()).with_recorded(NEAT, "bowl", ()))
    text = store.path("lib").read_text(encoding="utf-8")
    entries = {NEAT: {"guarded": ["bowl", "mlp"]}, ODD: {"refused": {"bowl": "raises"}}}
    assert list(json.loads(text)["optimizers"].items()) == list(entries.items())
    assert text == json.dumps({"schema": SCHEMA, "module": "lib", "optimizers": entries}, indent=1) + "\n"


def test_recording_adds_the_workload_and_each_limit_once() -> None:
    made = EMPTY.with_recorded(NEAT, "mlp", ("slow", "frozen")).with_recorded(NEAT, "bowl", ("frozen", "closure"))
    made = made.with_recorded(NEAT, "bowl", ())
    assert made.optimizers == {NEAT: Entry(("bowl", "mlp"), ("slow", "frozen", "closure"))}


def test_recording_lifts_the_refusal_there_and_the_one_of_the_whole_but_no_other() -> None:
    refused = EMPTY.with_refused(NEAT, "", "needs x").with_refused(NEAT, "bowl", "a").with_refused(NEAT, "mlp", "b")
    assert refused.with_recorded(NEAT, "bowl", ()).optimizers == {NEAT: Entry(("bowl",), (), {"mlp": "b"})}


def test_a_refusal_takes_the_workload_from_the_guarded_and_leaves_the_others() -> None:
    recorded = EMPTY.with_recorded(NEAT, "bowl", ("slow",)).with_recorded(NEAT, "mlp", ())
    again = recorded.with_refused(NEAT, "bowl", "raises")
    assert again.optimizers == {NEAT: Entry(("mlp",), ("slow",), {"bowl": "raises"})}


def test_a_second_refusal_gives_the_reason_of_now() -> None:
    assert EMPTY.with_refused(NEAT, "bowl", "a").with_refused(NEAT, "bowl", "b").optimizers[NEAT].refused == {
        "bowl": "b"
    }


def test_what_is_entered_for_one_optimizer_leaves_the_others_and_the_old_roster_alone() -> None:
    old = EMPTY.with_recorded(NEAT, "bowl", ())
    new = old.with_refused(ODD, "bowl", "raises")
    assert new.optimizers[NEAT] == old.optimizers[NEAT] == Entry(("bowl",))
    assert list(old.optimizers) == [NEAT]


def test_only_what_was_found_refused_on_this_workload_is_refused() -> None:
    made = EMPTY.with_recorded(NEAT, "bowl", ()).with_refused(ODD, "bowl", "raises")
    assert made.refuses(ODD, "bowl")
    assert not made.refuses(ODD, "mlp")
    assert not made.refuses(NEAT, "bowl")
    assert not made.refuses("lib:New", "bowl")


def test_the_table_counts_and_sorts_into_three_kinds() -> None:
    table = roster(
        Neat=Entry(("bowl", "mlp")),
        Tidy=Entry(("bowl",)),
        Closed=Entry(("bowl",), ("steps with a closure", "slow")),
        Partial=Entry(("bowl",), (), {"mlp": "raises"}),
        Broken=Entry((), (), {"bowl": "raises", "mlp": "raises too"}),
        Secret=Entry((), (), {"": "needs argument key"}),
    ).table()
    assert list(table) == [
        "lib: 6 optimizers, 2 guarded, 2 guarded with a limitation, 2 not guardable",
        "  guarded: Neat, Tidy",
        "  guarded with a limitation: Closed: steps with a closure; slow",
        "  guarded with a limitation: Partial: not on mlp: raises",
        "  not guardable: Broken: not on bowl: raises; not on mlp: raises too",
        "  not guardable: Secret: needs argument key",
    ]


def test_the_table_names_an_optimizer_by_its_class_and_its_arguments() -> None:
    made = EMPTY.with_recorded("lib:Neat()", "bowl", ()).with_recorded(ODD, "bowl", ())
    assert list(made.table())[1] == "  guarded: Neat, Odd(lr=0.01)"


def test_a_submodule_that_does_not_import_is_named_in_the_table() -> None:
    made = EMPTY.with_refused("lib.part", "", "does not import (ImportError: x)")
    assert list(made.table())[1] == "  not guardable: lib.part: does not import (ImportError: x)"


@pytest.mark.parametrize("spec", ["lib:Secret(key=1)", "lib:Secret()"])
def test_what_was_left_out_for_want_of_an_argument_is_there_once_when_it_has_that(spec: str) -> None:
    left_out = EMPTY.with_refused("lib:Secret", "", "needs argument key").with_recorded(NEAT + "()", "bowl", ())
    assert list(left_out.with_recorded(spec, "bowl", ()).optimizers) == ["lib:Neat()", spec]
    assert list(left_out.with_refused(spec, "bowl", "raises").optimizers) == ["lib:Neat()", spec]


def test_a_kind_that_nothing_is_of_has_no_line() -> None:
    counts = "0 guarded, 0 guarded with a limitation, 1 not guardable"
    assert list(roster(Odd=Entry((), (), {"bowl": "raises"})).table()) == [
        f"lib: 1 optimizers, {counts}",
        "  not guardable: Odd: not on bowl: raises",
    ]


def test_a_roster_is_readable_for_everybody(tmp_path: Path) -> None:
    store = Rosters(tmp_path)
    store.save(EMPTY)
    assert stat.S_IMODE(store.path("lib").stat().st_mode) == 0o644


def _full_disk(*_args: object, **_keywords: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("broken", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.chmod"])
def test_a_save_that_fails_leaves_the_old_roster_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    store = Rosters(tmp_path)
    store.save(EMPTY)
    with monkeypatch.context() as patch:
        patch.setattr(broken, _full_disk)
        with pytest.raises(OptcheckError) as caught:
            store.save(EMPTY.with_recorded(NEAT, "bowl", ()))
    path = store.path("lib")
    assert str(caught.value) == f"{path}: cannot be written (OSError: [Errno 28] No space left on device)"
    assert store.load("lib") == EMPTY
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_only_when_the_new_text_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    write_whole(path, "old")
    seen: list[tuple[str, str]] = []

    def watch(_descriptor: int) -> None:
        (temporary,) = tmp_path.glob(".*.tmp")
        seen.append((path.read_text(encoding="utf-8"), temporary.read_text(encoding="utf-8")))

    monkeypatch.setattr(os, "fsync", watch)
    write_whole(path, "né\n")
    assert seen == [("old", "né\n")]
    assert path.read_bytes() == "né\n".encode()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "lib.json"
    with pytest.raises(OptcheckError) as caught:
        write_whole(path, "text")
    assert str(caught.value).startswith(f"{path}: cannot be written (FileExistsError: ")


def test_the_roster_imports_neither_torch_nor_pytest() -> None:
    assert interpreter.imported("pytest_optcheck.roster", "torch", "pytest") == []
