from __future__ import annotations

import math
import os
import stat
import time
from typing import TYPE_CHECKING

import interpreter
import pytest
from test_format import MEND, SPEC, altered, golden

from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.format import (
    SCHEMA,
    Golden,
    UnreadableGoldenError,
    encode,
)
from pytest_optcheck.goldens import ABANDONED_S, Goldens

if TYPE_CHECKING:
    from pathlib import Path


def only_file(store: Goldens) -> Path:
    """The only file under the store, temporary ones included."""
    (found,) = (path for path in store.root.rglob("*") if path.is_file())
    return found


def test_what_was_saved_is_loaded_with_every_digit(tmp_path: Path) -> None:
    store = Goldens(tmp_path / "not" / "yet" / "there")
    path = store.save(golden())
    assert store.load(SPEC, "toy") == golden()
    assert path == store.path(SPEC, "toy") == only_file(store)


def test_no_golden_is_none(tmp_path: Path) -> None:
    assert Goldens(tmp_path).load(SPEC, "toy") is None


def test_a_golden_of_another_workload_is_none(tmp_path: Path) -> None:
    store = Goldens(tmp_path)
    store.save(golden())
    assert store.load(SPEC, "other") is None


def test_specs_that_differ_in_punctuation_do_not_collide(tmp_path: Path) -> None:
    store = Goldens(tmp_path)
    specs = ["a-b", "a_b", "a.b", "a b", "A-b", "a-b-"]
    assert len({store.path(spec, "toy") for spec in specs}) == len(specs)
    for spec in specs:
        store.save(golden(spec=spec))
    assert [loaded.spec for spec in specs if (loaded := store.load(spec, "toy"))] == specs


@pytest.mark.parametrize(
    ("spec", "slug"),
    [
        (SPEC, "torch.optim-Adam-lr-0.1"),
        ("../../escape", "escape"),
        ("..", ""),
        ("é", ""),
        ("x" * 200, "x" * 60),
    ],
)
def test_the_directory_is_a_readable_slug_and_a_digest(tmp_path: Path, spec: str, slug: str) -> None:
    path = Goldens(tmp_path).path(spec, "toy")
    name, _, digest = path.parent.name.rpartition("-")
    assert name == slug
    assert len(digest) == 8
    assert set(digest) <= set("0123456789abcdef")
    assert (path.parent.parent, path.name) == (tmp_path, "toy.json")


def test_a_golden_is_readable_for_everybody(tmp_path: Path) -> None:
    assert stat.S_IMODE(Goldens(tmp_path).save(golden()).stat().st_mode) == 0o644


def test_saving_again_replaces_the_golden(tmp_path: Path) -> None:
    store = Goldens(tmp_path)
    store.save(golden())
    store.save(golden(loss=0.2))
    assert store.load(SPEC, "toy") == golden(loss=0.2)
    assert only_file(store) == store.path(SPEC, "toy")


