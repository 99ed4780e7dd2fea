"""Pooling over windows of 3x3, padded by one on every side, as PyTorch pads it."""

from __future__ import annotations

from functools import reduce

import flax.linen as nn
import jax
import jax.numpy as jnp


def avg_pool3(x: jax.Array) -> jax.Array:
    """The mean of each pixel's 3x3 surroundings, `[batch, height, width, channel]` as before.

    Beyond the border stand zeros, which count: at a corner the sum of four pixels is divided by 9.
    That is PyTorch's default (count_include_pad=True), which the tutorial has.
    """
    return nn.avg_pool(x, (3, 3), (1, 1), padding=((1, 1), (1, 1)), count_include_pad=True)


def max_pool3(x: jax.Array, stride: int = 1) -> jax.Array:
    """The maximum of each 3x3 surroundings within the image; stride 2 halves it, rounding up.

    Made of shifted slices, not of nn.max_pool, whose gradient is a scatter: on a CPU far slower.
    """
    for axis in (1, 2):
        pad = [(0, 0)] * x.ndim
        pad[axis] = (1, 1)
        size = x.shape[axis]
        padded = jnp.pad(x, pad, constant_values=-jnp.inf)
        shifted = [jax.lax.slice_in_dim(padded, i, i + size, stride, axis=axis) for i in range(3)]
        x = reduce(jnp.maximum, shifted)
    return x
