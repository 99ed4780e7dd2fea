import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.metrics import Mean, accuracy, confusion_matrix, correct, log_loss, masked_sum


def test_masked_sums_leave_out_what_is_masked_even_nan():
    values = jnp.array([1.0, 2.0, jnp.nan, 4.0])
    total, count = masked_sum(values, jnp.array([True, False, False, True]))
    assert (float(total), float(count)) == (5.0, 2.0)
    total, count = masked_sum(values[:2])
    assert (float(total), float(count)) == (3.0, 2.0)


def test_a_mask_of_examples_counts_each_of_an_examples_values():
    values = jnp.array([[1.0, 2.0], [jnp.nan, 4.0], [8.0, 16.0]])
    total, count = masked_sum(values, jnp.array([True, False, True]))
    assert (float(total), float(count)) == (27.0, 4.0)
    square = masked_sum(values[::2], jnp.array([False, True]))
    assert tuple(map(float, square)) == (24.0, 2.0)
    each = masked_sum(values, jnp.array([[True, False], [False, True], [False, True]]))
    assert tuple(map(float, each)) == (21.0, 3.0)


def test_half_precision_values_are_summed_in_float32():
    total, count = masked_sum(jnp.ones(1000, jnp.bfloat16))
    assert total.dtype == count.dtype == jnp.float32
    assert (float(total), float(count)) == (1000.0, 1000.0)


@pytest.mark.parametrize("batch", [1, 3, 8, 10, 64])
def test_the_mean_does_not_depend_on_the_batch_size(batch):
    values = np.arange(10, dtype=np.float32) ** 2
    mean, padding = Mean(), -len(values) % batch
    padded = np.append(values, np.full(padding, 1e6, np.float32))
    mask = np.arange(len(padded)) < len(values)
    for start in range(0, len(padded), batch):
        rows = slice(start, start + batch)
        mean.update({"square": masked_sum(jnp.asarray(padded[rows]), jnp.asarray(mask[rows]))})
    assert mean.result() == {"square": 28.5}


def test_the_mean_weighs_by_count_and_sums_stacked_axes():
    mean = Mean()
    mean.update({"loss": (jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.full((2, 2), 5.0))})
    mean.update({"loss": (jnp.float32(0.5), jnp.float32(1.0)), "other": (1.0, 4.0)})
    assert mean.result() == {"loss": 10.5 / 21, "other": 0.25}


def test_the_mean_is_added_up_in_float64():
    mean = Mean()
    mean.update({"x": (jnp.float32(2**24), jnp.float32(1))})
    mean.update({"x": (jnp.float32(1), jnp.float32(0))})
    assert mean.result() == {"x": 2**24 + 1}


def test_nothing_counted_is_zero_and_no_error():
    mean = Mean()
    mean.update({"x": masked_sum(jnp.ones(3), jnp.zeros(3, bool))})
    assert mean.result() == {"x": 0.0}
    assert Mean().result() == {}


def test_correct_takes_labels_and_probabilities():
    logits = jnp.array([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 0.0, 1.0]])
    by_index = jax.jit(correct)(logits, jnp.array([1, 2, 2], jnp.int32))
    by_mixture = correct(logits, jnp.array([[0.3, 0.6, 0.1], [0.1, 0.1, 0.8], [0.0, 0.4, 0.6]]))
    np.testing.assert_array_equal(by_index, [1, 0, 1])
    np.testing.assert_array_equal(by_mixture, [1, 0, 1])


def test_the_confusion_matrix_counts_by_true_then_predicted_class():
    labels, predicted = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 1, 1, 1, 0, 2])
    expected = [[1, 2, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(confusion_matrix(predicted, labels, 4), expected)


def test_log_loss_and_accuracy_of_probabilities():
    probabilities = np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.0, 1.0, 0.0]])
    labels = np.array([0, 1, 1], np.int32)
    assert log_loss(probabilities, labels) == pytest.approx((np.log(2) + np.log(5)) / 3)
    assert accuracy(probabilities, labels) == pytest.approx(2 / 3)
    # One certain mistake costs -log of what is clipped at, and not infinity.
    wrong = np.array([0, 1, 2], np.int32)
    expected = (np.log(2) + np.log(5) + 15 * np.log(10)) / 3
    assert log_loss(probabilities, wrong) == pytest.approx(expected)
    assert log_loss(probabilities, wrong, epsilon=0.5) == pytest.approx(np.log(2))


def test_labels_of_other_examples_are_not_matched_up():
    with pytest.raises((IndexError, ValueError)):
        log_loss(np.full((3, 2), 0.5), np.array([0, 1]))
