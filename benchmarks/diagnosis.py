"""Whether the right mistake is named: what the diagnosis says of the mutants of ``fixtures/bugs``.

Every altered optimizer whose correct rule is a textbook one is observed for a training of ``zoo``, and its textbook
rule is searched for the mistake that explains what it does. What it is to name was written down from the catalogue of
bugs before it was asked. An answer is right if the mistake is named first; more than one is named where they cannot be
told apart by what was observed.

    python benchmarks/diagnosis.py [--only S1,S2] [--json FILE]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fixtures"))

from bugs import bias_correction, eps, update_rule, weight_decay
from bugs.registry import MUTANTS
from bugs.textbook import EXPECTED, NOTHING, rule_of

from benchmarks.figures import add_json_option, finish
from pytest_optcheck import workloads
from pytest_optcheck.conditions import Conditions
from pytest_optcheck.diagnosis import wording
from pytest_optcheck.diagnosis.observing import observe
from pytest_optcheck.diagnosis.ranking import FIT, Explanation, explain, follows
from pytest_optcheck.diagnosis.replaying import rules_of
from pytest_optcheck.oracles.adapter import settings_of

if TYPE_CHECKING:
    from bugs.pairs import Pair, Recipe

    from pytest_optcheck.diagnosis.observing import Observation
    from pytest_optcheck.diagnosis.replaying import Rules

COUNTED = tuple(part.FAMILY for part in (update_rule, bias_correction, eps, weight_decay))
"""The families of mistakes for which a share is asked; the others are shown beside them."""

MODEL = "zoo"


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said of one mutant.

    Attributes:
        pair: the mutant.
        explanation: what the search found.
        said: the same in words.
        seconds: that the search took.
    """

    pair: Pair
    explanation: Explanation
    said: str
    seconds: float

    @property
    def outcome(self) -> str:
        """``right`` where it is named first, ``tied`` where it is named beside it, ``wrong``, or ``unnamed``."""
        named = [candidate.words for candidate in self.explanation.named]
        expected = EXPECTED[self.pair.id]
        if not named:
            return "right" if expected == NOTHING else "unnamed"
        if expected == NOTHING or not any(words.startswith(expected) for words in named):
            return "wrong"
        return "right" if named[0].startswith(expected) else "tied"


def main() -> None:
    """Observe, search, report."""
    options = _options()
    pairs = [pair for pair in MUTANTS if pair.id in EXPECTED and (not options.only or pair.id in options.only)]
    for recipe in {pair.correct.text: pair.correct for pair in pairs}.values():
        observed = _observed(recipe)
        if not follows(observed, _rules(recipe, observed)):
            raise SystemExit(f"{recipe.text} does not follow the rule it is held against")
    answers = [_answer(pair) for pair in pairs]
    counted = [answer for answer in answers if answer.pair.family in COUNTED]
    _report("the four families", counted)
    _report("others", [answer for answer in answers if answer not in counted])
    without = [pair.id for pair in MUTANTS if pair.family in COUNTED and pair.id not in EXPECTED]
    print(f"\nwithout a textbook rule: {', '.join(without)}\n")
    finish(
        _figures(counted) | {f"other_{name}": value for name, value in _figures_of_others(answers).items()},
        options.json,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="ID[,ID]", help="only these mutants")
    add_json_option(parser)
    options = parser.parse_args()
    if unknown := set(options.only or ()) - set(EXPECTED):
        parser.error(f"no mutant {', '.join(sorted(unknown))} of a textbook rule; there are {', '.join(EXPECTED)}")
    return options


def _observed(recipe: Recipe) -> Observation:
    return observe(recipe, workloads.load(workloads.BUILTIN[MODEL]), Conditions())[0]


def _rules(recipe: Recipe, observed: Observation) -> Rules:
    rule = rule_of(recipe)
    groups = 1 + max(track.group for track in observed.tracks)
    return rules_of(rule, list(settings_of(rule)), (), groups, observed.updates)


def _answer(pair: Pair) -> Answer:
    observed = _observed(pair.altered)
    started = time.perf_counter()
    explanation = explain(observed, _rules(pair.correct, observed))
    seconds = time.perf_counter() - started
    answer = Answer(pair, explanation, wording.told(explanation, rule_of(pair.correct)), seconds)
    print(f"  {seconds:4.1f} s  {pair.id:6} {answer.outcome}", file=sys.stderr, flush=True)
    return answer


def _report(title: str, answers: list[Answer]) -> None:
    """Two lines a mutant: what is wrong, and what is said."""
    print(f"\n{title}: {dict(Counter(answer.outcome for answer in answers))}")
    for answer in answers:
        print(f"{answer.pair.id:8}{answer.outcome:9}{answer.pair.wrong}\n{'':17}{answer.said}")


def _figures(answers: list[Answer]) -> dict[str, int | float]:
    outcomes = Counter(answer.outcome for answer in answers)
    fits = [candidate.fit for answer in answers for candidate in answer.explanation.named]
    seconds = [answer.explanation.second for answer in answers if answer.explanation.named]
    return {
        "mutants": len(answers),
        "right_first": outcomes["right"],
        "share": outcomes["right"] / max(len(answers), 1),
        "more_than_one_named": sum(len(answer.explanation.named) > 1 for answer in answers),
        "tied": outcomes["tied"],
        "wrong": outcomes["wrong"],
        "unnamed": outcomes["unnamed"],
        "worst_fit_named": max(fits, default=0.0),
        "nearest_second": min((second.fit for second in seconds if second is not None), default=0.0),
        "named_above_limit": sum(fit > FIT for fit in fits),
        "median_s": statistics.median([answer.seconds for answer in answers] or [0.0]),
        "longest_s": max((answer.seconds for answer in answers), default=0.0),
    }


def _figures_of_others(answers: list[Answer]) -> dict[str, int | float]:
    return _figures([answer for answer in answers if answer.pair.family not in COUNTED])


if __name__ == "__main__":
    main()
