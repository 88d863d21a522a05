"""What an ensemble says of a change, in words: the sentence a reviewer needs, and what was decided on what ground."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_optcheck.convergence import DIVERGENCE, ENDPOINTS, POINTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_optcheck.cases import Result

FIRST = ENDPOINTS[0]
"""The endpoint that is always told."""


def rows(result: Result) -> Iterator[tuple[str, str]]:
    """Labels and texts for a failing message, two for each ensemble that was asked."""
    for workload, answer in result.convergence.items():
        where = "" if workload == result.workload else f"on {workload}: "
        yield "convergence", f"{where}{sentence(answer)}"
        yield "decided", decision(answer)


def told(answer: Mapping[str, Any]) -> dict[str, Any]:
    """All of an answer, its figures and its words."""
    return {**answer, "sentence": sentence(answer), "decision": decision(answer)}


def sentence(answer: Mapping[str, Any]) -> str:
    """``final loss +3.1 % [+2.2, +4.0], 24 paired seeds; held-out accuracy +0.8 points``.

    Args:
        answer: a `convergence.Answer` as plain values.
    """
    effects = answer["effects"]
    first = effects[FIRST.metric]
    parts = ["too few runs come to a good end to compare their losses"]
    if first["pairs"]:
        parts = [f"{_sized(FIRST.words, first)}, {first['pairs']} paired seeds"]
    for endpoint in ENDPOINTS:
        effect = effects[endpoint.metric]
        if endpoint != FIRST and effect["call"] in ("worse", "better"):
            parts.append(_sized(endpoint.words, effect))
    rate = effects[DIVERGENCE]
    if rate["change"]:
        parts.append(f"{rate['change'] * rate['pairs']:+.0f} of {rate['pairs']} runs diverge")
    told, words = next(iter(POINTS.items()))
    if told in answer["points"]:
        parts.append(f"{words} {_signed(answer['points'][told])} points")
    return "; ".join(parts)


def decision(answer: Mapping[str, Any]) -> str:
    """``worse: final loss (p 2e-09); within the margin: …; margin 1 %, confirmed on 16 fresh seeds``."""
    words = {endpoint.metric: endpoint.words for endpoint in ENDPOINTS}
    parts = []
    for call in ("worse", "better", "within the margin", "cannot tell"):
        named = [
            words.get(name, name) + (f" (p {effect['p']:.0e})" if call != "cannot tell" else "")
            for name, effect in answer["effects"].items()
            if effect["call"] == call and effect["pairs"] and (name != DIVERGENCE or effect["change"])
        ]
        if named:
            parts.append(f"{call}: {', '.join(named)}")
    fresh = f", confirmed on {answer['fresh']} fresh seeds" if answer["fresh"] else ""
    return f"{'; '.join(parts)}; margin {100 * answer['margin']:g} %{fresh}"


def _sized(words: str, effect: Mapping[str, Any]) -> str:
    change, low, high = (_signed(effect[key]) for key in ("change", "low", "high"))
    return f"{words} {change} % [{low}, {high}]"


def _signed(share: float) -> str:
    """In percent, with its sign, a true minus."""
    rounded = round(100 * share, 1) + 0.0  # no minus before a zero
    return f"{rounded:+.1f}".replace("-", "\N{MINUS SIGN}")
