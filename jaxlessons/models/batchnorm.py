"""Batch norm by hand, as the lesson writes it; drop-in for flax's BatchNorm in our networks."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class BatchNormByHand(nn.Module):
    """y = (x - mean)/sqrt(var + epsilon) * m + a, over all axes but the last.

    Ioffe and Szegedy, Batch normalization (2015). In training, mean and variance are the
    batch's, and the running ones move towards them: r <- momentum r + (1 - momentum) batch; in
    evaluation they are the running ones (the lesson's first version kept the last batch's).
    `m` (scale, starts at 1) and `a` (shift, starts at 0) are the lesson's names. The variance
    is the biased one, which is flax's choice; PyTorch keeps the unbiased in its running value.
    """

    use_running_average: bool
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = (x.shape[-1],)
        a = self.param("a", nn.initializers.zeros, channels)
        m = self.param("m", nn.initializers.ones, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        if self.use_running_average:
            mean, var = running_mean.value, running_var.value
        else:
            axes = tuple(range(x.ndim - 1))
            wide = x.astype(jnp.float32)
            mean, var = jnp.mean(wide, axes), jnp.var(wide, axes)
            if not self.is_initializing():
                old = self.momentum
                running_mean.value = old * running_mean.value + (1 - old) * mean
                running_var.value = old * running_var.value + (1 - old) * var
        shape = (1,) * (x.ndim - 1) + channels
        mean, var, m, a = (v.reshape(shape) for v in (mean, var, m, a))
        return ((x - mean) * jax.lax.rsqrt(var + self.epsilon) * m + a).astype(self.dtype)
