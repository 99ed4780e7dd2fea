"""A feed-forward network that repaints a photo in one pass, in the style it was trained for.

Johnson, Alahi and Fei-Fei, Perceptual losses for real-time style transfer and super-resolution
(2016), with what later work found better: instance norm in place of batch norm (Ulyanov et al.,
Instance normalization: the missing ingredient for fast stylization, 2016), a nearest-neighbour
enlargement ahead of a convolution in place of a transposed one, which leaves checkerboards (Odena
et al., Deconvolution and checkerboard artifacts, 2016), and reflected borders at every convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

SHRINK = 4  # what height and width are divided by inside the network


class ConvNorm(nn.Module):
    """A convolution over reflected borders, then instance norm.

    (x - mean)/sqrt(var + 1e-5) * scale + bias, with mean and variance over height and width, each
    image's and each channel's own. A bias of the convolution's would cancel.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, strides = (self.kernel_size,) * 2, (self.stride,) * 2
        x = nn.Conv(
            self.features, kernel, strides, "REFLECT", use_bias=False, dtype=self.dtype, name="conv"
        )(x)
        return nn.InstanceNorm(1e-5, dtype=self.dtype, name="norm")(x)


class Residual(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), nothing behind the sum (Gross and Wilber, 2016)."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        change = nn.relu(ConvNorm(x.shape[-1], dtype=self.dtype, name="conv1")(x))
        return x + ConvNorm(x.shape[-1], dtype=self.dtype, name="conv2")(change)


class ImageTransform(nn.Module):
    """Photos `[batch, height, width, 3]`, 0..1 -> pictures of the same size, 0..1, float32.

    channels: at the full size, a half and a quarter of it; residual_blocks: at the quarter. Any
    height and width: sides that 4 doesn't divide are mirrored to the next multiple and cut again.
    The paper's network has (32, 64, 128) channels and 5 blocks: 1.7 million parameters.
    """

    channels: Sequence[int] = (32, 64, 128)
    residual_blocks: int = 5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, photos: jax.Array) -> jax.Array:
        height, width = photos.shape[1:3]
        extra = ((0, 0), (0, -height % SHRINK), (0, -width % SHRINK), (0, 0))
        x = jnp.pad(photos, extra, mode="reflect")
        large, middle, small = self.channels
        layer = partial(ConvNorm, dtype=self.dtype)
        x = nn.relu(layer(large, kernel_size=9, name="stem")(x))
        x = nn.relu(layer(middle, stride=2, name="down1")(x))
        x = nn.relu(layer(small, stride=2, name="down2")(x))
        for i in range(1, self.residual_blocks + 1):
            x = Residual(self.dtype, name=f"residual{i}")(x)
        x = nn.relu(layer(middle, name="up1")(enlarge(x)))
        x = nn.relu(layer(large, name="up2")(enlarge(x)))
        x = nn.Conv(3, (9, 9), padding="REFLECT", dtype=self.dtype, name="out")(x)
        return nn.sigmoid(x[:, :height, :width].astype(jnp.float32))


def enlarge(x: jax.Array) -> jax.Array:
    """Each pixel four times: `[n, h, w, c]` -> `[n, 2 h, 2 w, c]`, by the nearest neighbour."""
    n, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (n, height, 2, width, 2, channels))
    return x.reshape(n, 2 * height, 2 * width, channels)
