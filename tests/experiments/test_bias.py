"""The shares that an experiment prints, and the reliability curve that it draws."""

import json

import numpy as np
import pytest

from experiments import bias
from jaxlessons import metrics

PROBABILITIES = np.array(
    [[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.7, 0.2, 0.1], [0.2, 0.8, 0.0], [0.55, 0.25, 0.2]]
)
LABELS = np.array([0, 0, 0, 1, 1])
CLASSES = ("cook", "a longer name", "nobody")


def test_the_table_has_each_class_by_its_share_and_the_figures():
    found = bias.measure(PROBABILITIES, LABELS, CLASSES)
    assert found["classes"]["cook"] == {"share": 0.6, "predicted": 0.8, "accuracy": 1.0}
    assert found["classes"]["nobody"] == {"share": 0.0, "predicted": 0.0, "accuracy": None}
    assert found["balanced_accuracy"] == 0.75
    # Both classes of more than a third, 60 and 40 %, have all of it together before and after.
    assert found["bias_amplification"] == pytest.approx(0.0)
    error = metrics.expected_calibration_error(PROBABILITIES, LABELS)
    assert found["expected_calibration_error"] == error
    assert bias.table(found).splitlines() == [
        "class          share in the data  predicted  recall",
        "cook                       60.0%      80.0%  100.0%",
        "a longer name              40.0%      20.0%   50.0%",
        "nobody                      0.0%       0.0%       -",
        "Balanced accuracy 75.00%; classes with more than an equal share of the labels get 0.0 "
        f"points more of the predictions; expected calibration error {error:.1%}.",
    ]
    assert found["confusion"] == {
        "cook": {"cook": 3},
        "a longer name": {"cook": 1, "a longer name": 1},
    }
    json.dumps(found, allow_nan=False)


def test_two_of_three_that_become_four_of_five_are_amplified():
    found = bias.measure(PROBABILITIES[:, :2], LABELS, CLASSES[:2])
    assert found["bias_amplification"] == pytest.approx(0.2)
    gain = "; classes with more than an equal share of the labels get 20.0 points more of the pred"
    assert gain in bias.table(found)
    turned = bias.measure(PROBABILITIES[:, 1::-1], LABELS, CLASSES[:2])
    assert turned["bias_amplification"] == pytest.approx(-0.4)
    assert " get 40.0 points less of the predictions; " in bias.table(turned)


@pytest.mark.parametrize(
    ("predicted", "sentence"),
    [
        ([0, 0, 0, 1], "cat is predicted 25.0 points more often than it occurs"),
        ([0, 1, 1, 1], "cat is predicted 25.0 points less often than it occurs"),
        ([1, 0, 1, 0], "cat is predicted 0.0 points more often than it occurs"),
    ],
)
def test_where_the_classes_are_balanced_the_largest_gap_is_told(predicted, sentence):
    found = bias.measure(np.eye(2)[predicted], np.array([0, 0, 1, 1]), ("cat", "dog"))
    assert found["bias_amplification"] is None
    found = json.loads(json.dumps(found))
    assert f"; {sentence}; " in bias.table(found)
