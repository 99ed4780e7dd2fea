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
