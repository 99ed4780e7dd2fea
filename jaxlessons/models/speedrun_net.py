"""The network of Jordan, 94% on CIFAR-10 in 3.29 seconds on a single GPU (2024), in its sizes.

A frozen convolution that whitens 2x2 patches, three groups of convolutions that halve the image,
and a head with small logits. The convolutions begin as identities, so that the network passes
signals and gradients before it has learnt anything.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxlessons.models.conv import Conv
from jaxlessons.models.initializers import uniform_init

WHITENING_SIZE = 2  # of the patches, in pixels


def identity_init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """A kernel `[height, width, in, out]` whose first outputs are its inputs; the rest uniform."""
    height, width, inputs, outputs = shape
    same = min(inputs, outputs)
    centre = jnp.zeros((height, width, inputs, same), dtype)
    centre = centre.at[height // 2, width // 2].set(jnp.eye(inputs, same, dtype=dtype))
    return jnp.concatenate([centre, uniform_init(key, shape, dtype)[..., same:]], axis=-1)


def unit_init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Uniform with a deviation of 1."""
    return jax.random.uniform(key, shape, dtype, -(3**0.5), 3**0.5)


def whitening_kernel(images: jax.Array, epsilon: float = 5e-4) -> jax.Array:
    """The whitening filters of normalised images `[n, h, w, c]`, both signs: `[2, 2, c, 8 c]`.

    With V diag(l) V' the second moment of all 2x2 patches, the filters are the columns of
    V (l + epsilon)^-1/2 and their negatives: what the first half finds is uncorrelated, with
    power l / (l + epsilon). The largest l comes first.
    """
    size, (_, height, width, channels) = WHITENING_SIZE, images.shape
    shifted = [
        images[:, i : height - size + 1 + i, j : width - size + 1 + j]
        for i in range(size)
        for j in range(size)
    ]
    patches = jnp.concatenate(shifted, axis=-1).reshape(-1, size * size * channels)
    # The smallest l is about as large as what a GPU's quick products round off.
    moment = jnp.matmul(patches.T, patches, precision="highest") / len(patches)
    powers, vectors = jnp.linalg.eigh(moment)
    filters = (vectors * lax.rsqrt(powers + epsilon)[None])[:, ::-1]
    return jnp.concatenate([filters, -filters], axis=1).reshape(size, size, channels, -1)


def max_pool(x: jax.Array, size: int) -> jax.Array:
    """The maximum of each size x size square; rows and columns that are left over are dropped.

    As a maximum over axes of its own, whose gradient is a comparison; that of XLA's windows is a
    scattered sum, which is slow.
    """
    batch, height, width, channels = x.shape
    rows, columns = height // size, width // size
    x = x[:, : rows * size, : columns * size]
    return jnp.max(x.reshape(batch, rows, size, columns, size, channels), axis=(2, 4))


class ConvGroup(nn.Module):
    """Convolution, pooling, and one more convolution, or two with a residual around them.

    Each is followed by batch norm without a scale, and by GELU; with the residual the last GELU
    comes after the sum.
    """

    features: int
    residual: bool = False
    norm_momentum: float = 0.6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        same = ((1, 1), (1, 1))
        conv = partial(
            Conv,
            self.features,
            (3, 3),
            padding=same,
            use_bias=False,
            kernel_init=identity_init,
            dtype=self.dtype,
        )
        norm = partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=self.norm_momentum,
            use_scale=False,
            dtype=self.dtype,
        )
        gelu = partial(nn.gelu, approximate=False)
        x = gelu(norm(name="norm1")(max_pool(conv(name="conv1")(x), 2)))
        change = norm(name="norm2")(conv(name="conv2")(x))
        if not self.residual:
            return gelu(change)
        return gelu(x + norm(name="norm3")(conv(name="conv3")(gelu(change))))


class SpeedrunNet(nn.Module):
    """Images `[batch, 32, 32, channel]`, normalised -> float32 logits `[batch, num_classes]`.

    The kernel of "whiten" is to be set to `whitening_kernel` and then left alone. widths: each
    group's features. residual: groups of three convolutions instead of two. norm_momentum: the
    share of its old statistics that batch norm keeps a step. unit_head: the head's weights begin
    with a deviation of 1 and the logits are divided by its inputs, as with Muon; otherwise they
    begin as PyTorch's and the logits are divided by 9. random_bias: the whitening's bias begins
    as PyTorch's too, as with Muon; otherwise at 0. train_whitening: False lets no gradient
    into that bias either, which saves that of the first group's input. The head computes in float32
    whatever the dtype, since bfloat16 has too few digits to tell close logits apart.
    """

    widths: tuple[int, ...] = (64, 256, 256)
    num_classes: int = 10
    residual: bool = False
    norm_momentum: float = 0.6
    unit_head: bool = False
    random_bias: bool = False
    train_whitening: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        size, filters = WHITENING_SIZE, 2 * WHITENING_SIZE**2 * x.shape[-1]
        none = ((0, 0), (0, 0))
        limit = (size * size * x.shape[-1]) ** -0.5 if self.random_bias else 0.0
        whiten = Conv(
            filters,
            (size, size),
            padding=none,
            bias_init=partial(jax.random.uniform, minval=-limit, maxval=limit),
            dtype=self.dtype,
            name="whiten",
        )
        x = whiten(x)
        if not self.train_whitening:
            x = lax.stop_gradient(x)
        x = nn.gelu(x, approximate=False)
        for i, width in enumerate(self.widths, 1):
            group = ConvGroup(
                width, self.residual, self.norm_momentum, self.dtype, name=f"group{i}"
            )
            x = group(x, train)
        x = jnp.max(x, axis=(1, 2))
        head = nn.Dense(
            self.num_classes,
            use_bias=False,
            kernel_init=unit_init if self.unit_head else uniform_init,
            dtype=jnp.float32,
            name="head",
        )
        return head(x) / (x.shape[-1] if self.unit_head else 9)