def _full_disk(*_args: object, **_keywords: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("broken", ["os.fsync", "os.replace", "pathlib.Path.replace", "pathlib.Path.chmod"])
def test_a_save_that_fails_leaves_the_old_golden_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    store = Goldens(tmp_path)
    before = store.save(golden()).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(broken, _full_disk)
        with pytest.raises(OptcheckError) as caught:
            store.save(golden(loss=0.2))
    path = store.path(SPEC, "toy")
    assert str(caught.value) == f"{path}: cannot be written (OSError: [Errno 28] No space left on device)"
    assert path.read_bytes() == before
    assert store.load(SPEC, "toy") == golden()


def test_the_new_golden_appears_only_when_it_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the moment of fsync the old file is still there, and the new text is complete in another file."""
    store = Goldens(tmp_path)
    path = store.save(golden())
    seen: list[tuple[str, str]] = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        (temporary,) = path.parent.glob(".*.tmp")
        seen.append((path.read_text(encoding="utf-8"), temporary.read_text(encoding="utf-8")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    store.save(golden(loss=0.2))
    assert seen == [(encode(golden()), encode(golden(loss=0.2)))]


def test_a_golden_with_a_nan_does_not_replace_the_old_one(tmp_path: Path) -> None:
    store = Goldens(tmp_path)
    store.save(golden())
    with pytest.raises(OptcheckError, match="not finite"):
        store.save(golden(loss=math.nan))
    assert store.load(SPEC, "toy") == golden()


@pytest.mark.parametrize("loss", [0.2, math.nan])
def test_a_save_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: float) -> None:
    store = Goldens(tmp_path)
    store.save(golden())
    monkeypatch.setattr("os.fsync", _full_disk)
    with pytest.raises(OptcheckError):
        store.save(golden(loss=loss))
    assert only_file(store) == store.path(SPEC, "toy")


def test_a_golden_is_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    """A golden recorded under one locale is read under another."""
    program = (
        "import sys; from pathlib import Path\n"
        "from pytest_optcheck.goldens import Goldens, decode\n"
        "golden = decode(Path(sys.argv[1]).read_text(encoding='utf-8'), Path(sys.argv[1]))\n"
        "Goldens(Path(sys.argv[2])).save(golden)\n"
    )
    source = tmp_path / "source.json"
    source.write_text(encode(golden()), encoding="utf-8")
    curves = tmp_path / "curves"
    done = interpreter.run(program, source, curves, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.stderr == ""
    assert Goldens(curves).load(SPEC, "toy") == golden()


def test_a_directory_that_cannot_be_made_is_named_on_save(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = Goldens(tmp_path / "file" / "curves")
    with pytest.raises(OptcheckError) as caught:
        store.save(golden())
    assert str(caught.value).startswith(f"{store.path(SPEC, 'toy')}: cannot be written (NotADirectoryError: ")


def test_a_golden_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = Goldens(tmp_path / "file")
    with pytest.raises(UnreadableGoldenError) as caught:
        store.load(SPEC, "toy")
    assert str(caught.value).startswith(f"{store.path(SPEC, 'toy')}: cannot be read (NotADirectoryError: ")


def test_a_golden_that_is_no_text_is_named(tmp_path: Path) -> None:
    store = Goldens(tmp_path)
    store.save(golden()).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnreadableGoldenError, match=r"toy\.json: cannot be read \(UnicodeDecodeError: "):
        store.load(SPEC, "toy")


@pytest.mark.parametrize(
    ("swapped", "complaint"),
    [
        (golden(spec="other"), f"key spec is 'other', expected {SPEC!r}"),
        (golden(workload="other"), "key workload.name is 'other', expected 'toy'"),
    ],
)
def test_a_golden_in_the_place_of_another_is_refused(tmp_path: Path, swapped: Golden, complaint: str) -> None:
    store = Goldens(tmp_path)
    path = store.save(golden())
    path.write_text(encode(swapped), encoding="utf-8")
    with pytest.raises(UnreadableGoldenError) as caught:
        store.load(SPEC, "toy")
    assert str(caught.value) == f"{path}: {complaint}; {MEND}"


def test_a_stored_golden_of_an_older_schema_is_none_but_exists(tmp_path: Path) -> None:
    store = Goldens(tmp_path)
    path = store.save(golden())
    path.write_text(altered("schema", value=SCHEMA - 1), encoding="utf-8")
    assert store.load(SPEC, "toy") is None
    assert path.exists()


def test_checking_makes_the_directory_and_leaves_it_empty(tmp_path: Path) -> None:
    root = tmp_path / "a" / "b"
    Goldens(root).check_writable()
    assert list(root.iterdir()) == []


def test_a_directory_that_cannot_be_written_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    root = tmp_path / "file" / "curves"
    with pytest.raises(OptcheckError) as caught:
        Goldens(root).check_writable()
    line = str(caught.value)
    assert line.startswith(f"curve directory {root} cannot be written (NotADirectoryError: ")
    assert line.endswith("choose another with --optcheck-curves or the ini setting optcheck_curves")


def test_only_temporary_files_older_than_an_hour_are_cleared(tmp_path: Path) -> None:
    store = Goldens(tmp_path)
    kept = store.save(golden())
    ages = {".old.tmp": ABANDONED_S + 60, ".young.tmp": ABANDONED_S - 60, "old.json": 10 * ABANDONED_S}
    for name, age_s in ages.items():
        path = kept.with_name(name)
        path.touch()
        os.utime(path, (time.time() - age_s,) * 2)
    os.utime(kept, (0.0, 0.0))
    store.check_writable()
    assert {path.name for path in kept.parent.iterdir()} == {".young.tmp", "old.json", "toy.json"}


def test_a_temporary_file_that_vanishes_meanwhile_is_no_error(tmp_path: Path) -> None:
    store = Goldens(tmp_path)
    vanished = store.save(golden()).with_name(".vanished.tmp")
    vanished.symlink_to(tmp_path / "nowhere")
    store.check_writable()
    assert vanished.is_symlink()


def test_the_store_imports_neither_torch_nor_pytest() -> None:
    assert interpreter.imported("pytest_optcheck.goldens", "torch", "pytest") == []
