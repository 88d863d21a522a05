"""Targets: the optimizers to check, each on the reference models it is meant for, as the user wrote or narrowed them.

Imports neither torch nor NumPy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_optcheck import routes
from pytest_optcheck.cases import COUNTS, TIMING
from pytest_optcheck.curves import DTYPES
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.specs import TextSpec, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

BENCH = ("zoo", "mlp")
"""The reference models of the profile ``quick``; resume and foreach are checked on both in ``default`` too."""


@dataclass(frozen=True, slots=True)
class Target:
    """One optimizer and the reference models it is checked on.

    Attributes:
        spec: the optimizer.
        workloads: names, as the user wrote them.
        discovered: the module it was found in; empty where it is configured by name.
        among: the models it is checked on where no option narrows them; what is recorded on one of them must not
            depend on which were asked for.
        varied: whether its signature yields variants: the first of a class does, the others would yield the same.
        routes: those it is narrowed to, dtypes of the plain one among them; empty for no narrowing.
    """

    spec: TextSpec
    workloads: tuple[str, ...]
    discovered: str = ""
    among: tuple[str, ...] = ()
    varied: bool = True
    routes: tuple[str, ...] = ()


def known_names(asked: Iterable[str], known: Iterable[str], what: str = "workload") -> tuple[str, ...]:
    """`asked` without repetitions, every one of them known.

    Args:
        asked: names.
        known: those that there are, in the order in which they are told.
        what: they are names of.

    Raises:
        OptcheckError: one is not.
    """
    names = tuple(dict.fromkeys(asked))
    known = tuple(known)
    for name in names:
        if name not in known:
            raise OptcheckError(f"unknown {what} {name!r}; known are {', '.join(known)}")
    return names


def known_routes(asked: Iterable[str]) -> tuple[str, ...]:
    """The same of routes, dtypes of the plain one and aspects of a step."""
    return known_names(asked, (*DTYPES, *routes.NAMES, COUNTS, TIMING), "route")


def read_target(line: str, default: tuple[str, ...], usual: tuple[str, ...], known: Mapping[str, str]) -> Target:
    """``SPEC``, ``SPEC @ workload, workload`` or ``SPEC @ workload, workload [route, route]``."""
    written = re.fullmatch(r"(.*\S)\s+@\s+([\w\s,]+)(?:\[([\w\s,]+)\])?", line.strip())
    if written is None:
        return Target(parse(line), default, among=usual)
    names = known_names(_listed(written[2]), known)
    return Target(parse(written[1]), names, among=names, routes=known_routes(_listed(written[3] or "")))


def _listed(text: str) -> list[str]:
    """Names that commas or spaces separate."""
    return text.replace(",", " ").split()


def chosen(
    asked: Sequence[str],
    configured: Sequence[Target],
    only: tuple[str, ...],
    default: tuple[str, ...],
    usual: tuple[str, ...],
) -> tuple[Target, ...]:
    """The targets that ``--optcheck-optimizer`` and ``--optcheck-workload`` leave, one for each spec."""
    by_text: dict[str, Target] = {}
    for target in configured:
        if target.spec.text in by_text:
            raise OptcheckError(f"optimizer {target.spec.text} is configured twice; give all its workloads after one @")
        by_text[target.spec.text] = target
    first: dict[str, str] = {}
    for text, target in by_text.items():
        leads = not target.spec.schedulers and first.setdefault(target.spec.address, text) == text
        by_text[text] = replace(target, varied=leads)
    configured = tuple(by_text.values())
    if asked:
        specs = dict.fromkeys(parse(text) for text in asked)
        named = (Target(spec, default, among=usual, varied=spec.address not in first) for spec in specs)
        found = [by_text.get(target.spec.text, target) for target in named]
        return tuple(replace(target, workloads=only or target.workloads) for target in found)
    if only:
        narrowed = (replace(t, workloads=tuple(n for n in t.workloads if n in only)) for t in configured)
        return tuple(target for target in narrowed if target.workloads)
    return configured


def quick(target: Target) -> Target:
    """On the two models of the profile ``quick``, or on the first of its own where it has none of them."""
    kept = tuple(name for name in target.workloads if name in BENCH)
    kept = kept or target.workloads[:1]
    return replace(target, workloads=kept, among=kept)
