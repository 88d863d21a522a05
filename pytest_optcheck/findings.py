"""What a golden tells whoever records or reads it, in words: findings, limits, and what changed since the old one.

Computed from goldens alone: no files, no pytest, no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_optcheck import routes
from pytest_optcheck.curves import BLIND, DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_optcheck.format import Golden
    from pytest_optcheck.judge import Verdict


def findings(golden: Golden) -> Iterator[str]:
    """What a maintainer may not know of the optimizer.

    Departing routes, broken laws, where it is not what the textbook says, arguments that do nothing.
    """
    refused = [name for name, found in golden.routes.items() if found != "same" and found.refused]
    if refused:
        yield f"refuses {', '.join(refused)}"
    for name, found in golden.routes.items():
        if found != "same" and found.curve is not None and name not in routes.OWN_CURVE:
            size = "leaves the finite numbers" if found.deviation is None else f"departs by {found.deviation:.1e}"
            yield f"route {name} {size}"
    broken: dict[str, dict[str, str]] = {}
    for name, laws in golden.broken.items():
        for law, how in laws.items():
            broken.setdefault(law, {})[name] = how
    for law, by_route in broken.items():
        yield f"law {law} is broken on {', '.join(by_route)}: {next(iter(by_route.values()))}"
    if golden.textbook is not None and golden.textbook.departs is not None:
        yield against_textbook(golden)
    if golden.dead:
        yield f"arguments that change nothing: {', '.join(golden.dead)}"


def effect(old: Golden | None, new: Golden, verdict: Verdict) -> str:
    """Old → new, in the figures a reviewer wants: final loss, verdict, first step, limits."""
    dtype = next(iter(new.curves))
    final = new.curves[dtype].losses[-1].value
    parts = [f"final loss {final:.4g}"]
    if old is not None and dtype in old.curves:
        before = old.curves[dtype].losses[-1].value
        parts = [f"final loss {before:.4g} → {final:.4g}"]
    if verdict.kind != "missing":
        parts.append(f"{verdict.kind}: {verdict.note}" if verdict.note else verdict.kind)
    if verdict.first_step is not None:
        parts.append(f"from step {verdict.first_step}")
    if new.textbook is not None and new.textbook.departs is None:
        parts.append(against_textbook(new))
    parts += limits(new)
    return ", ".join(parts)


def against_textbook(golden: Golden) -> str:
    """Whether the curve is that of the textbook rule of its family, and how closely; empty where none was compared."""
    found = golden.textbook
    if found is None:
        return ""
    if found.departs is None:
        text = f"agrees with textbook {found.rule} to {found.deviation:.1e}"
    elif found.deviation is None:
        text = f"departs from textbook {found.rule}, which does not train beyond update {found.departs}"
    else:
        where = f" in {found.tensor}" if found.tensor else ""
        text = f"departs from textbook {found.rule} by {found.deviation:.1e}, from step {found.departs} on{where}"
    if found.options:
        without = "not at all" if found.strict is None else f"to {found.strict:.1e}"
        text += f" (as torch has it: {' '.join(found.options)}; {without} without)"
    return text


def limits(golden: Golden) -> Sequence[str]:
    """What the optimizer needs or cannot do, in a few words each."""
    needs = golden.needs
    found = {
        "steps with a closure": needs.closure,
        "needs sparse gradients": needs.sparse,
        "refuses parameter groups": needs.one_group,
        "takes named parameters": needs.first == "named",
        "takes the module": needs.first == "module",
        "needs differentiable gradients": needs.create_graph,
        "needs gradients before step(closure)": needs.primed or needs.evaluated,
        f"needs {needs.flag} in every group": bool(needs.flag),
        "needs a process group": needs.process_group,
        f"slow: {needs.steps} updates only": bool(needs.steps),
        f"refuses and leaves frozen: {' '.join(needs.frozen)}": bool(needs.frozen),
        "does not repeat itself (stochastic)": golden.stochastic,
        f"accepts no {DTYPES[0]}": DTYPES[0] not in golden.curves,
        "a rounding can make it leave the finite numbers": any(
            point.envelope >= BLIND for curve in golden.curves.values() for point in curve.losses
        ),
        "leaves the finite numbers, as declared": any(c.diverges is not None for c in golden.curves.values()),
    }
    return [text for text, holds in found.items() if holds]
