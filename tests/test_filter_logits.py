"""Which tokens the filters leave, on logits whose shares are known."""

import jax.numpy as jnp
import numpy as np

from jaxlessons.generate import filter_logits


def kept(logits, **options):
    return np.flatnonzero(np.isfinite(filter_logits(logits, **options))).tolist()


def test_exactly_k_are_left_and_of_equals_the_first():
    ties = jnp.array([1.0, 2.0, 1.0, 2.0, 1.0])
    assert [kept(ties, top_k=k) for k in (1, 2, 3, 4)] == [[1], [1, 3], [0, 1, 3], [0, 1, 2, 3]]


def test_the_nucleus_is_the_smallest_set_that_reaches_p():
    """Of 0.1, 0.4, 0.2, 0.25 and 0.05; the two likeliest are 0.62 and 0.38 of their sum."""
    logits = jnp.log(jnp.array([0.1, 0.4, 0.2, 0.25, 0.05]))
    sets = [[1], [1, 3], [1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3, 4]]
    assert [kept(logits, top_p=p) for p in (0.39, 0.6, 0.8, 0.9, 0.96)] == sets
    assert kept(logits, top_k=2, top_p=0.6) == [1]
    even = jnp.zeros(5)
    assert [kept(even, top_p=p) for p in (0.1, 0.3, 0.5, 0.9)] == [[0], [0, 1], [0, 1, 2], sets[4]]


def test_a_nucleus_of_all_keeps_the_rarest_tokens_too():
    steep = jnp.array([-30.0, 0.0, -30.0, -40.0, -30.0])
    assert kept(steep, top_p=1.0) == [0, 1, 2, 3, 4]
    assert kept(steep, top_p=0.9999) == [1]


def test_large_logits_and_low_temperatures_do_not_overflow():
    found = filter_logits(jnp.array([3e38, -1e38, 3e38, 1e38, 0]), 1e-37, top_k=3, top_p=0.9)
    np.testing.assert_array_equal(found, [0, -np.inf, 0, -np.inf, -np.inf])


def test_masked_tokens_and_half_precision_are_served():
    found = filter_logits(jnp.array([1, -jnp.inf, 3, 2, 0], jnp.bfloat16), 0.5, top_k=2)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, [-np.inf, -np.inf, 0, -2, -np.inf])
