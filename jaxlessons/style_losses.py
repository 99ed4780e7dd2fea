"""What makes a picture's content and its style: losses on the features of a network.

Gatys, Ecker and Bethge, A neural algorithm of artistic style (2015). Features are a layer's output,
`[..., height, width, channel]`; every loss is a float32 scalar, whatever the features' type.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

# How Gram matrices and their loss are scaled, see `gram_matrix` and `style_loss`.
Normalization = Literal["lesson", "gatys"]


def gram_matrix(
    features: jax.Array,
    normalization: Normalization = "lesson",
    mask: jax.Array | None = None,
) -> jax.Array:
    """How the channels go together: features `[..., height, width, channel]` -> `[..., c, c]`.

    G = F^T F / n, with F the features as `[height * width, channel]`. "lesson": n = height * width
    * channel, the number of features (fast.ai then multiplies by 1e6, which is here a part of the
    loss's weight; d2l is the same without it). "gatys": n = height * width, so that pictures of
    different sizes compare; `style_loss` has the rest of the paper's factors.

    mask: `[height, width]`, 0 to 1, the region whose style counts: F is multiplied by it, and
    height * width becomes the sum of its squares (Gatys et al., Controlling perceptual factors in
    neural style transfer, 2017, section 4). A mask that is 0 everywhere gives 0.
    """
    _check(normalization)
    *batch, height, width, channels = features.shape
    positions: float | jax.Array = height * width
    if mask is not None:
        weight = mask.astype(jnp.float32)
        positions = jnp.maximum(jnp.sum(weight**2), 1e-6)
        shape = (1,) * len(batch) + (height, width, 1)
        features = features * weight.reshape(shape).astype(features.dtype)
    gram = _gram(features.reshape(*batch, height * width, channels))
    return gram / (positions * channels if normalization == "lesson" else positions)


@jax.custom_jvp
def _gram(features: jax.Array) -> jax.Array:
    """F^T F, float32, of features `[..., position, channel]`."""
    return _products(features, features)


@_gram.defjvp
def _gram_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    # By the product's own rule both factors' gradients would be `[channel, position]`, and turned.
    change = _products(primals[0], tangents[0])
    return _gram(*primals), change + change.mT


def _products(a: jax.Array, b: jax.Array) -> jax.Array:
    """A^T B; with precision "highest", since a GPU would round to TF32."""
    return jnp.matmul(a.mT, b, precision="highest", preferred_element_type=jnp.float32)


def content_loss(features: jax.Array, target: jax.Array) -> jax.Array:
    """The mean of (features - target)^2, of any equal shape.

    The lesson's, times its 1e6; the paper's is half the sum instead of the mean.
    """
    difference = features.astype(jnp.float32) - target.astype(jnp.float32)
    return jnp.mean(jnp.square(difference))


def style_loss(
    features: jax.Array,
    gram: jax.Array,
    normalization: Normalization = "lesson",
    mask: jax.Array | None = None,
) -> jax.Array:
    """How far the features' Gram matrix is from `gram`, `[..., c, c]` of the same normalization.

    "lesson": the mean of (G - A)^2. "gatys": the paper's, sum (G - A)^2 / (4 c^2), which is what
    its sum (F^T F - A)^2 / (4 c^2 (h w)^2) becomes with its Gram matrices over h w.
    """
    difference = gram_matrix(features, normalization, mask) - gram.astype(jnp.float32)
    loss = jnp.mean(jnp.square(difference))
    return loss if normalization == "lesson" else loss / 4


def total_variation(picture: jax.Array) -> jax.Array:
    """Half the mean absolute difference of vertical neighbours plus that of horizontal ones.

    picture: `[..., height, width, channel]`, at least 2 x 2. As d2l has it; it keeps the picture
    from growing speckles (Mahendran and Vedaldi, 2015).
    """
    down = jnp.abs(picture[..., 1:, :, :] - picture[..., :-1, :, :])
    right = jnp.abs(picture[..., 1:, :] - picture[..., :-1, :])
    return 0.5 * (jnp.mean(down) + jnp.mean(right))


def _check(normalization: str) -> None:
    if normalization not in ("lesson", "gatys"):
        raise ValueError(f"normalization is {normalization!r}: it must be 'lesson' or 'gatys'.")
