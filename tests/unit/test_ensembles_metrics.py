from __future__ import annotations

import numpy as np
import pytest

from pytest_optcheck.ensembles.metrics import classified

ONE_HOT = np.eye(3)


def test_two_classes_are_judged_by_the_second() -> None:
    """Of the three of class 1 two are found, and one of class 0 is taken for it."""
    logits = np.array([2.0, 1.0, -1.0, 0.5, -0.5, -3.0])
    classes = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    assert classified(logits, classes) == {
        "accuracy": pytest.approx(4 / 6),
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(2 * 2 / (3 + 3)),
        "roc_auc": pytest.approx(7 / 9),  # of nine pairs -1 loses against 0.5 and against -0.5
    }


def test_several_classes_are_judged_each_against_the_others() -> None:
    logits = ONE_HOT[[0, 0, 1, 1, 2]]  # the second of class 1 is taken for class 0
    classes = np.array([0, 1, 1, 1, 2])
    assert classified(logits, classes) == {
        "accuracy": pytest.approx(4 / 5),
        "recall": pytest.approx((1 + 2 / 3 + 1) / 3),
        "f1": pytest.approx((2 / 3 + 4 / 5 + 1) / 3),
        "roc_auc": pytest.approx((7 / 8 + 5 / 6 + 1) / 3),
    }


def test_a_class_that_does_not_occur_is_left_out() -> None:
    assert classified(ONE_HOT[[0, 1]], np.array([0, 1])) == dict.fromkeys(("accuracy", "recall", "f1", "roc_auc"), 1.0)


def test_of_one_class_alone_there_is_no_area() -> None:
    assert classified(np.array([1.0, -1.0]), np.ones(2)) == {
        "accuracy": 0.5,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
    }
    assert classified(np.array([1.0, -1.0]), np.zeros(2)) == {"accuracy": 0.5}


def test_ties_count_half() -> None:
    assert classified(np.zeros(4), np.array([0.0, 1.0, 0.0, 1.0]))["roc_auc"] == 0.5


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_figures_are_those_of_scikit_learn(classes: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.RandomState(classes)
    true = random.randint(0, classes, 200)
    logits = random.standard_normal((200, classes)) + 0.8 * np.eye(classes)[true]
    areas = [metrics.roc_auc_score(true == k, logits[:, k]) for k in range(classes)]
    if classes == 2:
        logits = logits[:, 1] - logits[:, 0]
        areas = [metrics.roc_auc_score(true, logits)]
    predicted = logits > 0 if classes == 2 else logits.argmax(axis=1)
    average = "binary" if classes == 2 else "macro"
    assert classified(logits, true) == {
        "accuracy": pytest.approx(metrics.accuracy_score(true, predicted)),
        "recall": pytest.approx(metrics.recall_score(true, predicted, average=average)),
        "f1": pytest.approx(metrics.f1_score(true, predicted, average=average)),
        "roc_auc": pytest.approx(np.mean(areas)),
    }
