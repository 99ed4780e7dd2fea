import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxlessons.models.conv import Conv, conv_general_dilated, patches_conv

NHWC = ("NHWC", "HWIO", "NHWC")

# (height, width), input channels, output channels, (kernel), stride, (padding)
BY_PATCHES = {
    "stride 2 to 4x4": ((8, 8), 16, 24, (3, 3), 2, (1, 1)),
    "stride 1 at 4x4": ((4, 4), 20, 20, (3, 3), 1, (1, 1)),
    "stride 2 to 2x2": ((4, 4), 16, 8, (3, 3), 2, (1, 1)),
    "stride 1 at 2x2": ((2, 2), 12, 12, (3, 3), 1, (1, 1)),
    "unpadded, 7x7 to 3x3": ((7, 7), 10, 12, (3, 3), 2, (0, 0)),
    "a colour image, stride 2": ((32, 32), 3, 10, (3, 3), 2, (1, 1)),
    "a colour image, unpadded": ((32, 32), 3, 20, (3, 3), 2, (0, 0)),
    "5x5 wider than the image": ((3, 3), 3, 4, (5, 5), 1, (2, 2)),
    "1x1": ((4, 4), 6, 5, (1, 1), 1, (0, 0)),
    "stride 3": ((10, 10), 2, 3, (3, 3), 3, (1, 1)),
    "sides that differ": ((7, 3), 4, 6, (3, 1), 2, (1, 0)),
    "paddings that differ": ((5, 4), 4, 6, (5, 3), 2, (2, 1)),
}


def tensors(size, inputs, outputs, kernel):
    random = np.random.default_rng(0)
    x = random.normal(size=(3, *size, inputs)).astype(np.float32)
    k = random.normal(size=(*kernel, inputs, outputs)).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(k) / np.sqrt(k[..., 0].size, dtype=np.float32)


def by_lax(x, kernel, strides, padding, **settings):
    settings = {"dimension_numbers": NHWC, **settings}
    return lax.conv_general_dilated(x, kernel, strides, padding, **settings)


def with_gradients(conv, x, kernel):
    """The output, and the gradients of a sum that weighs each of its values in its own way."""

    def total(x, kernel):
        out = conv(x, kernel)
        weights = np.sin(np.arange(out.size, dtype=np.float32)).reshape(out.shape)
        return jnp.sum(out * weights), out

    grads, out = jax.grad(total, (0, 1), has_aux=True)(x, kernel)
    return out, *grads


def trace(conv, x, kernel):
    return str(jax.make_jaxpr(conv)(x, kernel))


@pytest.mark.parametrize("case", BY_PATCHES)
def test_small_convolutions_go_by_patches_with_laxs_outputs_and_gradients(case):
    size, inputs, outputs, kernel_size, stride, (rows, columns) = BY_PATCHES[case]
    x, kernel = tensors(size, inputs, outputs, kernel_size)
    strides, padding = (stride, stride), ((rows, rows), (columns, columns))

    def patches(x, k):
        return patches_conv(x, k, stride, (rows, columns))

    def ours(x, k):
        return conv_general_dilated(x, k, strides, padding, dimension_numbers=NHWC)

    @jax.jit
    def both(x, k):
        lax_alone = with_gradients(lambda x, k: by_lax(x, k, strides, padding), x, k)
        return with_gradients(patches, x, k), lax_alone

    found, expected = both(x, kernel)
    for name, mine, theirs in zip(("output", "dx", "dkernel"), found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4, err_msg=name)
    if jax.default_backend() == "cpu":
        assert trace(ours, x, kernel) == trace(patches, x, kernel)


# What `patches_conv` can't do or is slow at: strides, padding, further settings, input channels.
BY_LAX = {
    "a large output": ((1, 1), ((1, 1), (1, 1)), {}, (8, 8), 4),
    "many inputs, stride 2": ((2, 2), ((1, 1), (1, 1)), {}, (16, 16), 8),
    "strides that differ": ((2, 1), ((1, 1), (1, 1)), {}, (4, 4), 4),
    "padding by name": ((2, 2), "SAME", {}, (4, 4), 4),
    "one-sided padding": ((1, 1), ((0, 1), (1, 1)), {}, (4, 4), 4),
    "a dilated kernel": ((1, 1), ((2, 2), (2, 2)), {"rhs_dilation": (2, 2)}, (4, 4), 4),
    "a dilated input": ((1, 1), ((1, 1), (1, 1)), {"lhs_dilation": (2, 2)}, (2, 2), 4),
    "groups": ((1, 1), ((1, 1), (1, 1)), {"feature_group_count": 2}, (4, 4), 8),
    "a precision": ((1, 1), ((1, 1), (1, 1)), {"precision": lax.Precision.HIGHEST}, (4, 4), 4),
}


@pytest.mark.parametrize("case", BY_LAX)
def test_all_other_convolutions_are_laxs(case):
    strides, padding, settings, size, inputs = BY_LAX[case]
    groups = settings.get("feature_group_count", 1)
    x, kernel = tensors(size, inputs // groups, 6, (3, 3))
    x = jnp.tile(x, (1, 1, 1, groups))

    def ours(x, k):
        return conv_general_dilated(x, k, strides, padding, dimension_numbers=NHWC, **settings)

    def lax_alone(x, k):
        return by_lax(x, k, strides, padding, **settings)

    assert trace(ours, x, kernel) == trace(lax_alone, x, kernel)


@pytest.mark.parametrize("use_bias", [True, False])
def test_the_layer_adds_its_bias_to_the_convolution(use_bias):
    x, kernel = tensors((4, 4), 3, 5, (3, 3))
    layer = Conv(5, (3, 3), padding=((1, 1), (1, 1)), use_bias=use_bias)
    params = {"kernel": kernel, "bias": jnp.arange(5.0)}
    if not use_bias:
        del params["bias"]
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, params)
    expected = np.asarray(by_lax(x, kernel, (1, 1), ((1, 1), (1, 1))))
    found = jax.jit(layer.apply)({"params": params}, x)
    np.testing.assert_allclose(
        found, expected + (np.arange(5) if use_bias else 0), rtol=1e-4, atol=1e-5
    )
