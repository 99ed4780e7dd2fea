"""What the metrics of bias and calibration say, against counting by hand and plain loops."""

from fractions import Fraction

import numpy as np
import pytest

from jaxlessons.errors import UserError
from jaxlessons.metrics import (
    accuracy,
    accuracy_by_group,
    balanced_accuracy,
    bias_amplification,
    class_share,
    confusion_matrix,
    expected_calibration_error,
    log_loss,
    reliability,
)

LABELS = np.array([0, 0, 0, 0, 1, 1, 2, 2])
PREDICTED = np.array([0, 0, 0, 1, 0, 1, 0, 0])


def test_shares_of_labels_and_predictions():
    np.testing.assert_array_equal(class_share(LABELS, 4), [0.5, 0.25, 0.25, 0])
    np.testing.assert_array_equal(class_share(PREDICTED, 4), [0.75, 0.25, 0, 0])


def test_each_group_has_its_own_accuracy_and_an_empty_one_none():
    np.testing.assert_array_equal(
        accuracy_by_group(PREDICTED, LABELS, LABELS, 4), [0.75, 0.5, 0, np.nan]
    )
    seen = np.array([1, 1, 1, 1, 0, 0, 0, 1])
    np.testing.assert_array_equal(accuracy_by_group(PREDICTED, LABELS, seen, 2), [1 / 3, 3 / 5])


def test_balanced_accuracy_is_the_mean_of_the_classes_that_occur():
    assert balanced_accuracy(PREDICTED, LABELS, 4) == pytest.approx((0.75 + 0.5 + 0) / 3)
    assert balanced_accuracy(LABELS, LABELS, 4) == 1
    always = np.zeros_like(LABELS)
    assert balanced_accuracy(always, LABELS, 3) == pytest.approx(1 / 3)
    assert balanced_accuracy(always[:2], LABELS[:2], 1) == 1
    # One over the classes that occur, not over all that there are.
    assert balanced_accuracy(always, LABELS, 9) == pytest.approx(1 / 3)


def test_the_cooks_of_the_paper_are_amplified_by_what_it_says():
    # Zhao et al., 2017, figure 1: 67 % of the cooks are women, and 84 % of those predicted.
    assert bias_amplification(np.array([67, 33]), np.array([84, 16])) == pytest.approx(0.17)
    # Men who cook are the rarer ones: that the share of men falls is not counted again.
    assert bias_amplification(np.array([33, 67]), np.array([16, 84])) == pytest.approx(0.17)
    assert bias_amplification(np.array([67, 33]), np.array([60, 40])) == pytest.approx(-0.07)


def test_amplification_is_the_mean_over_rows_and_skips_empty_ones():
    data = np.array([[67, 33], [20, 80], [50, 50], [9, 1], [0, 0]])
    predicted = np.array([[84, 16], [30, 70], [90, 10], [0, 0], [1, 1]])
    # A row that is even in the data leans to no side, so it can't be amplified.
    assert bias_amplification(data, predicted) == pytest.approx((0.17 - 0.10 + 0) / 3)
    assert bias_amplification(data[4:], predicted[4:]) == 0
    tall = data[:2].reshape(1, 2, 2), predicted[:2].reshape(1, 2, 2)
    assert bias_amplification(*tall) == pytest.approx((0.17 - 0.10) / 2)


@pytest.mark.parametrize(
    ("data", "predicted", "expected"),
    [
        ([7, 8, 8, 8, 9], [9, 7, 11, 7, 6], -0.075),
        ([49, 49, 26, 72, 49, 49], [58, 58, 23, 62, 46, 47], -0.034),
        ([49, 49, 49], [40, 60, 47], 0),
    ],
)
def test_a_class_with_an_equal_share_to_the_example_is_not_large(data, predicted, expected):
    total = sum(data)
    exact = sum(
        Fraction(after, sum(predicted)) - Fraction(before, total)
        for before, after in zip(data, predicted, strict=True)
        if before * len(data) > total
    )
    assert float(exact) == pytest.approx(expected, abs=5e-4)
    assert bias_amplification(data, predicted) == pytest.approx(float(exact), abs=1e-12)
    # 49 / 294 is above 1 / 6, if floats are asked.
    for kind in (np.float32, np.float64):
        shares = [(np.array(c) / np.sum(c)).astype(kind) for c in (data, predicted)]
        assert bias_amplification(*shares) == pytest.approx(float(exact), abs=1e-6)


def test_one_example_more_than_an_equal_share_is_large():
    half = 5 * 10**8
    assert bias_amplification([half + 1, half - 1], [2 * half, 0]) == pytest.approx(0.5)


def test_the_large_classes_of_one_row_gain_together():
    data, predicted = class_share(LABELS, 3), class_share(PREDICTED, 3)
    assert bias_amplification(data, predicted) == pytest.approx(0.25)
    assert bias_amplification(data, data) == 0


