"""Settings from command line and ini file, frozen; what is wrong with them is said before anything runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_optcheck import devices, environment, judge, workloads
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.goldens import Goldens
from pytest_optcheck.specs import TextSpec, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pytest

UPDATES: Mapping[str, frozenset[judge.Kind]] = {
    "missing": frozenset({"missing"}),
    "changed": frozenset({"changed", "diverged", "lost"}),
    "stale": frozenset({"stale"}),
    "all": frozenset(judge.KINDS) - {"match"},
}
"""``--optcheck-update`` value -> the verdicts whose goldens it records anew."""


@dataclass(frozen=True, slots=True)
class Target:
    """One configured optimizer and the reference models it is checked on."""

    spec: TextSpec
    workloads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the plugin was asked for.

    Attributes:
        targets: the configured optimizers, in the order they were written.
        known: every reference model by name, as ``module:Class``.
        workloads: names of those that are used where nothing else is said.
        only: names given by option, to which everything is narrowed; empty for no narrowing.
        device: a torch device, as text.
        curves: directory of the goldens.
        update: verdicts whose goldens are recorded anew; empty for a mere check.
        reason: why they are, in the user's words.
        allow: verdicts that warn instead of failing.
        diverging: canonical specs that are declared to leave the finite numbers.
        marked: whether marked tests run; not if one optimizer was asked for by option.
    """

    targets: tuple[Target, ...]
    known: Mapping[str, str]
    workloads: tuple[str, ...]
    only: tuple[str, ...]
    device: str
    curves: Path
    update: frozenset[judge.Kind]
    reason: str
    allow: frozenset[str]
    diverging: frozenset[str]
    marked: bool

    @classmethod
    def from_pytest_config(cls, config: pytest.Config) -> Settings:
        """Read options and ini settings, the former first.

        Raises:
            OptcheckError: a value is unknown, a spec is malformed, or recording is refused here.
        """
        option = config.option
        known = _known_workloads(config)
        only = known_names(option.optcheck_workload or (), known)
        default = known_names(only or config.getini("optcheck_workloads") or known, known)
        lines = [*config.getini("optcheck_optimizers"), *_hooked_specs(config)]
        configured = [_target(line, default, known) for line in lines]
        worker_device = getattr(config, "workerinput", {}).get("optcheck_device")
        curves = option.optcheck_curves
        settings = cls(
            targets=_chosen_targets(option.optcheck_optimizer or (), configured, only, default),
            known=known,
            workloads=default,
            only=only,
            device=worker_device or devices.resolve(option.optcheck_device or config.getini("optcheck_device")),
            curves=Path(config.invocation_params.dir, curves) if curves else _ini_path(config, "optcheck_curves"),
            update=UPDATES[option.optcheck_update] if option.optcheck_update else frozenset(),
            reason=option.optcheck_reason or "",
            allow=_verdicts(option.optcheck_allow or config.getini("optcheck_allow")),
            diverging=frozenset(parse(line).text for line in config.getini("optcheck_diverging")),
            marked=not option.optcheck_optimizer,
        )
        if settings.update and worker_device is None:
            settings.check_may_record(force=option.optcheck_force)
        return settings

    def check_may_record(self, *, force: bool) -> None:
        """Refuse to record under CI unless forced, and where the directory cannot be written.

        Raises:
            OptcheckError: either.
        """
        if environment.in_ci() and not force:
            raise OptcheckError(
                "--optcheck-update is refused under CI (the variable CI is set): a golden is recorded where a human "
                "looks at the change; --optcheck-force overrides"
            )
        Goldens(self.curves).check_writable()


def _ini_path(config: pytest.Config, name: str) -> Path:
    return Path(config.inipath.parent if config.inipath else config.rootpath, config.getini(name))


def _known_workloads(config: pytest.Config) -> dict[str, str]:
    known = dict(workloads.BUILTIN)
    for added in config.hook.pytest_optcheck_workloads(config=config):
        for name, target in added.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in known:
                raise OptcheckError(f"workload name {name!r}: expected a new one of lower-case letters, digits and _")
            if not re.fullmatch(r"[\w.]+:\w+", target):
                raise OptcheckError(f"workload {name!r}: {target!r} is not of the form module:Class")
            known[name] = target
    return known


def _hooked_specs(config: pytest.Config) -> list[str]:
    return [line for added in config.hook.pytest_optcheck_specs(config=config) for line in added]


def known_names(asked: Iterable[str], known: Mapping[str, str]) -> tuple[str, ...]:
    """`asked` without repetitions, every one of them known.

    Raises:
        OptcheckError: one is not.
    """
    names = tuple(dict.fromkeys(asked))
    for name in names:
        if name not in known:
            raise OptcheckError(f"unknown workload {name!r}; known are {', '.join(known)}")
    return names


def _target(line: str, default: tuple[str, ...], known: Mapping[str, str]) -> Target:
    """``SPEC`` or ``SPEC @ workload, workload``."""
    written = re.fullmatch(r"(.*\S)\s+@\s+([\w\s,]+)", line.strip())
    if written is None:
        return Target(parse(line), default)
    return Target(parse(written[1]), known_names(written[2].replace(",", " ").split(), known))


def _chosen_targets(
    asked: Sequence[str], configured: Sequence[Target], only: tuple[str, ...], default: tuple[str, ...]
) -> tuple[Target, ...]:
    """The targets that ``--optcheck-optimizer`` and ``--optcheck-workload`` leave, one for each spec."""
    by_text: dict[str, Target] = {}
    for target in configured:
        if target.spec.text in by_text:
            raise OptcheckError(f"optimizer {target.spec.text} is configured twice; give all its workloads after one @")
        by_text[target.spec.text] = target
    if asked:
        specs = [parse(text) for text in asked]
        return tuple(
            Target(spec, only or (by_text[spec.text].workloads if spec.text in by_text else default))
            for spec in dict.fromkeys(specs)
        )
    if only:
        narrowed = (Target(t.spec, tuple(n for n in t.workloads if n in only)) for t in configured)
        return tuple(target for target in narrowed if target.workloads)
    return tuple(configured)


def _verdicts(names: Iterable[str]) -> frozenset[str]:
    allowed = frozenset(names)
    unknown = allowed - (set(judge.KINDS) - {"match"})
    if unknown:
        raise OptcheckError(f"unknown verdict {min(unknown)!r} to allow; known are {', '.join(judge.KINDS[1:])}")
    return allowed
