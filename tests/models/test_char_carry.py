"""What the carry of the stateful model promises, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from char_networks import CELLS, SIZES, TOKENS, draw, numpy_apply, quick

from jaxlessons.models.char import StatefulCharRNN


@pytest.mark.parametrize("cell", CELLS)
def test_two_halves_with_the_carry_between_them_are_the_whole(cell):
    model = StatefulCharRNN(**SIZES, cell=cell, layers=2)
    params = draw(model)
    whole, end = numpy_apply(model, params, TOKENS)
    first, carry = numpy_apply(model, params, TOKENS[:, :4])
    second, last = numpy_apply(model, params, TOKENS[:, 4:], carry)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-6)
    for a, b in zip(jax.tree.leaves(last), jax.tree.leaves(end), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    # It is the carry that does it.
    anew, _ = numpy_apply(model, params, TOKENS[:, 4:])
    assert np.abs(anew - second).max() > 0.01


def loss(model, params, tokens, carry=None):
    """(sum of -log p of each next token, the carry)."""
    logits, carry = model.apply({"params": params}, tokens[:, :-1], carry)
    each = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, 1:, None], axis=-1)
    return -jnp.sum(each), carry


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_the_gradient_stops_at_the_chunks_bound(cell):
    model = StatefulCharRNN(**SIZES, cell=cell)
    params = draw(model)
    first, second = TOKENS[:, :5], TOKENS[:, 4:]

    def two_chunks(params):
        before, carry = loss(model, params, first)
        return before + loss(model, params, second, carry)[0]

    def with_a_constant(params, carry):
        return loss(model, params, first)[0] + loss(model, params, second, carry)[0]

    def in_one(params):
        return loss(model, params, TOKENS)[0]

    @quick
    def gradients(params, carry):
        both = jax.grad(with_a_constant, (0, 1))(params, carry)
        return jax.grad(two_chunks)(params), *both, jax.grad(in_one)(params)

    _, constant = numpy_apply(model, params, first[:, :-1])
    made = gradients(params, constant)
    found, expected, into_carry, full = jax.tree.map(np.asarray, made)
    differ = 0.0
    for a, b, c in zip(*map(jax.tree.leaves, (found, expected, full)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        differ = max(differ, float(np.abs(a - c).max()))
    assert differ > 0.01
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(into_carry))
