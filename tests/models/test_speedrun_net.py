"""The speedrun's network: what its first filters do, how it begins, and what it is made of."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.models.initializers import uniform_init
from jaxlessons.models.speedrun_net import (
    SpeedrunNet,
    identity_init,
    max_pool,
    unit_init,
    whitening_kernel,
)

RANDOM = np.random.RandomState(0)


def smooth_images(count=20, size=12):
    """Noise summed along both axes, so that neighbours are alike, with a mean that isn't 0."""
    noise = RANDOM.standard_normal((count, size, size, 3)).cumsum(1).cumsum(2)
    return jnp.asarray(0.05 * noise + 0.1, jnp.float32)


@pytest.mark.parametrize("epsilon", [5e-4, 0.1])
def test_the_first_half_of_the_filters_whitens_patches_and_the_second_is_its_negative(epsilon):
    images = smooth_images()
    kernel = whitening_kernel(images, epsilon)
    assert kernel.shape == (2, 2, 3, 24)
    np.testing.assert_array_equal(kernel[..., 12:], -kernel[..., :12])
    out = jax.lax.conv_general_dilated(
        images, kernel[..., :12], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    flat = np.asarray(out, np.float64).reshape(-1, 12)
    found = flat.T @ flat / len(flat)
    # The patches' own second moment, gathered one by one.
    x = np.asarray(images, np.float64)
    patches = np.stack(
        [
            x[n, i : i + 2, j : j + 2].ravel()
            for n in range(20)
            for i in range(11)
            for j in range(11)
        ]
    )
    powers = np.linalg.eigvalsh(patches.T @ patches / len(patches))[::-1]
    np.testing.assert_allclose(found, np.diag(powers / (powers + epsilon)), atol=2e-3)


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 7), (5, 5), (6, 4)])
def test_a_convolution_begins_by_passing_its_input_on(inputs, outputs):
    kernel = identity_init(jax.random.key(0), (3, 3, inputs, outputs))
    x = jnp.asarray(RANDOM.standard_normal((2, 5, 6, inputs)), jnp.float32)
    out = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    same = min(inputs, outputs)
    np.testing.assert_array_equal(out[..., :same], x[..., :same])
    rest = np.asarray(kernel[..., same:])
    assert np.abs(rest).max(initial=0) <= (9 * inputs) ** -0.5
    assert len(np.unique(rest)) == rest.size


def test_the_heads_two_beginnings_have_the_deviations_they_should():
    for init, deviation in ((uniform_init, 1 / (3 * 400) ** 0.5), (unit_init, 1.0)):
        kernel = np.asarray(init(jax.random.key(1), (400, 50)))
        assert kernel.std() == pytest.approx(deviation, rel=0.02)
        assert np.abs(kernel).max() <= 3**0.5 * deviation * (1 + 1e-6)
        assert abs(kernel.mean()) < 0.03 * deviation