def test_reliability_puts_each_prediction_into_the_bin_of_its_confidence():
    # Four bins, the edge belongs to the bin below it.
    confident = np.array([0.5, 0.6, 0.75, 0.76, 1.0])
    probabilities = np.stack([confident, 1 - confident], axis=1)
    found = reliability(probabilities, np.array([0, 1, 0, 0, 1]), bins=4)
    np.testing.assert_allclose(found.edges, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_array_equal(found.counts, [0, 1, 2, 2])
    np.testing.assert_allclose(found.confidence, [np.nan, 0.5, 0.675, 0.88])
    np.testing.assert_allclose(found.accuracy, [np.nan, 1, 0.5, 0.5])
    ece = (1 * 0.5 + 2 * 0.175 + 2 * 0.38) / 5
    error = expected_calibration_error(probabilities, np.array([0, 1, 0, 0, 1]), bins=4)
    assert error == pytest.approx(ece)


def test_calibration_error_is_that_of_a_plain_loop():
    random = np.random.RandomState(0)
    logits = random.normal(size=(500, 5)) * 2
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = random.randint(0, 5, 500)
    total = 0.0
    for k in range(15):
        inside = [
            (p.max(), p.argmax() == label)
            for p, label in zip(probabilities, labels, strict=True)
            if k / 15 < p.max() <= (k + 1) / 15
        ]
        if inside:
            confidence, right = np.mean(inside, axis=0)
            total += len(inside) / 500 * abs(right - confidence)
    assert expected_calibration_error(probabilities, labels) == pytest.approx(total)


def test_a_classifier_that_draws_from_its_own_probabilities_is_calibrated():
    random = np.random.RandomState(1)
    probabilities = random.dirichlet(np.ones(3), 40_000)
    labels = (random.rand(40_000, 1) > probabilities.cumsum(1)).sum(1)
    assert expected_calibration_error(probabilities, labels) < 0.015
    sure = np.eye(3)[probabilities.argmax(1)]
    error = expected_calibration_error(sure, labels)
    assert error == pytest.approx(1 - (probabilities.argmax(1) == labels).mean())


def test_one_class_and_rounding_above_one_are_no_trouble():
    ones = np.ones((3, 1), np.float32) * np.float32(1.0000001)
    found = reliability(ones, np.zeros(3, int))
    assert found.counts[-1] == 3
    assert expected_calibration_error(ones, np.zeros(3, int)) == pytest.approx(0, abs=1e-6)


def test_lists_are_as_good_as_arrays():
    predicted, labels = PREDICTED.tolist(), LABELS.tolist()
    random = np.random.RandomState(2)
    probabilities = random.dirichlet(np.ones(3), len(LABELS))
    for measure, arrays, lists in (
        (accuracy, (probabilities, LABELS), (probabilities.tolist(), labels)),
        (log_loss, (probabilities, LABELS), (probabilities.tolist(), labels)),
        (expected_calibration_error, (probabilities, LABELS), (probabilities.tolist(), labels)),
        (confusion_matrix, (PREDICTED, LABELS, 3), (predicted, labels, 3)),
        (balanced_accuracy, (PREDICTED, LABELS, 3), (predicted, labels, 3)),
        (accuracy_by_group, (PREDICTED, LABELS, LABELS > 0, 2), (predicted, labels, labels, 3)),
        (class_share, (LABELS, 3), (labels, 3)),
    ):
        found, expected = measure(*lists), measure(*arrays)
        if measure is accuracy_by_group:
            assert found[0] == expected[0]
        else:
            np.testing.assert_array_equal(found, expected)
    assert bias_amplification([[67, 33]], [[84, 16]]) == pytest.approx(0.17)


TWO = [[0.5, 0.5], [0.1, 0.9]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: accuracy([], []), "probabilities is [0]: it must be [n, classes], none of them"),
        (lambda: accuracy(TWO, [0]), "labels is of 1 examples: the others are of 2."),
        (lambda: accuracy(TWO, [0, 2]), "labels[1] is 2: it must be from 0 to below 2."),
        (lambda: log_loss(TWO, [0, -1]), "labels[1] is -1: it must be from 0 to below 2."),
        (
            lambda: accuracy([[0.5, 0.5], [np.nan, 0.1]], [0, 0]),
            "probabilities[1] holds NaN: the network has diverged; take an earlier checkpoint.",
        ),
        (lambda: reliability([[np.nan, 0.5]], [0]), "probabilities[0] holds NaN: the network"),
        (lambda: expected_calibration_error([[1.0]], [[0]]), "labels is [1, 1]: it must be [n], "),
        (lambda: class_share([], 2), "indices is [0]: it must be [n], of one example or more."),
        (lambda: class_share([0, 5], 2), "indices[1] is 5: it must be from 0 to below 2."),
        (lambda: class_share([0.0], 2), "indices is of type float64: it must be whole numbers."),
        (lambda: confusion_matrix([0, 1], [0, 2], 2), "labels[1] is 2: it must be from 0 to below"),
        (lambda: confusion_matrix([-1], [0], 2), "predicted[0] is -1: it must be from 0 to below"),
        (lambda: balanced_accuracy([0, 1], [1], 2), "predicted is of 2 examples: the others are"),
        (lambda: balanced_accuracy([0], [3], 3), "groups[0] is 3: it must be from 0 to below 3."),
        (
            lambda: bias_amplification([1, 2], [1, 2, 3]),
            "data is [2] and predicted [3]: they must have the same groups.",
        ),
        (lambda: bias_amplification([], []), "data is [0]: it must be [..., groups], none of them"),
        (
            lambda: bias_amplification([1, 2], [1, np.nan]),
            "predicted holds what is neither a count nor a share: all must be 0 or more.",
        ),
    ],
)
def test_what_can_not_be_measured_is_told(call, message):
    with pytest.raises(UserError) as caught:
        call()
    assert str(caught.value).startswith(message)
