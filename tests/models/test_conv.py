from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxlessons.models.conv import Conv, conv_general_dilated
from jaxlessons.models.conv_cpu import by_rows, conv2d

NHWC = ("NHWC", "HWIO", "NHWC")

# (height, width), input channels, output channels, (kernel), stride, (padding)
ON_A_CPU = {
    "stride 1": ((8, 8), 20, 24, (3, 3), 1, (1, 1)),
    "stride 2": ((8, 8), 20, 24, (3, 3), 2, (1, 1)),
    "stride 2, odd sides": ((9, 7), 20, 24, (3, 3), 2, (1, 1)),
    "stride 3": ((10, 10), 20, 3, (3, 3), 3, (1, 1)),
    "stride 3, a large kernel": ((10, 11), 17, 20, (5, 5), 3, (2, 2)),
    "stride 2 of a 1x1 kernel": ((9, 9), 20, 20, (1, 1), 2, (0, 0)),
    "stride 3 of a 2x2 kernel": ((10, 8), 20, 17, (2, 2), 3, (0, 0)),
    "stride 2, few channels": ((9, 8), 10, 20, (3, 3), 2, (1, 1)),
    "wider": ((8, 6), 4, 24, (3, 3), 1, (1, 1)),
    "a kernel of more numbers than the images": ((5, 6), 24, 150, (3, 3), 1, (1, 1)),
    "the same, unpadded": ((6, 5), 20, 300, (4, 3), 1, (0, 1)),
    "one output": ((3, 3), 20, 24, (3, 3), 3, (1, 1)),
    "one row of outputs": ((3, 6), 20, 24, (3, 1), 3, (1, 0)),
    "one output, few channels": ((3, 3), 10, 24, (3, 3), 3, (1, 1)),
    "unpadded, 7x7 to 3x3": ((7, 7), 20, 12, (3, 3), 2, (0, 0)),
    "2x2, smaller than its kernel": ((2, 2), 12, 20, (3, 3), 1, (1, 1)),
    "2x2 to 1x1": ((2, 2), 20, 8, (3, 3), 2, (1, 1)),
    "low, smaller in one side": ((2, 9), 20, 8, (3, 3), 2, (1, 1)),
    "5x5 wider than the image": ((3, 3), 3, 4, (5, 5), 1, (2, 2)),
    "a colour image, 7x7": ((32, 32), 3, 16, (7, 7), 1, (3, 3)),
    "a colour image, stride 2": ((32, 32), 3, 10, (3, 3), 2, (1, 1)),
    "few channels, unpadded": ((15, 13), 3, 10, (5, 3), 2, (0, 0)),
    "few channels, fewer columns than a block": ((9, 3), 4, 6, (3, 1), 1, (1, 0)),
    "1x1": ((12, 12), 4, 4, (1, 1), 1, (0, 0)),
    "paddings that differ": ((6, 6), 20, 20, (4, 2), 1, (2, 0)),
}


def tensors(size, inputs, outputs, kernel, images=3):
    random = np.random.default_rng(0)
    x = random.normal(size=(images, *size, inputs)).astype(np.float32)
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


# 24 are more than NARROW, and as many for each of 8 devices; of a single one XLA's own convolution
# overlooks a negative padding.
@pytest.mark.parametrize("images", [24, 1])
@pytest.mark.parametrize("case", ON_A_CPU)
def test_the_convolution_for_cpus_has_laxs_outputs_and_gradients(case, images, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    size, inputs, outputs, kernel_size, stride, (rows, columns) = ON_A_CPU[case]
    x, kernel = tensors(size, inputs, outputs, kernel_size, images)
    strides, padding = (stride, stride), ((rows, rows), (columns, columns))

    def ours(x, k):
        return conv_general_dilated(x, k, strides, padding, dimension_numbers=NHWC)

    @jax.jit
    def both(x, k):
        lax_alone = with_gradients(lambda x, k: by_lax(x, k, strides, padding), x, k)
        own = with_gradients(lambda x, k: conv2d(x, k, stride, (rows, columns)), x, k)
        return own, lax_alone

    found, expected = both(x, kernel)
    for name, mine, theirs in zip(("output", "dx", "dkernel"), found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4, err_msg=name)
    if jax.default_backend() == "cpu":
        assert "custom_vjp" in trace(ours, x, kernel)


@pytest.mark.parametrize("block", [1, 2, 3, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_blocks_of_any_length_make_the_same_rows(block, stride):
    x, kernel = tensors((6, 11), 3, 5, (3, 5))
    found = jax.jit(by_rows, static_argnums=(2, 3, 4))(x, kernel, stride, (1, 2), block)
    expected = by_lax(x, kernel, (stride, stride), ((1, 1), (2, 2)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "channels", "stride"),
    [((2, 2), (4, 6), 2), ((8, 8), (4, 6), 2), ((8, 8), (20, 24), 1), ((5, 6), (24, 150), 1)],
)
def test_half_precision_stays_half_precision_and_is_summed_in_float32(size, channels, stride):
    exact = tensors(size, *channels, (3, 3), images=24)
    x, kernel = (t.astype(jnp.bfloat16) for t in exact)
    conv = jax.jit(lambda x, k: with_gradients(lambda *a: conv2d(*a, stride, (1, 1)), x, k))
    rounded = (x.astype(jnp.float32), kernel.astype(jnp.float32))
    for half, whole in zip(conv(x, kernel), conv(*rounded), strict=True):
        assert half.dtype == jnp.bfloat16
        # Rounded at the end, and in between, of what the gradients come from, to 8 bits.
        apart = np.linalg.norm(half.astype(np.float32) - whole) / np.linalg.norm(whole)
        assert apart < 0.005


def test_without_images_the_kernels_gradient_is_zero():
    for size, channels, stride in (((8, 8), (20, 24), 2), ((8, 8), (20, 24), 1)):
        x, kernel = tensors(size, *channels, (3, 3), images=0)
        d_kernel = with_gradients(lambda x, k, s=stride: conv2d(x, k, s, (1, 1)), x, kernel)[2]
        np.testing.assert_array_equal(d_kernel, np.zeros_like(kernel))


def test_what_is_slow_on_a_cpu_is_in_no_convolutions_gradient():
    # XLA's own way with a strided convolution's gradient is one of an image dilated by zeros.
    x, kernel = tensors((8, 8), 20, 24, (3, 3))

    def program_of(stride):
        return jax.jit(partial(with_gradients, lambda x, k: conv2d(x, k, stride, (1, 1))))

    program = program_of(2)
    text = program.lower(x, kernel).as_text()
    dilated = [line for line in text.splitlines() if "lhs_dilate = [2, 2]" in line]
    # Forward, and for the image's gradient one for each of its four phases.
    assert text.count("stablehlo.convolution") == 5
    assert not dilated
    # With few channels these are computed side by side.
    few = program.lower(*tensors((8, 8), 16, 24, (3, 3))).as_text()
    assert few.count("stablehlo.convolution") == 2
    # Where the kernel has more numbers than the images, it is not turned around.
    large = program_of(1).lower(*tensors((5, 6), 24, 150, (3, 3))).as_text()
    assert "stablehlo.reverse" not in large
    # One that is smaller than its kernel is a matrix product each.
    x, kernel = tensors((2, 2), 20, 24, (3, 3))
    assert "stablehlo.convolution" not in program.lower(x, kernel).as_text()


# What `conv2d` does not do: strides, padding, further settings, input channels.
BY_LAX = {
    "padding beyond the kernel": ((1, 1), ((3, 3), (1, 1)), {}, (8, 8), 4),
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
