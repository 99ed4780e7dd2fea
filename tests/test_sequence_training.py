"""A step on a text against gradients and updates of the tests' own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from text_setup import (
    BATCH,
    BPTT,
    MODEL,
    PLAIN,
    TOKENS,
    Setup,
    assert_close,
    losses,
    numbers,
    quick,
)

from jaxlessons.sequence_training import Window


@pytest.fixture(scope="module")
def streams():
    return Setup()


@pytest.fixture(scope="module")
def jittered():
    return Setup("jittered", PLAIN)


def cut(starts, length):
    """Inputs and targets `[batch, length]` from these places of TOKENS."""
    inputs = np.stack([TOKENS[s : s + length] for s in starts])
    return inputs, np.stack([TOKENS[s + 1 : s + 1 + length] for s in starts])


def nonzero(carry):
    random = np.random.RandomState(1)
    return jax.tree.map(lambda c: jnp.asarray(random.randn(*c.shape) / 2, jnp.float32), carry)


def by_hand(optimizer, state, objective):
    """params, opt_state and what `objective(params)` says besides, one step on."""

    @quick
    def step(params, opt_state):
        grads, extra = jax.grad(objective, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, extra

    return step(state.params, state.opt_state)


def test_a_step_is_the_gradient_and_the_optimizers_update_on_its_windows(streams):
    starts = np.array([3, 100, 41], np.int32)
    inputs, targets = cut(starts, BPTT)
    state = streams.state()
    state = state.replace(step=jnp.int32(5), carry=nonzero(state.carry))
    rngs = {"dropout": jax.random.fold_in(state.key, 5)}

    def objective(params):
        logits, carry = MODEL.apply({"params": params}, inputs, state.carry, train=True, rngs=rngs)
        each = losses(logits, targets)
        return each.mean(), (carry, each.sum(), (logits.argmax(-1) == targets).sum())

    params, opt_state, (carry, loss, right) = by_hand(streams.optimizer, state, objective)
    before = numbers(state)
    found, sums = streams.step(state, streams.tokens, Window(starts, np.full(3, BPTT, np.int32)))
    assert int(found.step) == 6
    assert_close(numbers(found.params), numbers(params), rtol=1e-5, atol=1e-6)
    assert_close(numbers(found.opt_state), numbers(opt_state), rtol=1e-4, atol=1e-6)
    assert_close(numbers(found.carry), numbers(carry), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(numbers(found.key), before.key)
    np.testing.assert_allclose(sums["loss"], (loss, BATCH * BPTT), rtol=1e-5)
    np.testing.assert_array_equal(sums["accuracy"], (right, BATCH * BPTT))


def test_random_windows_start_from_zeros_and_leave_no_carry():
    setup = Setup("random", PLAIN)
    state = setup.state()
    assert state.carry is None
    starts = np.array([0, 64, 8], np.int32)
    inputs, targets = cut(starts, BPTT)

    def objective(params):
        return losses(PLAIN.apply({"params": params}, inputs)[0], targets).mean(), None

    params, _, _ = by_hand(setup.optimizer, state, objective)
    state, _ = setup.step(state, setup.tokens, Window(starts, np.full(3, BPTT, np.int32)))
    assert state.carry is None
    assert_close(numbers(state.params), numbers(params), rtol=1e-5, atol=1e-6)
    assert setup.fit(state, 4, steps_per_call=1).carry is None


def test_shorter_windows_count_as_if_each_had_been_gathered_at_its_length(jittered):
    setup = jittered
    starts, lengths = np.array([150, 7, 190], np.int32), np.array([5, 18, 5], np.int32)
    state = setup.state()
    state = state.replace(carry=nonzero(state.carry))

    def objective(params):
        total, right, carries = 0.0, 0, []
        for lane, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            inputs, targets = cut([start], length)
            own = jax.tree.map(lambda c, i=lane: c[i : i + 1], state.carry)
            logits, carry = PLAIN.apply({"params": params}, inputs, own)
            total += losses(logits, targets).sum()
            right += (logits.argmax(-1) == targets).sum()
            carries.append(carry)
        carry = jax.tree.map(lambda *lanes: jnp.concatenate(lanes), *carries)
        return total / lengths.sum(), (carry, total, right)

    params, _, (carry, loss, right) = by_hand(setup.optimizer, state, objective)
    state, sums = setup.step(state, setup.tokens, Window(starts, lengths))
    np.testing.assert_allclose(sums["loss"], (loss, lengths.sum()), rtol=1e-5)
    np.testing.assert_array_equal(sums["accuracy"], (right, lengths.sum()))
    assert_close(numbers(state.carry), numbers(carry), rtol=1e-5, atol=1e-6)
    assert_close(numbers(state.params), numbers(params), rtol=1e-5, atol=1e-6)