@pytest.mark.parametrize(("height", "width", "size"), [(6, 4, 2), (7, 5, 2), (7, 9, 3)])
def test_pooling_is_the_maximum_of_each_square_and_its_gradient_goes_there(height, width, size):
    x = RANDOM.permutation(2 * height * width * 3).reshape(2, height, width, 3).astype(np.float32)
    weights = RANDOM.standard_normal((2, height // size, width // size, 3)).astype(np.float32)
    expected, gradient = np.zeros_like(weights), np.zeros_like(x)
    for n, i, j, c in np.ndindex(*weights.shape):
        square = x[n, i * size : (i + 1) * size, j * size : (j + 1) * size, c]
        expected[n, i, j, c] = square.max()
        row, column = np.unravel_index(square.argmax(), square.shape)
        gradient[n, i * size + row, j * size + column, c] = weights[n, i, j, c]
    np.testing.assert_array_equal(max_pool(jnp.asarray(x), size), expected)
    found = jax.grad(lambda x: jnp.sum(weights * max_pool(x, size)))(jnp.asarray(x))
    np.testing.assert_array_equal(found, gradient)


def parameters(**settings):
    images = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(SpeedrunNet(**settings).init, jax.random.key(0), images)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def test_the_sizes_have_the_papers_parameters():
    def by_hand(a, b, c, convolutions=2):
        groups = ((24, a), (a, b), (b, c))
        kernels = sum(9 * (i * o + (convolutions - 1) * o * o) for i, o in groups)
        return 12 * 24 + 24 + kernels + convolutions * (a + b + c) + 10 * c

    assert parameters() == by_hand(64, 256, 256) == 1_971_640
    assert parameters(widths=(128, 384, 384)) == by_hand(128, 384, 384)
    assert parameters(widths=(128, 512, 512), residual=True) == by_hand(128, 512, 512, 3)


NARROW = {"widths": (4, 6, 8)}


@pytest.fixture(scope="module")
def begun():
    images = jnp.asarray(RANDOM.standard_normal((3, 32, 32, 3)), jnp.float32)
    return jax.jit(SpeedrunNet(**NARROW).init)(jax.random.key(0), images), images


def logits_of(variables, images, **settings):
    return jax.jit(SpeedrunNet(**NARROW, **settings).apply)(variables, images)


def test_the_logits_are_the_heads_over_9_or_over_its_width(begun):
    variables, images = begun
    nine = logits_of(variables, images)
    width = logits_of(variables, images, unit_head=True)
    assert nine.dtype == jnp.float32
    assert np.abs(nine).max() > 1e-3
    np.testing.assert_allclose(9 * nine, 8 * width, rtol=1e-5)
    kernel = variables["params"]["head"]["kernel"]
    doubled = variables["params"] | {"head": {"kernel": 2 * kernel}}
    twice = logits_of(variables | {"params": doubled}, images)
    np.testing.assert_allclose(twice, 2 * nine, rtol=1e-5)


@pytest.mark.slow
def test_the_whitenings_bias_begins_at_0_or_as_pytorchs(begun):
    variables, images = begun
    assert not np.any(variables["params"]["whiten"]["bias"])
    init = jax.jit(SpeedrunNet(**NARROW, random_bias=True).init)
    biases = [init(jax.random.key(k), images)["params"]["whiten"] for k in range(8)]
    bias = np.concatenate([whiten["bias"] for whiten in biases])
    limit = 12**-0.5
    assert np.abs(bias).max() <= limit
    assert bias.std() == pytest.approx(limit / 3**0.5, rel=0.15)
    assert abs(bias.mean()) < 0.15 * limit


@pytest.mark.slow
def test_the_head_keeps_float32s_digits_whatever_the_rest_computes_in(begun):
    variables, images = begun
    logits = logits_of(variables, images, dtype=jnp.bfloat16)
    assert logits.dtype == jnp.float32
    before = np.asarray(9 * logits)
    assert np.abs(before - before.astype(jnp.bfloat16).astype(np.float32)).max() > 1e-4
    exact = logits_of(variables, images)
    np.testing.assert_allclose(logits, exact, atol=0.02)


@pytest.mark.slow
def test_a_residual_group_whose_last_norm_is_silenced_passes_its_first_layer_on(begun):
    _, images = begun
    net = SpeedrunNet(**NARROW, residual=True)
    variables, apply = jax.jit(net.init)(jax.random.key(2), images), jax.jit(net.apply)
    # A convolution of zeros, normalised, is its norm's bias: 0, so that a group adds nothing.
    params = dict(variables["params"])
    for name in ("group1", "group2", "group3"):
        group = dict(params[name])
        group["conv3"] = {"kernel": jnp.zeros_like(group["conv3"]["kernel"])}
        params[name] = group
    logits = apply(variables | {"params": params}, images)
    # gelu(x + 0) with x = gelu(...): the second convolution plays no part in it.
    for name in ("group1", "group2", "group3"):
        params[name] = params[name] | {"conv2": {"kernel": 7 + params[name]["conv2"]["kernel"]}}
    np.testing.assert_array_equal(apply(variables | {"params": params}, images), logits)
    assert np.abs(logits - logits_of(begun[0], images)).max() > 1e-4


@pytest.mark.slow
def test_without_its_training_the_whitening_gets_no_gradient_and_the_rest_the_same(begun):
    variables, images = begun

    def gradient(train_whitening):
        net = SpeedrunNet(**NARROW, train_whitening=train_whitening)

        def loss(params):
            logits, _ = net.apply(
                variables | {"params": params}, images, train=True, mutable=["batch_stats"]
            )
            return jnp.sum(logits**2)

        return jax.jit(jax.grad(loss))(variables["params"])

    trained, frozen = gradient(True), gradient(False)
    assert np.abs(trained["whiten"]["bias"]).max() > 0
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(frozen.pop("whiten")))
    trained.pop("whiten")
    for a, b in zip(jax.tree.leaves(trained), jax.tree.leaves(frozen), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)


def test_batch_norm_keeps_the_share_of_its_old_statistics_that_it_is_told(begun):
    variables, images = begun
    means = []
    for kept in (0.0, 0.6):
        net = SpeedrunNet(**NARROW, norm_momentum=kept)
        train = partial(net.apply, train=True, mutable=["batch_stats"])
        _, updated = jax.jit(train)(variables, images)
        means.append(np.asarray(updated["batch_stats"]["group1"]["norm1"]["mean"]))
    np.testing.assert_allclose(means[1], 0.4 * means[0], rtol=1e-5)
    assert "scale" not in variables["params"]["group1"]["norm1"]
