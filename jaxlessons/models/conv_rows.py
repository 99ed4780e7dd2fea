"""Convolutions of wider pixels, each of which is several neighbours in a row; see `conv_cpu`.

So that few channels become many, and the products of matrices as wide as a CPU is fast with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Padding = tuple[int, int]
NHWC = ("NHWC", "HWIO", "NHWC")


def size_of_output(
    image: Sequence[int], kernel: Sequence[int], stride: int, padding: Padding
) -> tuple[int, int]:
    """The output's rows and columns."""
    rows, columns = (
        (n + 2 * p - k) // stride + 1
        for n, k, p in zip(image[1:3], kernel[:2], padding, strict=True)
    )
    return rows, columns


def by_rows(
    x: jax.Array, kernel: jax.Array, stride: int, padding: Padding, block: int
) -> jax.Array:
    """The convolution of wider pixels: each is what `block` neighbours in an output row see.

    So that few channels become kw + block - 1 times as many; part of the wider kernel is zero.
    """
    kh, kw, _, outputs = kernel.shape
    columns = size_of_output(x.shape, kernel.shape, stride, padding)[1]
    seen = jnp.stack(_seen(x, kw, stride, padding[1], block, columns), axis=2)
    shifts = _shifts(kw, stride, block, kernel.dtype)
    wide_kernel = jnp.einsum("xbu,tuio->txibo", shifts, kernel)
    out = lax.conv_general_dilated(
        seen,
        wide_kernel.reshape(kh, 1, -1, block * outputs),
        (stride, 1),
        ((padding[0],) * 2, (0, 0)),
        dimension_numbers=NHWC,
    )
    return out.reshape(*out.shape[:2], -1, outputs)[:, :, :columns]


def kernel_gradient_by_rows(
    x: jax.Array,
    d_out: jax.Array,
    size: Sequence[int],
    stride: int,
    padding: Padding,
    block: int,
    together: int,
) -> jax.Array:
    """The kernel's gradient `[*size, i, o]`: products for each of its rows, of wider pixels.

    Of a product's blocks, each of a place that is seen and one of `block` neighbours that see it,
    those that belong to the same column of the kernel are added up. together: images, a divisor of
    n, whose sums are one product; what the products give is added up.
    """
    rows, columns, outputs = d_out.shape[1:]
    seen = jnp.stack(_seen(x, size[1], stride, padding[1], block, columns), axis=2)
    seen = jnp.pad(seen, ((0, 0), (padding[0],) * 2, (0, 0), (0, 0)))
    beyond = seen.shape[2] * block - columns
    groups, wide = len(x) // together, seen.shape[-1]
    d_out = jnp.pad(d_out, ((0, 0), (0, 0), (0, beyond), (0, 0)))
    d_out = d_out.reshape(groups, -1, block * outputs)
    seen = seen.reshape(groups, together, *seen.shape[1:])
    # Small products are fast if the sums run along memory.
    turned = groups > 1
    seen = jnp.moveaxis(seen, -1, 1) if turned else seen
    shifts = _shifts(size[1], stride, block, d_out.dtype)
    exact = jnp.promote_types(d_out.dtype, jnp.float32)

    def kernel_row(t: int) -> jax.Array:
        own = lax.slice_in_dim(seen, t, t + stride * (rows - 1) + 1, stride, axis=2 + turned)
        own = own.reshape((groups, wide, -1) if turned else (groups, -1, wide))
        dimensions = (((1 + turned,), (1,)), ((0,), (0,)))
        products = lax.dot_general(own, d_out, dimensions, preferred_element_type=exact)
        blocks = products.sum(0).reshape(shifts.shape[0], x.shape[-1], block, outputs)
        return jnp.einsum("xbu,xibo->uio", shifts, blocks.astype(d_out.dtype))

    return jnp.stack([kernel_row(t) for t in range(size[0])])


def _seen(
    x: jax.Array, kw: int, stride: int, padding: int, block: int, columns: int
) -> list[jax.Array]:
    """For each `block` of an output row's columns what they see, `[n, h, wide * i]`."""
    n, height, width, channels = x.shape
    blocks, wide = -(-columns // block), stride * (block - 1) + kw
    beyond = stride * block * (blocks - 1) + wide - width - padding
    flat = jnp.pad(x, ((0, 0), (0, 0), (padding, max(0, beyond)), (0, 0))).reshape(n, height, -1)
    starts = stride * block * channels * np.arange(blocks)
    return [flat[:, :, at : at + wide * channels] for at in starts]


def _shifts(kw: int, stride: int, block: int, dtype: Any) -> jax.Array:
    """One-hot `[wide, block, kw]`: the kernel's column by which each sees each place."""
    wide = stride * (block - 1) + kw
    columns = np.arange(wide)[:, None] - stride * np.arange(block)
    return jnp.asarray(columns[..., None] == np.arange(kw), dtype)
