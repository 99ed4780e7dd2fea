"""A convolution's gradients, in forms that a CPU computes fast; see `conv_cpu`."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlessons.models.conv_rows import NHWC, Padding


def kernel_gradient_by_product(
    x: jax.Array, d_out: jax.Array, size: Sequence[int], stride: int, padding: Padding
) -> jax.Array:
    """The kernel's gradient `[*size, i, o]` as one product of matrices, summed over all outputs.

    The one matrix has the image as each row of the kernel sees it, the other the output's gradient
    as each column is seen; or, with a stride or if that is less to copy, the one has the image as
    each row and column sees it.
    """
    (kh, kw), inputs, outputs = size, x.shape[3], d_out.shape[3]
    # So that the image's pixels, over which is summed, lie side by side, which is fast.
    x = x.transpose(3, 0, 1, 2)
    if stride > 1 or kh * kw * inputs <= kh * inputs + kw * outputs:
        rows = _seen(x, 2, kh, stride, padding[0], d_out.shape[1])
        seen = [_seen(row, 3, kw, stride, padding[1], d_out.shape[2]) for row in rows]
        products = _product(jnp.stack([place for row in seen for place in row]), d_out, outputs)
        return products.reshape(kh, kw, inputs, outputs)
    rows = _seen(x, 2, kh, 1, padding[0], d_out.shape[1])
    columns = _seen(d_out, 2, kw, 1, kw - 1 - padding[1], x.shape[3])[::-1]
    products = _product(jnp.stack(rows), jnp.stack(columns, axis=3), kw * outputs)
    return products.reshape(kh, inputs, kw, outputs).swapaxes(1, 2)


def _seen(
    array: jax.Array, axis: int, size: int, stride: int, padding: int, count: int
) -> list[jax.Array]:
    """What each of a kernel's `size` places along the axis sees from `count` positions."""
    pads = [(0, 0)] * array.ndim
    pads[axis] = (padding, padding)
    padded, span = jnp.pad(array, pads), max(0, stride * (count - 1) + 1)
    return [lax.slice_in_dim(padded, t, t + span, stride, axis) for t in range(size)]


def _product(seen: jax.Array, d_out: jax.Array, outputs: int) -> jax.Array:
    """`[..., i, n, h, w]` and `[n, h, w, ...]`, whose last axes make `outputs`, summed over n, h
    and w -> `[... * i, outputs]`."""
    places, pixels = math.prod(seen.shape[:-3]), math.prod(seen.shape[-3:])
    exact = jnp.promote_types(d_out.dtype, jnp.float32)
    left, right = seen.reshape(places, pixels), d_out.reshape(pixels, outputs)
    return jnp.matmul(left, right, preferred_element_type=exact).astype(d_out.dtype)


def input_gradient_by_product(d_out: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """The gradient `[n, h, w, i]` of a convolution with stride 1: what each place of the kernel
    gives is one product, and these are added up, shifted.

    The kernel is read as it lies, where a convolution with it would have it turned around first.
    """
    kh, kw = kernel.shape[:2]
    exact = jnp.promote_types(d_out.dtype, jnp.float32)
    contracted = (((3,), (3,)), ((), ()))
    places = lax.dot_general(d_out, kernel, contracted, preferred_element_type=exact)
    pads = [(k - 1 - p,) * 2 for k, p in zip((kh, kw), padding, strict=True)]
    places = jnp.pad(places, ((0, 0), *pads, (0, 0), (0, 0), (0, 0)))
    rows, columns = places.shape[1] - kh + 1, places.shape[2] - kw + 1
    shifted = (
        places[:, kh - 1 - t : kh - 1 - t + rows, kw - 1 - u : kw - 1 - u + columns, t, u]
        for t, u in np.ndindex(kh, kw)
    )
    return functools.reduce(jnp.add, shifted).astype(d_out.dtype)


def input_gradient_by_phases(
    d_out: jax.Array, kernel: jax.Array, stride: int, padding: Padding, size: Sequence[int]
) -> jax.Array:
    """The gradient `[n, *size, i]` of a strided convolution, as several that are not.

    d_x[stride r + a] is the sum over u of d_out[r + u] kernel[a + padding - stride u]: for each
    a below the stride a convolution of its own, with a part of the kernel.
    """
    n, height, width = len(d_out), -(-size[0] // stride), -(-size[1] // stride)
    rows, columns = (
        [_phase(a, least, k, stride, p, given) for a in range(stride)]
        for least, k, p, given in zip(
            (height, width), kernel.shape[:2], padding, d_out.shape[1:3], strict=True
        )
    )
    turned = kernel.swapaxes(2, 3)

    def phase(row: _Phase, column: _Phase) -> jax.Array:
        part = turned[row.taps, column.taps][::-1, ::-1]
        if not part.size:  # no output sees these pixels
            return jnp.zeros((n, height, width, kernel.shape[2]), d_out.dtype)
        return convolution(d_out, part, (row.pads, column.pads))

    found = jnp.stack([jnp.stack([phase(r, c) for c in columns], 3) for r in rows], 2)
    found = found.reshape(n, height * stride, width * stride, kernel.shape[2])
    return found[:, : size[0], : size[1]]


def convolution(x: jax.Array, kernel: jax.Array, pads: Sequence[tuple[int, int]]) -> jax.Array:
    """With stride 1; a negative padding leaves out rows or columns."""
    # Ahead of it: XLA's own convolution overlooks a negative padding of a single image's rows.
    cropped = [(min(low, 0), min(high, 0), 0) for low, high in pads]
    x = lax.pad(x, jnp.zeros([], x.dtype), [(0, 0, 0), *cropped, (0, 0, 0)])
    pads = [(max(low, 0), max(high, 0)) for low, high in pads]
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=NHWC)


class _Phase(NamedTuple):
    """Every `stride`th pixel of an axis: the kernel's taps it is seen by, and the padding, which
    may be negative, with which these make a convolution of the outputs."""

    taps: slice
    pads: tuple[int, int]


def _phase(a: int, least: int, size: int, stride: int, padding: int, given: int) -> _Phase:
    """The one from pixel `a` on, of `least` pixels; the kernel has `size` taps, `given` outputs."""
    taps = range((a + padding) % stride, size, stride)
    ends = (taps[-1], taps[0]) if taps else (0, 0)
    first, last = ((a + padding - tap) // stride for tap in ends)
    return _Phase(slice(taps.start, None, stride), (-first, least + last - given))
