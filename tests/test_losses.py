import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.losses import cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("kind", ["labels", "probabilities"])
def test_each_example_has_torchs_loss(kind, smoothing, stored):
    numbers = stored("training")["losses"]
    logits, target = jnp.asarray(numbers["logits"]), jnp.asarray(numbers[kind])
    each = cross_entropy(logits, target, label_smoothing=smoothing)
    expected = numbers["each"][f"{kind} {smoothing}"]
    np.testing.assert_allclose(each, expected, rtol=2e-6)
    np.testing.assert_allclose(
        jax.vmap(lambda x, t: cross_entropy(x, t, smoothing))(logits, target), expected, rtol=2e-6
    )


def test_equal_logits_cost_the_logarithm_of_the_classes():
    logits = jnp.full((2, 3, 7), 5.0)
    each = cross_entropy(logits, jnp.zeros((2, 3), jnp.int32))
    np.testing.assert_allclose(each, np.full((2, 3), np.log(7)), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_huge_logits_have_a_finite_loss_and_gradient(dtype):
    smoothing = 0.1
    logits = jnp.array([[1e30, -1e30, 0.0], [2.0**15, 0.0, 0.0]], dtype)
    labels = jnp.array([0, 1])
    each = cross_entropy(logits, labels, smoothing)
    assert each.dtype == jnp.float32
    assert np.isfinite(each).all()
    high = 2.0**15
    np.testing.assert_allclose(each[1], high * (1 - smoothing + smoothing * 2 / 3), rtol=1e-6)
    grads = jax.grad(lambda x: cross_entropy(x, labels, smoothing).sum())(logits)
    target = (1 - smoothing) * np.eye(3)[[0, 1]] + smoothing / 3
    expected = np.array([[1, 0, 0], [1, 0, 0]]) - target
    np.testing.assert_allclose(np.asarray(grads, np.float32), expected, atol=3e-3)


def test_the_gradient_is_the_finite_difference():
    random = np.random.default_rng(0)
    logits = random.normal(size=(4, 5)).astype(np.float32)
    labels = random.dirichlet(np.ones(5), size=4).astype(np.float32)
    total = jax.jit(lambda x: cross_entropy(x, labels, 0.2).sum())
    grads = jax.jit(jax.grad(total))(logits)
    step = 1e-2
    for place in np.ndindex(logits.shape):
        change = np.zeros_like(logits)
        change[place] = step
        difference = (total(logits + change) - total(logits - change)) / (2 * step)
        assert grads[place] == pytest.approx(float(difference), abs=2e-3)
