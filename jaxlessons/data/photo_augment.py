"""fast.ai's side-on transforms for photos, as functions of (key, images) for a jitted step.

Flip, small rotation, zoom up to 1.1 and lighting are what `transforms_side_on` with `max_zoom=1.1`
does in fast.ai 0.7; here the first three are one bilinear sampling of the photo instead of three.
Images are `[batch, height, width, channel]`, 0..255; each draws its own luck from the key.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def side_on(key: jax.Array, images: jax.Array) -> jax.Array:
    """All of them at fast.ai's strength, float32 0..255."""
    move_key, light_key = jax.random.split(key)
    return random_lighting(light_key, random_affine(move_key, images))


def random_affine(
    key: jax.Array,
    images: jax.Array,
    degrees: float = 10.0,
    zoom: float = 1.1,
    share: float = 0.75,
    flip: bool = True,
) -> jax.Array:
    """Flips, rotates and zooms each image about a random place of it; float32.

    The angle is uniform in +-`degrees`, the zoom in 1..`zoom`, each for the `share` of the images
    that get it; the window that a zoom leaves is at a random place. Half are mirrored. What falls
    outside is the image mirrored at its border.
    """
    batch, height, width, _ = images.shape
    keys = jax.random.split(key, 6)
    turned, zoomed, mirrored = (
        jax.random.bernoulli(k, p, (batch,))
        for k, p in zip(keys[:3], (share, share, 0.5), strict=True)
    )
    angle = jnp.deg2rad(jax.random.uniform(keys[3], (batch,), minval=-degrees, maxval=degrees))
    scale = jax.random.uniform(keys[4], (batch,), minval=1.0, maxval=zoom)
    angle, scale = jnp.where(turned, angle, 0.0), jnp.where(zoomed, scale, 1.0)
    sign = jnp.where(mirrored & flip, -1.0, 1.0)
    # A window of 1/scale of the image can move by half of what it leaves out, either way.
    room = (1 - 1 / scale)[:, None] / 2 * jnp.array([[height, width]], jnp.float32)
    shift = room * jax.random.uniform(keys[5], (batch, 2), minval=-1.0, maxval=1.0)

    cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    rows = jnp.stack([cos, -sin * sign], axis=-1)
    columns = jnp.stack([sin, cos * sign], axis=-1)
    return affine_sample(images, jnp.stack([rows, columns], axis=-2), shift)


def affine_sample(images: jax.Array, matrix: jax.Array, shift: jax.Array) -> jax.Array:
    """out(p) = image(c + shift + matrix (p - c)), c the image's middle; float32, bilinear.

    matrix `[batch, 2, 2]` and shift `[batch, 2]` act on (row, column) in pixels. Beyond the border
    the image goes on mirrored, its edge pixels twice (OpenCV's BORDER_REFLECT).
    """
    batch, height, width, channels = images.shape
    middle = jnp.array([(height - 1) / 2, (width - 1) / 2], jnp.float32)
    grid = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), axis=-1)
    offsets = grid.reshape(-1, 2) - middle[None]
    # At full precision, since an accelerator would round coordinates by tenths of a pixel.
    moved = jnp.einsum("bij,pj->bpi", matrix, offsets, precision=jax.lax.Precision.HIGHEST)
    place = moved + (middle[None] + shift)[:, None]
    low = jnp.floor(place)
    part = place - low
    row0, column0 = low[..., 0].astype(jnp.int32), low[..., 1].astype(jnp.int32)

    corners = [(row0 + i, column0 + j) for i in (0, 1) for j in (0, 1)]
    index = jnp.stack([_reflect(r, height) * width + _reflect(c, width) for r, c in corners])
    weight = jnp.stack(
        [
            (part[..., 0] if i else 1 - part[..., 0]) * (part[..., 1] if j else 1 - part[..., 1])
            for i in (0, 1)
            for j in (0, 1)
        ]
    )
    pixels = images.reshape(batch, height * width, channels)
    found = pixels[jnp.arange(batch)[None, :, None], index].astype(jnp.float32)
    return jnp.sum(found * weight[..., None], axis=0).reshape(batch, height, width, channels)


def _reflect(index: jax.Array, size: int) -> jax.Array:
    """0..size-1 for any index: ... 1 0 | 0 1 ... size-1 | size-1 size-2 ..."""
    index = jnp.mod(index, 2 * size)
    return jnp.where(index < size, index, 2 * size - 1 - index)


def random_lighting(
    key: jax.Array, images: jax.Array, balance: float = 0.05, contrast: float = 0.05
) -> jax.Array:
    """(x - mean) c + mean + 255 b, clipped to 0..255, mean being each image's own; float32.

    b is uniform in +-`balance`. c is 1 + u for u >= 0 and 1/(1 - u) below, u uniform in
    +-`contrast`, so that more contrast is as likely as less.
    """
    batch = images.shape[0]
    balance_key, contrast_key = jax.random.split(key)
    shift = 255 * jax.random.uniform(balance_key, (batch, 1, 1, 1), minval=-balance, maxval=balance)
    u = jax.random.uniform(contrast_key, (batch, 1, 1, 1), minval=-contrast, maxval=contrast)
    factor = jnp.where(u < 0, 1 / (1 - u), 1 + u)
    images = images.astype(jnp.float32)
    mean = jnp.mean(images, axis=(1, 2, 3), keepdims=True)
    return jnp.clip((images - mean) * factor + mean + shift, 0.0, 255.0)
