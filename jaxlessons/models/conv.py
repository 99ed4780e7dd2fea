"""The convolution that the networks use: lax's, and on a CPU what XLA computes fast there."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
from jax import lax

from jaxlessons.models.conv_cpu import conv2d


def conv_general_dilated(
    x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **settings: Any
) -> jax.Array:
    """`lax.conv_general_dilated` for flax's Conv; on a CPU `conv_cpu.conv2d` where that will do."""
    if jax.default_backend() == "cpu" and _is_plain(x, kernel, strides, padding, settings):
        return conv2d(x, kernel, strides[0], (padding[0][0], padding[1][0]))
    return lax.conv_general_dilated(x, kernel, strides, padding, **settings)


def _is_plain(
    x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, settings: dict[str, Any]
) -> bool:
    """Two dimensions, square stride, symmetric padding, neither dilated nor grouped."""
    return (
        x.ndim == 4
        and strides[0] == strides[1]
        and not isinstance(padding, str)
        and all(0 <= low == high < k for (low, high), k in zip(padding, kernel.shape, strict=False))
        and set(settings.get("lhs_dilation") or (1,)) == {1}
        and set(settings.get("rhs_dilation") or (1,)) == {1}
        and settings.get("feature_group_count", 1) == 1
        and settings.get("precision") is None
    )


Conv = partial(nn.Conv, conv_general_dilated=conv_general_dilated)
