"""How well a classifier tells what it was not trained on. Imports NumPy, and scipy when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def classified(logits: NDArray[Any], classes: NDArray[Any]) -> dict[str, float]:
    """Accuracy, recall, F1 and area under the receiver operating characteristic, each from 0 to 1.

    Of two classes, recall, F1 and area are those of class 1; of several, means over the classes that occur, each
    against all others.

    Args:
        logits: of class 1 (examples), or of each class (examples × classes).
        classes: true classes (examples), 0 or 1, or from 0 on.
    """
    from scipy.stats.contingency import crosstab  # type: ignore[import-untyped] # at the top every import would pay

    binary = logits.ndim == 1
    predicted = (logits > 0).astype(int) if binary else logits.argmax(axis=1)
    true = classes.astype(int)
    labels = range(2 if binary else logits.shape[1])
    counts = crosstab(true, predicted, levels=(labels, labels)).count
    hits, there, called = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    asked = [k for k in ((1,) if binary else labels) if there[k]]
    found = {"accuracy": hits.sum() / counts.sum()}
    if asked:
        found["recall"] = np.mean([hits[k] / there[k] for k in asked])
        found["f1"] = np.mean([2 * hits[k] / (there[k] + called[k]) for k in asked])
    areas = [_area(logits if binary else logits[:, k], true == k) for k in asked if there[k] < len(true)]
    if areas:
        found["roc_auc"] = np.mean(areas)
    return {name: float(value) for name, value in found.items()}


def _area(logits: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """The share of pairs, one positive and one not, in which the positive has the higher logit; ties count half.

    That is Mann and Whitney's U over the number of pairs (Hanley & McNeil 1982).
    """
    from scipy import stats  # type: ignore[import-untyped] # ditto

    ranked = stats.mannwhitneyu(logits[positive], logits[~positive], method="asymptotic")
    return float(ranked.statistic / (positive.sum() * (~positive).sum()))
