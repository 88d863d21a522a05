"""Where the old code comes from: a revision of the repository, a directory, or a release.

The repository is only read. A linked worktree would have git write into ``.git``, and leave that behind where it is
killed; here all that git writes, the files and the index they are made from, lies in a scratch directory that
borrows the repository's objects. Imports the standard library and msgspec only.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec

from pytest_optcheck.errors import OptcheckError

PIP = "pip:"
RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.!+_-]+")
DIRECTORY = (".", "~", os.sep)
"""What begins with one of these is a directory; all else is a revision, so that ``docs`` and ``origin/main`` are."""

SHORT = 10
"""Digits of a commit that a report names."""

TREE, GIT, SITE = "tree", "git", "site"
"""In the scratch directory: the files of a revision, what git needs to make them, the packages that pip installs."""

LARGE_FILES = {"GIT_LFS_SKIP_SMUDGE": "1"}
"""Files that are stored elsewhere stay stored there; an optimizer has none, and fetching them would write."""


class Revision(msgspec.Struct, frozen=True, tag="revision"):
    """A commit of the repository that the tests are in.

    Attributes:
        asked: what the user called it.
        commit: its full name.
        repository: the top directory of the work tree.
        objects: the directory of git's objects.
        object_format: how git names them, ``sha1`` or ``sha256``.
    """

    asked: str
    commit: str
    repository: str
    objects: str
    object_format: str

    @property
    def label(self) -> str:
        """What a report calls it."""
        return f"{self.asked} ({self.commit[:SHORT]})"

    @property
    def home(self) -> str:
        """What a module has to be in, to be other code there."""
        return "the repository"

    def lay_out(self, scratch: Path) -> Path:
        """Put its files into `scratch`; returns their top directory.

        Submodules are empty directories, and files under git-lfs are pointers.

        Raises:
            OptcheckError: git fails.
        """
        tree, git = scratch / TREE, scratch / GIT
        tree.mkdir()
        _git("init", "--quiet", "--bare", "--template=", f"--object-format={self.object_format}", str(git))
        (git / "objects" / "info").mkdir(parents=True, exist_ok=True)
        (git / "objects" / "info" / "alternates").write_text(f"{self.objects}\n", encoding="utf-8")
        _git(f"--git-dir={git}", f"--work-tree={tree}", "read-tree", "--reset", "-u", self.commit)
        return tree


class Directory(msgspec.Struct, frozen=True, tag="directory"):
    """A directory that packages lie in.

    Attributes:
        asked: what the user called it.
        path: its full path.
    """

    asked: str
    path: str

    @property
    def label(self) -> str:
        """What a report calls it."""
        return self.asked

    @property
    def home(self) -> str:
        """What a module has to be in, to be other code there."""
        return self.asked

    def lay_out(self, scratch: Path) -> Path:  # noqa: ARG002 - it is there
        """Returns the directory itself."""
        return Path(self.path)


class Release(msgspec.Struct, frozen=True, tag="release"):
    """A release that pip can install.

    Attributes:
        asked: ``NAME==VERSION``.
    """

    asked: str

    @property
    def label(self) -> str:
        """What a report calls it."""
        return self.asked

    @property
    def home(self) -> str:
        """What a module has to be in, to be other code there."""
        return self.asked

    def lay_out(self, scratch: Path) -> Path:
        """Install it into `scratch`, without what it depends on; returns the directory of its packages.

        Raises:
            OptcheckError: pip fails.
        """
        site = scratch / SITE
        quiet = ("--quiet", "--disable-pip-version-check", "--no-input", "--no-compile")
        command = (sys.executable, "-P", "-m", "pip", "install", "--no-deps", *quiet, "--target", str(site), self.asked)
        done = _run(command, dict(os.environ))
        if done.returncode:
            raise OptcheckError(
                f"pip cannot install {self.asked}: {_words(done)}; install it to a directory by other means, and "
                "give that as --optcheck-base ./DIRECTORY"
            )
        return site


Base = Revision | Directory | Release


def find(asked: str, project: Path, start: Path) -> Base:
    """What ``--optcheck-base`` names; nothing is laid out yet.

    Args:
        asked: a revision, a directory that begins with ``.``, ``/`` or ``~``, or ``pip:NAME==VERSION``.
        project: a directory of the repository that has the revision.
        start: what a relative directory is relative to.

    Raises:
        OptcheckError: there is none.
    """
    if asked.startswith(PIP):
        name = asked.removeprefix(PIP)
        if not RELEASE.fullmatch(name):
            raise OptcheckError(f"--optcheck-base {asked}: expected pip:NAME==VERSION, as pip:some-library==1.2.0")
        return Release(name)
    if asked.startswith(DIRECTORY) or Path(asked).is_absolute():
        path = (start / Path(asked).expanduser()).resolve()
        if not path.is_dir():
            raise OptcheckError(f"--optcheck-base {asked}: there is no directory {path}")
        return Directory(asked, str(path))
    return _revision(asked, project)


def decode(plain: object) -> Base:
    """The inverse of `msgspec.to_builtins`, by which a base travels to another process."""
    found: Base = msgspec.convert(plain, Base)
    return found


def is_ignored(path: Path, repository: Path) -> bool:
    """Whether git is told to ignore a file of the work tree, so that no revision has it."""
    question = ("git", "-c", "core.fsmonitor=false", "-C", str(repository), "check-ignore", "--quiet", "--", str(path))
    done = _run(question, _environment())
    return done.returncode == 0


def _revision(asked: str, project: Path) -> Revision:
    subject = f"--optcheck-base {asked}"
    questions = ("--path-format=absolute", "--show-toplevel", "--git-path", "objects", "--show-object-format")
    where = _asked_git(project, *questions)
    if where.returncode:
        raise OptcheckError(f"{subject}: git finds no work tree at {project} ({_words(where)})")
    option = asked.startswith("-")
    commit = where if option else _asked_git(project, "--verify", "--quiet", f"{asked}^{{commit}}")
    if commit.returncode or option:
        raise OptcheckError(
            f"{subject}: git knows no such revision (git rev-parse --verify {asked}); a shallow clone has to fetch it "
            f"first, and a directory is written ./{asked}"
        )
    repository, objects, object_format = where.stdout.splitlines()
    return Revision(asked, commit.stdout.strip(), repository, objects, object_format)


def _asked_git(project: Path, *questions: str) -> subprocess.CompletedProcess[str]:
    try:
        return _run(("git", "-C", str(project), "rev-parse", *questions), _environment())
    except FileNotFoundError as error:
        raise OptcheckError("--optcheck-base with a revision needs git, and there is no git on the PATH") from error


def _git(*arguments: str) -> None:
    """Run git on a repository of our own.

    Raises:
        OptcheckError: it fails.
    """
    done = _run(("git", *arguments), _environment() | LARGE_FILES)
    if done.returncode:
        raise OptcheckError(f"git cannot lay out the base revision: {_words(done)}")


def _environment() -> dict[str, str]:
    """Of git, without what a git hook sets: an index or a work tree that are not ours to write."""
    kept = ("GIT_CONFIG", "GIT_EXEC_PATH")
    outer = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name.startswith(kept)}
    return {**outer, "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0"}


def _run(command: tuple[str, ...], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - git and pip, without a shell
        command,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        stdin=subprocess.DEVNULL,
    )


def _words(done: subprocess.CompletedProcess[str]) -> str:
    """The last line that a failed command wrote."""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {done.returncode}"
