"""The averages against the plain sums they stand for, by step or by weight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.averaging import ema, ema_update, swa, swa_init, swa_update
from jaxlessons.errors import UserError

RANDOM = np.random.RandomState(0)


def random_params():
    """Around 5, so that anything which is a share too much or too little shows."""
    shapes = {"dense": {"kernel": (3, 4), "bias": (4,)}, "scale": ()}
    return jax.tree.map(
        lambda shape: jnp.asarray(5 + RANDOM.standard_normal(shape), jnp.float32),
        shapes,
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )


HISTORY = [random_params() for _ in range(60)]


def weighted_sum(history, weights):
    """In float64, over whole lists of parameters."""
    return jax.tree.map(
        lambda *leaves: np.tensordot(weights, np.stack(leaves).astype(np.float64), 1),
        *history,
    )


def assert_close(average, expected, rtol=1e-6):
    for a, b in zip(jax.tree.leaves(average), jax.tree.leaves(expected), strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, rtol=rtol)


def test_swa_is_the_plain_mean_of_all_that_went_in_and_of_nothing_else():
    average, update = swa_init(jax.tree.map(lambda x: x + 1000, HISTORY[0])), jax.jit(swa_update)
    for n, params in enumerate(HISTORY, 1):
        average = update(average, params)
        assert int(average.count) == n
        assert average.count.dtype == jnp.int32
        # A running mean in float32 is off by a rounding a step at most.
        assert_close(average.params, weighted_sum(HISTORY[:n], [1 / n] * n), rtol=1e-6 + 1e-7 * n)


def test_before_the_first_update_it_holds_its_own_copy_of_the_parameters():
    params = jax.tree.map(jnp.array, HISTORY[3])
    average = swa_init(params)
    for leaf in jax.tree.leaves(params):
        leaf.delete()  # as a step does that donates its state
    assert int(average.count) == 0
    assert_close(average.params, HISTORY[3], rtol=0)


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.9999])
def test_ema_is_the_weighted_mean_without_a_bias_to_the_start(decay):
    average = swa_init(jax.tree.map(jnp.zeros_like, HISTORY[0]))
    update = jax.jit(ema(decay).update)
    for n, params in enumerate(HISTORY, 1):
        average = update(average, params, jnp.int32(n))
        weights = decay ** np.arange(n - 1, -1, -1, dtype=np.float64)
        assert int(average.count) == n
        assert_close(average.params, weighted_sum(HISTORY[:n], weights / weights.sum()), 3e-6)


def test_ema_of_what_never_changes_is_just_that_even_after_very_many_steps():
    average = swa_init(HISTORY[0]).replace(count=jnp.int32(10_000_000))
    assert_close(ema_update(average, HISTORY[0], 0.9999).params, HISTORY[0])
    # By then the weight of the newest is 1 - decay itself.
    moved = ema_update(average, HISTORY[1], 0.9999).params
    assert_close(moved, weighted_sum(HISTORY[:2], [0.9999, 1e-4]))


@pytest.mark.parametrize(
    ("start", "every", "taken"),
    [
        (0, 1, list(range(1, 21))),
        (0, 4, [4, 8, 12, 16, 20]),
        (7, 3, [10, 13, 16, 19]),
        (18, 1, [19, 20]),
        (5, 10, [15]),
        (20, 1, []),
    ],
)
def test_swa_takes_each_step_that_is_due_after_its_start(start, every, taken):
    averager = swa(start, every)
    update = jax.jit(averager.update)
    first = jnp.full([21], 7.0)
    average = averager.init({"w": first})
    for step in range(1, 21):
        # Each step's parameters are 1 at a place of its own.
        average = update(average, {"w": jnp.zeros([21]).at[step].set(1)}, jnp.int32(step))
    assert int(average.count) == len(taken)
    expected = np.zeros(21)
    expected[taken] = 1 / max(1, len(taken))
    np.testing.assert_allclose(average.params["w"], expected if taken else first, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: swa(-1), "swa: start is -1: it must be a step, 0 or more."),
        (lambda: swa(2.5), "swa: start is 2.5: it must be a step, 0 or more."),
        (lambda: swa(True), "swa: start is True: it must be a step, 0 or more."),
        (lambda: swa(0, 0), "swa: every is 0: it must be 1 step or more."),
        (lambda: swa(0, 1.5), "swa: every is 1.5: it must be 1 step or more."),
        (lambda: ema(0), "ema: decay is 0: it must lie between 0 and 1."),
        (lambda: ema(1.0), "ema: decay is 1.0: it must lie between 0 and 1."),
        (lambda: ema(-0.1), "ema: decay is -0.1: it must lie between 0 and 1."),
        (lambda: ema(float("nan")), "ema: decay is nan: it must lie between 0 and 1."),
        (lambda: ema("0.9"), "ema: decay is '0.9': it must lie between 0 and 1."),
    ],
)
def test_settings_without_a_meaning_are_refused(make, message):
    with pytest.raises(UserError) as caught:
        make()
    assert str(caught.value) == message
