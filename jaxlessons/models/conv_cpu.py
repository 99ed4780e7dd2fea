"""A convolution with its own gradient for CPUs: the sums of lax's, in forms that are fast there.

Of the convolutions on a CPU, XLA (jax 0.10) hands those to a fast library that step forward through
an image which is no smaller than the kernel, with more than 16 channels on one side. Others take up
to 25 times as long as a matrix product of that size. So the three sums of a layer, the output and
the gradients of image and kernel, are each written as what is fast.

Images are `[n, h, w, i]`, kernels `[kh, kw, i, o]`; stride is one for both axes, padding (rows,
columns) of zeros on either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlessons.models.conv_gradients import (
    convolution,
    input_gradient_by_phases,
    input_gradient_by_product,
    kernel_gradient_by_product,
)
from jaxlessons.models.conv_rows import NHWC, Padding, by_rows, size_of_output

# Channels on the wider side, up to which the library is not asked.
NARROW = 16
# Neighbours in a row that are computed together where channels are few.
BLOCK = 4


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv2d(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """The convolution `[n, h', w', o]`. padding: from 0 to less than the kernel's size."""
    if _is_small(x.shape, kernel.shape):
        return by_matrix(x, kernel, stride, padding)
    if max(kernel.shape[2:]) <= NARROW:
        return by_rows(x, kernel, stride, padding, BLOCK)
    return by_lax(x, kernel, stride, padding)


