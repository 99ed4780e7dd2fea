"""A convolution with batch norm, the part that the networks of the ladder are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlessons.models.conv import Conv
from jaxlessons.models.initializers import FLAX, Initializers

NormPlacement = Literal["after", "before", "pre", "none"]
BatchNorm = Callable[..., nn.Module]

# PyTorch's BatchNorm2d keeps 0.9 of the old statistics (its `momentum` 0.1) and adds 1e-5.
DefaultNorm: BatchNorm = partial(nn.BatchNorm, momentum=0.9, epsilon=1e-5)


class BnLayer(nn.Module):
    """The lesson's BnLayer: convolution -> ReLU -> batch norm, by default in that order.

    `norm="before"` normalises ahead of the ReLU, as Ioffe and Szegedy (2015) do; `norm="pre"` is
    pre-activation, batch norm -> ReLU -> convolution (He et al., 2016); `norm="none"` leaves
    batch norm out and gives the convolution its bias back. `relu=False` leaves out the ReLU.
    kernel_size: one odd number, or (height, width).
    """

    features: int
    stride: int = 1
    kernel_size: int | tuple[int, int] = 3
    norm: NormPlacement = "after"
    batch_norm: BatchNorm = DefaultNorm
    dtype: Any = jnp.float32
    relu: bool = True
    initializers: Initializers = FLAX

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        if self.norm not in ("after", "before", "pre", "none"):
            raise ValueError(
                f"norm is {self.norm!r}: it must be 'after', 'before', 'pre' or 'none'."
            )
        size = self.kernel_size
        size = (size, size) if isinstance(size, int) else size
        if any(side < 1 or side % 2 == 0 for side in size):
            raise ValueError(f"kernel_size is {self.kernel_size}: its sides must be odd.")
        bn = self.batch_norm(use_running_average=not train, dtype=self.dtype, name="bn")
        relu = nn.relu if self.relu else lambda x: x
        if self.norm == "pre":
            x = relu(bn(x))
        x = Conv(
            self.features,
            size,
            strides=self.stride,
            # An explicit padding, since XLA's "SAME" pads only on the far side at stride 2.
            padding=tuple((side // 2, side // 2) for side in size),
            use_bias=self.norm == "none",
            dtype=self.dtype,
            name="conv",
            **self.initializers.of(math.prod(size) * x.shape[-1]),
        )(x)
        match self.norm:
            case "pre":
                return x
            case "none":
                return relu(x)
            case "after":
                return bn(relu(x))
            case "before":
                return relu(bn(x))
