from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from test_convergence import DIVERGED, member, runs, settled
from test_report import CHANGED, result

from pytest_optcheck.convergence import SEEDS, Answer
from pytest_optcheck.report import effects, message
from pytest_optcheck.report.document import Ending, document

MINUS = "\N{MINUS SIGN}"


def plain(answer: Answer) -> dict[str, Any]:
    return asdict(answer)


def worse() -> Answer:
    new = [member(final_loss=old.metrics["final_loss"], accuracy=0.892) for old in runs(0.02, final_loss=0.031)]
    return settled(new)


def test_a_regression_is_told_in_one_sentence() -> None:
    """Effect, interval, how many pairs, and what it means for who uses the model."""
    told = effects.sentence(plain(worse()))
    assert told == f"final loss +3.1 % [+2.7, +3.5], 24 paired seeds; held-out accuracy {MINUS}0.8 points"


def test_a_gain_has_a_true_minus() -> None:
    told = effects.sentence(plain(settled(runs(0.02, final_loss=-0.1))))
    assert told.startswith(f"final loss {MINUS}10.0 % [{MINUS}10.4, {MINUS}9.6], 24 paired seeds")


def test_other_endpoints_are_told_where_they_got_worse_or_better() -> None:
    told = effects.sentence(plain(settled(runs(0.0, steps_to_target=0.1, area=-0.2))))
    assert told == (
        "final loss +0.0 % [+0.0, +0.0], 24 paired seeds; steps to target +10.0 % [+10.0, +10.0]; "
        f"area under the curve {MINUS}20.0 % [{MINUS}20.0, {MINUS}20.0]; held-out accuracy +0.0 points"
    )


@pytest.mark.parametrize(("ended", "told"), [(2, "+2 of 24 runs diverge"), (SEEDS, "+24 of 24 runs diverge")])
def test_runs_that_diverge_are_counted(ended: int, told: str) -> None:
    answer = settled([DIVERGED] * ended + runs(0.002, final_loss=0.1)[ended:])
    sentence = effects.sentence(plain(answer))
    assert told in sentence
    assert sentence.startswith("too few runs come to a good end" if ended == SEEDS else "final loss +10.0 %")


def test_the_grounds_name_p_margin_and_seeds() -> None:
    told = effects.decision(plain(worse()))
    start, _, rest = told.partition("; ")
    assert start.startswith("worse: final loss (p ")
    assert rest == (
        "within the margin: steps to target (p 0e+00), held-out loss (p 0e+00), area under the curve (p 0e+00); "
        "margin 1 %, confirmed on 16 fresh seeds"
    )


def test_what_was_not_decided_is_said() -> None:
    told = effects.decision(plain(settled(runs(0.8, final_loss=0.03))))
    assert "; cannot tell: final loss; margin" in told
    assert told.endswith("; margin 1 %")


def test_a_failure_shows_what_its_seeds_say_first() -> None:
    found = replace(
        result(replace(CHANGED, kind="regression")), convergence={"digits_cnn": plain(worse()), "mlp": plain(worse())}
    )
    lines = message.failure(found).splitlines()
    assert lines[0] == (
        "REGRESSION: torch.optim:NAdam(lr=0.002) converges worse than what its golden was recorded from"
    )
    assert lines[2].startswith("  convergence:   final loss +3.1 % [")
    assert lines[3].startswith("  decided:       worse: final loss (p ")
    assert lines[4].startswith("  convergence:   on mlp: final loss +3.1 % [")
    assert lines[6].startswith("  first outside: step 2")
    assert lines[-1].startswith("  accept:        pytest --optcheck-update=changed ")


def test_the_report_has_the_figures_and_the_words() -> None:
    found = replace(result(replace(CHANGED, kind="regression")), convergence={"mlp": plain(worse())})
    (case,) = json.loads(document([found], {}, Ending(1.0)))["results"]
    told = case["convergence"]["mlp"]
    assert told["sentence"] == effects.sentence(plain(worse()))
    assert told["decision"] == effects.decision(plain(worse()))
    assert told["effects"]["final_loss"]["call"] == "worse"
    assert told["effects"]["final_loss"]["low"] < told["effects"]["final_loss"]["change"]
    assert told["points"]["accuracy"] == pytest.approx(-0.008)


def test_an_improvement_is_worded_as_good_news() -> None:
    found = message.failure(result(replace(CHANGED, kind="improved")))
    assert found.startswith("IMPROVED: torch.optim:NAdam(lr=0.002) converges better than what its golden")
