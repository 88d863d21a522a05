"""The store of goldens: one JSON file for one optimizer on one reference model.

Any process may read it, one process writes; a file is replaced whole or not at all. Imports neither torch nor pytest.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_optcheck.errors import OptcheckError, one_line
from pytest_optcheck.format import MEND, UnreadableGoldenError, decode, encode

if TYPE_CHECKING:
    from pytest_optcheck.format import Golden

ABANDONED_S = 3600
"""Age at which a temporary file cannot belong to a recording that still runs."""

_decoded = functools.lru_cache(maxsize=1024)(decode)
"""Collection looks at every golden, then each of its cases does: decoding takes longer than reading the file."""


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
                    raise UnreadableGoldenError(f"{path}: key {key} is {found!r}, expected {expected!r}; {MEND}")
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
