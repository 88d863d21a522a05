"""What is known of a change, as one line of a report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_optcheck.judge import Policy, deviations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_optcheck.curves import Run
    from pytest_optcheck.diagnosis.ranking import Explanation
    from pytest_optcheck.format import Curve
    from pytest_optcheck.oracles.base import Rule

NEAR = 0.1
"""The next best explanation is told if it is off by no more than this share of what the tensors moved."""

AT_MOST = 3
"""So many explanations that fit alike are named."""


def told(explanation: Explanation, rule: Rule) -> str:
    """The mistake that explains the change, or what is left to say where none does."""
    if explanation.first is None:
        return elsewhere(rule)
    if not explanation.named:
        return _unexplained(explanation, rule)
    words = " or ".join(found.words for found in explanation.named[:AT_MOST])
    more = len(explanation.named) - AT_MOST
    words += f" (or {more} more that look the same here)" if more > 0 else ""
    second = explanation.second
    rest = "nothing else comes near"
    if second is not None and second.fit <= NEAR:
        rest = f"next best {second.fit:.0e} ({second.words})"
    fit = explanation.named[0].fit
    return f"{words}: explains the change {f'to {fit:.0e}' if fit else 'exactly'}; {rest}"


def elsewhere(rule: Rule) -> str:
    """Of an optimizer whose every step is right, and which is elsewhere all the same."""
    return (
        f"on the gradients it gets it takes the steps of {type(rule).__name__}: others are the gradients (not cleared, "
        "or written into), or what happens to the parameters between two steps"
    )


def renewed(rule: Rule) -> str:
    """Of an optimizer that follows its rule with the settings of now, which its golden does not."""
    settings = ", ".join(f"{name}={value!r}" for name, value in vars(rule).items())
    return f"it is {type(rule).__name__} with the settings of now ({settings}): a setting or a default was changed"


def narrow() -> str:
    """Of a change that only the narrower dtype shows."""
    return "in float64 it computes what it did: the change is one of float32 alone"


def norms(run: Run, curve: Curve, starts: Mapping[str, float]) -> str:
    """Where no rule was run beside it: the first tensor, and by how much its norm changes, then and now.

    A golden keeps norms and no directions, so there is no angle to tell; and only of a tensor that starts at zero does
    the norm say how far it has moved.

    Args:
        run: what was observed.
        curve: what the golden holds of it.
        starts: norms of the parameters before the first update.
    """
    policy = Policy()
    outside = [
        found
        for found in deviations(run, curve)
        if found.tensor is not None
        and found.relative is not None
        and not found.relative <= policy.tolerance(found.point.envelope, run.dtype)
    ]
    if not outside:
        return ""
    first = min(outside, key=lambda found: found.point.step)
    name, step = str(first.tensor), first.point.step
    start, now = starts.get(name, math.nan), run.norms[name][step]
    then = first.point.value - start
    ratio = (now - start) / then if then else math.nan
    if not math.isfinite(ratio):
        return f"seen from its norms alone: tensor {name} is elsewhere after update {step}"
    what = "it has moved {:.4g} times as far as it had" if not start else "its norm has changed {:.4g} times as much"
    return f"seen from its norms alone: tensor {name} after update {step}: {what.format(ratio)}"


def _unexplained(explanation: Explanation, rule: Rule) -> str:
    first = explanation.first
    best = explanation.second
    said = "no textbook mistake explains it"
    if explanation.unaltered <= NEAR:
        said += f"; without one the rule is off by {explanation.unaltered:.0e}"
    if best is not None and best.fit <= NEAR:
        said += f" (best: {best.words}, {best.fit:.0e})"
    if first is None:
        return said
    said += f"; update {first.update} of {first.tensor} is the first that is not {type(rule).__name__}'s"
    if math.isfinite(first.ratio):
        said += f", {first.ratio:.4g} times as long"
    if math.isfinite(first.angle):
        said += f", at an angle of {first.angle:.3g}°"
    return said
