"""Padded batches: what `lengths` promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.models.rnn import Recurrent

BATCH, TIME, INPUTS, FEATURES = 3, 5, 3, 4


def formula(name, *shape):
    """As in stored/make_rnn.py."""
    index = np.arange(np.prod(shape), dtype=np.float64)
    return np.sin(index * index + index + sum(map(ord, name))).reshape(shape)


SETTINGS = [("lstm", "scan"), ("gru", "fused"), ("qrnn", "scan"), ("qrnn", "associative")]


@pytest.mark.parametrize(("cell", "backend"), SETTINGS)
def test_padding_has_no_effect_even_where_it_is_nan(cell, backend, case, differentiated):
    layer = Recurrent(cell, FEATURES, bidirectional=True, backend=backend)
    params, x, carry = case(layer, BATCH, TIME, INPUTS)
    lengths = np.array([2, 5, 0])
    padding = np.arange(TIME)[None] >= lengths[:, None]
    found = differentiated(layer, params, np.where(padding[..., None], np.nan, x), carry, lengths)
    expected = differentiated(layer, params, x, carry, lengths)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert all(np.isfinite(value).all() for value in jax.tree.leaves(found))
    assert not np.any(found["outputs"][padding])
    assert not np.any(found["d_x"][padding])
    assert np.all(found["outputs"][~padding] != 0)


@pytest.mark.parametrize(("cell", "backend"), [*SETTINGS, ("mingru", "fused")])
def test_an_empty_sequence_keeps_its_carry_and_passes_its_gradient_on(
    cell, backend, case, differentiated
):
    layer = Recurrent(cell, FEATURES, bidirectional=True, backend=backend)
    params, x, carry = case(layer, BATCH, TIME, INPUTS)
    found = differentiated(layer, params, x, carry, np.array([2, 5, 0]))
    for number, start in enumerate(jax.tree.leaves(carry)):
        last = jax.tree.leaves(found["carry"])[number]
        gradient = jax.tree.leaves(found["d_carry"])[number]
        np.testing.assert_array_equal(last[2], start[2])
        assert not np.allclose(last[0], start[0])
        weights = formula(f"loss{number}", *start.shape)
        np.testing.assert_allclose(gradient[2], weights[2], rtol=1e-6)


def test_under_jit_lengths_are_clipped_to_the_steps(case):
    layer = Recurrent("gru", FEATURES, bidirectional=True)
    params, x, carry = case(layer, BATCH, TIME, INPUTS)
    run = jax.jit(lambda lengths: layer.apply({"params": params}, x, carry, lengths))
    found, expected = run(jnp.array([99, -3, 2])), run(jnp.array([TIME, 0, 2]))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
