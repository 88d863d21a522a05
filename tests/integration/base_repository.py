"""A git repository of the sample project whose last commit made its optimizer slower."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "fixtures" / "base_project"
PATCH = "last_commit.patch"
SPEC = "descent:Adaptive(lr=0.01)"

NEWER = "from descent.adaptive import Adaptive\n\n\nclass Newer(Adaptive):\n    pass\n"
"""A module that is in no revision."""


class Repository:
    """Two commits, something in the stash, something in the index and something in neither."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(PROJECT, root, ignore=shutil.ignore_patterns(PATCH, "__pycache__", ".*"))
        self.git("init", "--quiet")
        self.commit("first")
        self.git("apply", str(PROJECT / PATCH))
        (root / "notes.txt").write_text("for later\n", encoding="utf-8")
        self.git("add", "notes.txt")
        self.git("stash", "push", "--quiet", "notes.txt")
        self.commit("last")
        (root / "staged.txt").write_text("staged\n", encoding="utf-8")
        self.git("add", "staged.txt")
        (root / "src" / "descent" / "newer.py").write_text(NEWER, encoding="utf-8")

    def git(self, *arguments: str) -> str:
        """Run git in it; what it printed."""
        who = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        command = ("git", *who, "-C", str(self.root), *arguments)
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own words

    def commit(self, message: str) -> None:
        """Commit all that is there."""
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", message)

    def fingerprint(self) -> dict[str, str]:
        """Mode and digest of every file, ``.git`` included, by path."""
        return {
            str(path.relative_to(self.root)): f"{path.stat().st_mode:o} {_digest(path)}"
            for path in sorted(self.root.rglob("*"))
        }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "directory"
