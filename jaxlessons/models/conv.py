"""The convolution that the networks use: lax's, except where XLA's CPU code for it is slow."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

# On the CPU XLA takes up to 25 times as long as a matrix product where the output is small
# (3x3, 256 channels at 2x2, batch 256: 228 ms against 8) and twice as long where few values go
# into each output and most are skipped (3x3 of a colour image, stride 2); else it is the better.
SMALL_OUTPUT = 4 * 4
FEW_INPUTS = 32


def patches_conv(
    x: jax.Array, kernel: jax.Array, stride: int, padding: tuple[int, int]
) -> jax.Array:
    """A convolution as one matrix product: `[n, h, w, i]`, `[kh, kw, i, o]` -> `[n, h', w', o]`.

    padding is (rows, columns) of zeros on either side. Its gradient, by JAX, is made of two
    products and kh * kw shifted sums.
    """
    n, height, width, channels = x.shape
    kh, kw, _, out = kernel.shape
    oh = (height + 2 * padding[0] - kh) // stride + 1
    ow = (width + 2 * padding[1] - kw) // stride + 1
    x = jnp.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    shifted = [
        lax.slice(
            x,
            (0, i, j, 0),
            (n, i + stride * (oh - 1) + 1, j + stride * (ow - 1) + 1, channels),
            (1, stride, stride, 1),
        )
        for i in range(kh)
        for j in range(kw)
    ]
    patches = jnp.concatenate(shifted, axis=-1).reshape(n * oh * ow, kh * kw * channels)
    return (patches @ kernel.reshape(-1, out)).reshape(n, oh, ow, out)


def conv_general_dilated(
    x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **settings: Any
) -> jax.Array:
    """`lax.conv_general_dilated` for flax's Conv; small outputs on a CPU by `patches_conv`."""
    if jax.default_backend() == "cpu" and _is_plain(x, strides, padding, settings):
        pads = (padding[0][0], padding[1][0])
        size = [
            (n + 2 * p - k) // strides[0] + 1
            for n, p, k in zip(x.shape[1:3], pads, kernel.shape[:2], strict=True)
        ]
        few_inputs = strides[0] > 1 and math.prod(kernel.shape[:-1]) <= FEW_INPUTS
        if size[0] * size[1] <= SMALL_OUTPUT or few_inputs:
            return patches_conv(x, kernel, strides[0], pads)
    return lax.conv_general_dilated(x, kernel, strides, padding, **settings)


def _is_plain(x: jax.Array, strides: Any, padding: Any, settings: dict[str, Any]) -> bool:
    """Two dimensions, square stride, symmetric padding, neither dilated nor grouped."""
    return (
        x.ndim == 4
        and strides[0] == strides[1]
        and not isinstance(padding, str)
        and all(low == high for low, high in padding)
        and set(settings.get("lhs_dilation") or (1,)) == {1}
        and set(settings.get("rhs_dilation") or (1,)) == {1}
        and settings.get("feature_group_count", 1) == 1
        and settings.get("precision") is None
    )


Conv = partial(nn.Conv, conv_general_dilated=conv_general_dilated)