def _forward(
    x: jax.Array, kernel: jax.Array, stride: int, padding: Padding
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return conv2d(x, kernel, stride, padding), (x, kernel)


def _backward(
    stride: int, padding: Padding, saved: tuple[jax.Array, jax.Array], d_out: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    d_kernel = _kernel_gradient(x, kernel, d_out, stride, padding)
    if _is_small(x.shape, kernel.shape):
        return input_gradient_by_matrix(x.shape, kernel, d_out, stride, padding), d_kernel
    if stride > 1:
        by_phases = (
            input_gradient_side_by_side if x.shape[3] <= NARROW else input_gradient_by_phases
        )
        return by_phases(d_out, kernel, stride, padding, x.shape[1:3]), d_kernel
    if kernel.size > x.size + d_out.size:
        return input_gradient_by_product(d_out, kernel, padding), d_kernel
    (kh, kw), flipped = kernel.shape[:2], kernel[::-1, ::-1].swapaxes(2, 3)
    return conv2d(d_out, flipped, 1, (kh - 1 - padding[0], kw - 1 - padding[1])), d_kernel


def _kernel_gradient(
    x: jax.Array, kernel: jax.Array, d_out: jax.Array, stride: int, padding: Padding
) -> jax.Array:
    if _is_small(x.shape, kernel.shape):
        return kernel_gradient_by_matrix(x, d_out, kernel.shape, stride, padding)
    # XLA's own is a convolution from images to outputs, with the channels as its batch.
    if stride == 1 and max(kernel.shape[2:]) <= NARROW < len(x):
        return jax.vjp(partial(by_lax, x, stride=stride, padding=padding), kernel)[1](d_out)[0]
    return kernel_gradient_by_product(x, d_out, kernel.shape[:2], stride, padding)


conv2d.defvjp(_forward, _backward)


def _is_small(image: Sequence[int], kernel: Sequence[int]) -> bool:
    """Whether the kernel covers the image, so that the matrix of `by_matrix` is small too."""
    covered = image[1] < kernel[0] or image[2] < kernel[1]
    return covered and image[1] * image[2] <= kernel[0] * kernel[1]


def by_lax(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """The convolution as XLA has it."""
    pads = [(p, p) for p in padding]
    return lax.conv_general_dilated(x, kernel, (stride,) * 2, pads, dimension_numbers=NHWC)


def by_matrix(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """The convolution as one product of whole images; what would fall on the padding is left out.

    The matrix has a block `[i, o]` for each place of the image and each of the output.
    """
    taps = _taps_of_images(x.shape, kernel.shape, stride, padding)
    out = x.reshape(len(x), -1) @ _matrix(kernel, taps)
    rows, columns = size_of_output(x.shape, kernel.shape, stride, padding)
    return out.reshape(len(x), rows, columns, kernel.shape[3])


def input_gradient_by_matrix(
    image: Sequence[int], kernel: jax.Array, d_out: jax.Array, stride: int, padding: Padding
) -> jax.Array:
    """The gradient of what `by_matrix` was given, `image` being its shape."""
    taps = _taps_of_images(image, kernel.shape, stride, padding)
    return (d_out.reshape(len(d_out), -1) @ _matrix(kernel, taps).T).reshape(image)


def kernel_gradient_by_matrix(
    x: jax.Array, d_out: jax.Array, kernel: Sequence[int], stride: int, padding: Padding
) -> jax.Array:
    """The gradient of its kernel, whose shape is `kernel`: sums of the matrix's blocks."""
    taps = _taps_of_images(x.shape, kernel, stride, padding)
    (kh, kw, inputs, outputs), (places, seen) = kernel, taps.shape
    # A product for each device's images, so that what they send each other is the gradient itself,
    # and not the products that it is picked from, which are larger.
    groups = jax.device_count() if len(x) % jax.device_count() == 0 else 1
    own, theirs = (array.reshape(groups, len(x) // groups, -1) for array in (x, d_out))
    blocks = jnp.einsum("gnp,gns->gps", own, theirs).reshape(groups, places, inputs, seen, outputs)
    nothing = jnp.zeros((groups, inputs, outputs), x.dtype)
    sums = [
        sum((blocks[:, p, :, s] for p, s in np.argwhere(taps == tap)), start=nothing)
        for tap in range(kh * kw)
    ]
    return jnp.stack(sums, axis=1).sum(0).reshape(kernel)


def _taps_of_images(
    image: Sequence[int], kernel: Sequence[int], stride: int, padding: Padding
) -> np.ndarray:
    """`[h * w, h' * w']`: by which place of the kernel each output sees each place, or -1."""
    rows, columns = (
        np.arange(n)[:, None] - stride * np.arange(out) + p
        for n, out, p in zip(
            image[1:3], size_of_output(image, kernel, stride, padding), padding, strict=True
        )
    )
    return _joined(rows, columns, kernel).swapaxes(1, 2).reshape(image[1] * image[2], -1)


def _joined(rows: np.ndarray, columns: np.ndarray, kernel: Sequence[int]) -> np.ndarray:
    """`[r, a], [q, e]`, places along the kernel's sides -> `[r, a, q, e]` in it, -1 for outside."""
    rows, columns = rows[:, :, None, None], columns[None, None]
    inside = (rows >= 0) & (rows < kernel[0]) & (columns >= 0) & (columns < kernel[1])
    return np.where(inside, rows * kernel[1] + columns, -1)


def _matrix(kernel: jax.Array, taps: np.ndarray) -> jax.Array:
    """taps `[r, s]` -> `[r * i, s * o]` of the kernel's blocks, and zeros for -1."""
    kh, kw, inputs, outputs = kernel.shape
    blocks = [*kernel.reshape(kh * kw, inputs, outputs), jnp.zeros((inputs, outputs), kernel.dtype)]
    rows = [jnp.concatenate([blocks[tap] for tap in row], axis=1) for row in taps]
    return jnp.concatenate(rows)


def input_gradient_side_by_side(
    d_out: jax.Array, kernel: jax.Array, stride: int, padding: Padding, size: Sequence[int]
) -> jax.Array:
    """`input_gradient_by_phases`, as one convolution to the channels of all phases.

    Part of its kernel is zero, which costs less than few channels do.
    """
    places, pads = [], []
    for n, k, p, given in zip(size, kernel.shape[:2], padding, d_out.shape[1:3], strict=True):
        first, last = -((k - 1 - p) // stride), (stride - 1 + p) // stride
        pads.append((-first, -(-n // stride) + last - given))
        places.append(np.arange(stride) + p - stride * np.arange(first, last + 1)[:, None])
    taps = _joined(places[0], places[1], kernel.shape).swapaxes(1, 2)
    images, outputs = kernel.shape[2:]
    wide = _matrix(kernel.swapaxes(2, 3), taps.reshape(-1, stride * stride))
    wide = wide.reshape(*taps.shape[:2], outputs, -1)
    found = convolution(d_out, wide, pads)
    n, rows, columns, _ = found.shape
    found = found.reshape(n, rows, columns, stride, stride, images).swapaxes(2, 3)
    return found.reshape(n, rows * stride, columns * stride, images)[:, : size[0], : size[1]]
