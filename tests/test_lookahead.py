"""Lookahead against a plain loop in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxlessons import lookahead

RANDOM = np.random.RandomState(0)
MOVES = RANDOM.standard_normal((23, 4))


def test_slow_and_fast_weights_are_those_of_a_plain_loop():
    update = jax.jit(partial(lookahead.update, total_steps=23))
    slow = fast = {"a": jnp.ones(4), "b": {"c": jnp.full(4, 2.0)}}
    slow_a, fast_a = np.ones(4), np.ones(4)
    for t, move in enumerate(MOVES, 1):
        fast = jax.tree.map(lambda leaf, m=move: leaf + jnp.asarray(m, jnp.float32), fast)
        slow, fast = update(slow, fast, jnp.int32(t))
        fast_a = fast_a + move
        if t in (5, 10, 15, 20):
            kept = 0.95**5 * (t / 23) ** 3
            fast_a = slow_a = kept * slow_a + (1 - kept) * fast_a
        np.testing.assert_allclose(fast["a"], fast_a, atol=1e-5)
        np.testing.assert_allclose(slow["a"], slow_a, atol=1e-5)
        np.testing.assert_allclose(slow["b"]["c"], slow["a"] + 1, atol=1e-5)
    assert np.abs(slow_a - fast_a).max() > 0.1  # after 23 steps the result is that of step 20


def test_the_share_grows_with_the_cube_of_training_and_the_interval_may_be_another():
    shares = np.asarray([lookahead.decay(t, 100, every=2) for t in (0, 50, 100)])
    np.testing.assert_allclose(shares, [0, 0.95**2 / 8, 0.95**2], rtol=1e-6)
    slow, fast = lookahead.update(jnp.zeros(1), jnp.ones(1), jnp.int32(2), 2, every=2)
    np.testing.assert_allclose([slow[0], fast[0]], 1 - 0.95**2, rtol=1e-6)
