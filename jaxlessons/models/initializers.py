"""What the parameters of convolutions and dense layers are before training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

Initializer = Callable[..., jax.Array]


def uniform_init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """PyTorch's: uniform in +-1/sqrt(fan_in), a deviation of 1/sqrt(3 fan_in)."""
    return nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")(key, shape, dtype)


def uniform_bias(fan_in: int) -> Initializer:
    """PyTorch's for the bias of a layer in which each output is a sum of `fan_in` products."""

    def draw(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5)

    return draw


def no_bias(_fan_in: int) -> Initializer:
    """Zeros."""
    return nn.initializers.zeros


class Initializers(NamedTuple):
    """A network's: the kernels', and, by fan_in, the biases'."""

    kernel: Initializer
    bias: Callable[[int], Initializer]

    def of(self, fan_in: int) -> dict[str, Any]:
        """The two as nn.Dense and nn.Conv take them."""
        return {"kernel_init": self.kernel, "bias_init": self.bias(fan_in)}


FLAX = Initializers(nn.initializers.lecun_normal(), no_bias)
PYTORCH = Initializers(uniform_init, uniform_bias)
