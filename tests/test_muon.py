"""Muon's steps against singular values by numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlessons.muon import muon

RANDOM = np.random.RandomState(0)


def quintic(s):
    return 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5


def orthogonal(gradient, steps):
    """The polynomial of the singular values, which Newton-Schulz computes by products."""
    u, s, v = np.linalg.svd(gradient.reshape(-1, gradient.shape[-1]), full_matrices=False)
    s = s / np.sqrt(np.sum(s**2))
    for _ in range(steps):
        s = quintic(s)
    return ((u * s) @ v).reshape(gradient.shape)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(3, 3, 4, 6), (3, 3, 2, 30), (2, 2, 5, 20)])
@pytest.mark.parametrize("steps", [3, 5])
def test_a_first_step_is_orthogonal_from_a_kernel_of_fixed_norm(shape, steps):
    kernel, gradient = RANDOM.standard_normal((2, *shape))
    params, grads = jnp.asarray(kernel, jnp.float32), jnp.asarray(gradient, jnp.float32)
    optimizer = muon(0.24, newton_schulz_steps=steps)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    found = optax.apply_updates(params, updates)
    expected = kernel * (shape[-1] ** 0.5 / np.linalg.norm(kernel))
    expected = expected - 0.24 * orthogonal(gradient, steps)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_momentum_is_nesterovs_and_the_gradients_scale_plays_no_part():
    shape, steps = (3, 3, 3, 5), 12
    history = RANDOM.standard_normal((steps, *shape))
    params = jnp.asarray(RANDOM.standard_normal(shape), jnp.float32)
    optimizer = muon(0.1, momentum=0.6)
    step, state, buffer = jax.jit(optimizer.update), optimizer.init(params), np.zeros(shape)
    for gradient in history:
        updates, state = step(jnp.asarray(1000 * gradient, jnp.float32), state, params)
        buffer = 0.6 * buffer + gradient
    change = np.asarray(updates - (5**0.5 / jnp.linalg.norm(params.ravel()) - 1) * params)
    # optax divides both parts by their weights' sums, which after 12 steps is 1.
    np.testing.assert_allclose(change, -0.1 * orthogonal(gradient + 0.6 * buffer, 3), atol=3e-4)


def test_parameters_are_needed():
    kernel = jnp.ones((2, 2, 3, 4))
    optimizer = muon(0.1)
    with pytest.raises(ValueError, match="muon: update needs the parameters as well"):
        optimizer.update(kernel, optimizer.init(kernel))
