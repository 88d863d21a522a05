"""A copy of the sample project, and how tests run pytest on it."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_optcheck import workloads

if TYPE_CHECKING:
    import pytest

FORGETS = """
    def load_state_dict(self, state_dict):
        super().load_state_dict({**state_dict, "state": {}})
"""
"""A mistake to plant at the end of ``toy.py``: ``Momentum`` loses its velocity in a load."""

SAMPLE = Path(__file__).parents[2] / "fixtures" / "sample_project"


class Project:
    """A copy of the sample project and pytest runs on it."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.root = pytester.path
        shutil.copytree(SAMPLE, self.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*"))

    def run(self, *arguments: str) -> pytest.RunResult:
        """Pytest in this process."""
        workloads._instances.pop("bowl:Bowl", None)  # noqa: SLF001 - the file may have been edited since the last run
        return self.pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)

    def run_apart(self, *arguments: str) -> pytest.RunResult:
        """Pytest in a process of its own."""
        return self.pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments)

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace `old`, which must be there, by `new`."""
        path = self.root / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    def configure(self, optimizers: str) -> None:
        """Set the list of optimizers, as TOML."""
        self.set("optimizers", optimizers)

    def set(self, name: str, value: str | None) -> None:
        """Set ``optcheck_<name>`` to `value`, as TOML; None takes its line out."""
        path = self.root / "pyproject.toml"
        key = f"optcheck_{name} ="
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(key)]
        if value is not None:
            lines.append(f"{key} {value}")
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def append(self, file: str, text: str) -> None:
        """Add `text` to the end of a file."""
        with (self.root / file).open("a", encoding="utf-8") as stream:
            stream.write(text)

    def obey(self, result: pytest.RunResult, order: str) -> pytest.RunResult:
        """Run the last command that `result` printed as ``order: pytest …``."""
        lines = [line.partition("pytest ")[2] for line in result.outlines if line.strip().startswith(f"{order}:")]
        return self.run(*shlex.split(lines[-1]))

    def collected(self, *arguments: str) -> list[str]:
        """What is in the brackets of every item of the suite, and of every marked test."""
        lines = self.run("--optcheck", "--collect-only", "-q", *arguments).outlines
        return [line.partition("optcheck::")[2] or line for line in lines if "::" in line]

    def goldens(self) -> dict[str, str]:
        """Text of every golden, by path below the curve directory."""
        curves = self.root / "reference_curves"
        return {str(p.relative_to(curves)): p.read_text(encoding="utf-8") for p in sorted(curves.rglob("*.json"))}

    def stored(self, part: str) -> dict[str, Any]:
        """What is in the one golden whose directory contains `part`."""
        found: dict[str, Any] = json.loads(self.golden(part).read_text(encoding="utf-8"))
        return found

    def golden(self, part: str) -> Path:
        """The one golden whose directory contains `part`."""
        found = [path for path in (self.root / "reference_curves").rglob("*.json") if part in path.parent.name]
        assert len(found) == 1
        return found[0]
