from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.models.batchnorm import BatchNormByHand

SCALE, SHIFT = np.array([0.5, 1.0, 2.0], np.float32), np.array([1.0, -1.0, 0.3], np.float32)
STATS = {"mean": np.float32([0.5, -2, 1]), "var": np.float32([4, 0.25, 1])}
OURS = {"params": {"m": SCALE, "a": SHIFT}, "batch_stats": STATS}
FLAX = {"params": {"scale": SCALE, "bias": SHIFT}, "batch_stats": STATS}


def batch(dtype=np.float32):
    random = np.random.default_rng(0)
    x = random.normal(size=(6, 4, 5, 3)) * [1, 3, 0.2] + [0, 2, -1]
    return jnp.asarray(x, dtype)


@partial(jax.jit, static_argnums=0)
def train(layer, variables, x):
    """Output, new statistics, and the gradients with respect to parameters and input."""

    def total(params, x):
        out, updated = layer.apply({**variables, "params": params}, x, mutable=["batch_stats"])
        weights = jnp.sin(jnp.arange(out.size)).reshape(out.shape)
        return jnp.sum(out.astype(jnp.float32) * weights), (out, updated["batch_stats"])

    grads, (out, stats) = jax.grad(total, (0, 1), has_aux=True)(variables["params"], x)
    return out, stats, *grads


@pytest.mark.parametrize("momentum", [0.9, 0.5])
def test_training_equals_flax_in_output_statistics_and_gradient(momentum):
    settings = {"use_running_average": False, "momentum": momentum}
    out, stats, grads, dx = train(BatchNormByHand(**settings), OURS, batch())
    expected = train(nn.BatchNorm(**settings, epsilon=1e-5), FLAX, batch())
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    close(out, expected[0])
    close(stats["mean"], expected[1]["mean"])
    close(stats["var"], expected[1]["var"])
    close(grads["m"], expected[2]["scale"], rtol=1e-4)
    close(grads["a"], expected[2]["bias"])
    close(dx, expected[3], rtol=1e-4)


def test_training_normalises_by_the_batch_and_moves_a_tenth_towards_it():
    x = np.asarray(batch(), np.float64)
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    out, stats, _, _ = train(BatchNormByHand(use_running_average=False), OURS, batch())
    expected = (x - mean) / np.sqrt(var + 1e-5) * SCALE + SHIFT
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stats["mean"], 0.9 * STATS["mean"] + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 * STATS["var"] + 0.1 * var, rtol=1e-5)


def test_evaluation_uses_the_running_statistics_and_keeps_them():
    layer = BatchNormByHand(use_running_average=True)
    out, updated = layer.apply(OURS, batch(), mutable=["batch_stats"])
    x = np.asarray(batch(), np.float64)
    expected = (x - STATS["mean"]) / np.sqrt(STATS["var"] + 1e-5) * SCALE + SHIFT
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(updated["batch_stats"]["mean"], STATS["mean"])
    np.testing.assert_array_equal(updated["batch_stats"]["var"], STATS["var"])
    flax = nn.BatchNorm(use_running_average=True, epsilon=1e-5).apply(FLAX, batch())
    np.testing.assert_allclose(out, flax, rtol=1e-5, atol=1e-5)


def test_one_image_far_from_zero_has_an_exact_variance():
    # E[x^2] - E[x]^2 in float32 would lose it.
    x = jnp.asarray(1000 + np.array([-0.1, 0.1, -0.1, 0.1]).reshape(1, 4, 1, 1), jnp.float32)
    variables = {
        "params": {"m": np.ones(1, np.float32), "a": np.zeros(1, np.float32)},
        "batch_stats": {"mean": np.zeros(1, np.float32), "var": np.ones(1, np.float32)},
    }
    out = train(BatchNormByHand(use_running_average=False), variables, x)[0]
    np.testing.assert_allclose(np.ravel(out), [-1, 1, -1, 1], rtol=2e-3)


def test_initialisation_leaves_the_running_statistics_at_their_start():
    layer = BatchNormByHand(use_running_average=False)
    variables = jax.jit(layer.init)(jax.random.key(0), batch())
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], np.zeros(3))
    np.testing.assert_array_equal(variables["batch_stats"]["var"], np.ones(3))
    np.testing.assert_array_equal(variables["params"]["m"], np.ones(3))
    np.testing.assert_array_equal(variables["params"]["a"], np.zeros(3))


def test_bfloat16_has_flaxs_output_and_float32_statistics():
    settings = {"use_running_average": False, "momentum": 0.9, "dtype": jnp.bfloat16}
    x = batch(jnp.bfloat16)
    out, stats, grads, _ = train(BatchNormByHand(**settings), OURS, x)
    expected = train(nn.BatchNorm(**settings, epsilon=1e-5), FLAX, x)
    assert out.dtype == jnp.bfloat16
    assert {v.dtype for v in jax.tree.leaves((stats, grads))} == {jnp.dtype(jnp.float32)}
    ours, theirs = np.asarray(out, np.float32), np.asarray(expected[0], np.float32)
    np.testing.assert_allclose(ours, theirs, rtol=0.02, atol=0.02)
    np.testing.assert_allclose(stats["var"], expected[1]["var"], rtol=1e-4)
    np.testing.assert_allclose(stats["mean"], expected[1]["mean"], rtol=1e-4, atol=1e-4)
