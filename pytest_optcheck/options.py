"""Options and ini settings, read one by one; what is wrong with one is said before anything runs."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_optcheck import judge, workloads
from pytest_optcheck.cases import COUNTS, TIMING
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.specs import parse
from pytest_optcheck.targets import known_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pytest

PROFILES = ("quick", "default", "full")
"""How much is checked: little on two models, all that is cheap, everything."""


def path(config: pytest.Config, name: str) -> Path:
    """A path by option, meant from where pytest was started, or by ini setting, meant from where that lies."""
    written = getattr(config.option, name)
    if written:
        return Path(config.invocation_params.dir, written)
    return Path(config.inipath.parent if config.inipath else config.rootpath, config.getini(name))


def known_workloads(config: pytest.Config) -> dict[str, str]:
    """Every reference model by name, those of the hook among them."""
    known = dict(workloads.BUILTIN)
    for added in config.hook.pytest_optcheck_workloads(config=config):
        for name, target in added.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in known:
                raise OptcheckError(f"workload name {name!r}: expected a new one of lower-case letters, digits and _")
            if not re.fullmatch(r"[\w.]+:\w+", target):
                raise OptcheckError(f"workload {name!r}: {target!r} is not of the form module:Class")
            known[name] = target
    return known


def hooked_specs(config: pytest.Config) -> list[str]:
    """Lines like those of the ini setting, from the hook."""
    return [line for added in config.hook.pytest_optcheck_specs(config=config) for line in added]


def profile(name: str) -> str:
    """One of `PROFILES`."""
    if name not in PROFILES:
        raise OptcheckError(f"optcheck profile {name!r}: expected {', '.join(PROFILES)}")
    return name


def variants(lines: Sequence[str]) -> tuple[str, ...]:
    """``auto``, ``none``, or settings that are checked to be readable."""
    listed = tuple(line for line in lines if line not in ("auto", "none"))
    for line in listed:
        parse(f"variant:of({line})")
    return listed or tuple(lines[:1]) or ("auto",)


def modules(config: pytest.Config) -> tuple[str, ...]:
    """Modules to be searched for optimizers."""
    named = tuple(dict.fromkeys(config.option.optcheck_discover or config.getini("optcheck_discover")))
    for name in named:
        if not all(part.isidentifier() for part in name.split(".")):
            raise OptcheckError(f"optcheck_discover: {name!r} is no module name; expected one as torch.optim")
    return named


def aspects(names: Sequence[str]) -> tuple[str, ...]:
    """What is asked of a step beside what it computes."""
    if names == ["none"]:
        return ()
    for name in names:
        if name not in (COUNTS, TIMING):
            raise OptcheckError(f"optcheck_cost: {name!r} is unknown; expected {COUNTS}, {TIMING}, both or none")
    return tuple(names)


def ensembles(names: Sequence[str], known: Mapping[str, str]) -> tuple[str, ...]:
    """The reference models on which runs over many seeds are kept."""
    return () if list(names) == ["none"] else known_names(names, known)


def margin(text: str) -> float:
    """The relative difference that is none."""
    with contextlib.suppress(ValueError):
        if 0.0 < float(text) < 1.0:
            return float(text)
    raise OptcheckError(f"optcheck_margin: {text!r} is no share; expected a number between 0 and 1, as 0.01 for 1 %")


def base(config: pytest.Config) -> str:
    """What the code is compared with, if it can be found."""
    asked: str = config.option.optcheck_base or ""
    if asked:
        from pytest_optcheck.cost import revisions

        if config.option.optcheck_update:
            raise OptcheckError("--optcheck-base compares and --optcheck-update records: give one of them")
        revisions.find(asked, config.rootpath, Path.cwd())
    return asked


def selftest(config: pytest.Config) -> bool:
    """Whether optimizers are broken; what is broken is neither recorded nor compared with other code."""
    option = config.option
    for name, given in {"update": option.optcheck_update, "base": option.optcheck_base}.items():
        if option.optcheck_selftest and given:
            raise OptcheckError(
                f"--optcheck-selftest breaks optimizers to see whether their goldens notice, and --optcheck-{name} "
                "does something else: give one of them"
            )
    return bool(option.optcheck_selftest)


def report(config: pytest.Config) -> Path | None:
    """The file for the figures of the run, by option or ini setting."""
    written = config.option.optcheck_report or config.getini("optcheck_report")
    if not written:
        return None
    if not written.endswith(".json"):
        raise OptcheckError(f"optcheck report {written!r}: expected a file name that ends in .json")
    return path(config, "optcheck_report")


def verdicts(names: Iterable[str]) -> frozenset[str]:
    """Who lets a change pass lets one for the better pass."""
    allowed = frozenset(names)
    known = [kind for kind in judge.KINDS if kind not in judge.PASSING]
    unknown = allowed - set(known)
    if unknown:
        raise OptcheckError(f"unknown verdict {min(unknown)!r} to allow; known are {', '.join(known)}")
    return allowed | {"improved"} if "changed" in allowed else allowed
