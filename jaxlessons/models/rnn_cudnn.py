"""The LSTM of NVIDIA's cuDNN, through jax.experimental.rnn."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.experimental import rnn

from jaxlessons.models.cells import Carry, Params, step_mask


def is_available() -> bool:
    """Whether the default device is an NVIDIA GPU."""
    return jax.default_backend() == "gpu" and "cuda" in jax.devices()[0].client.platform_version


def lstm(
    layers: Sequence[Sequence[Params]],
    x: jax.Array,
    carry: tuple[Carry, ...],
    lengths: jax.Array | None,
) -> tuple[jax.Array, tuple[Carry, ...]]:
    """(outputs `[batch, time, directions * features]`, carry) of a stack of LSTM layers.

    layers: by layer, the parameters of its one or two directions. carry: (h, c) of each layer and
    direction, in that order. lengths: int32 `[batch]`. cuDNN multiplies in TF32, which rounds the
    factors to 10 bits, unless within `jax.default_matmul_precision("highest")`.
    """
    features = layers[0][0]["weight_hh"].shape[1]
    directions = [params for layer in layers for params in layer]
    # cuDNN wants all weights ahead of all biases.
    flat = [params[name] for params in directions for name in ("weight_ih", "weight_hh")]
    flat += [params[name] for params in directions for name in ("bias_ih", "bias_hh")]
    given = jnp.full(x.shape[:1], x.shape[1], jnp.int32) if lengths is None else lengths
    outputs, h, c = rnn.lstm(
        x,
        jnp.stack([h for h, _ in carry]),
        jnp.stack([c for _, c in carry]),
        jnp.concatenate([weight.reshape(-1) for weight in flat]),
        jnp.maximum(given, 1),  # cuDNN refuses empty sequences
        input_size=x.shape[-1],
        hidden_size=features,
        num_layers=len(layers),
        dropout=0.0,
        bidirectional=len(layers[0]) == 2,
    )
    new = tuple(zip(h, c, strict=True))
    if lengths is None:
        return outputs, new
    real = jnp.swapaxes(step_mask(lengths, x.shape[1]), 0, 1)
    outputs = jnp.where(jnp.broadcast_to(real, outputs.shape), outputs, 0)
    empty = jnp.broadcast_to((lengths == 0)[:, None], h[0].shape)
    return outputs, jax.tree.map(lambda new, old: jnp.where(empty, old, new), new, carry)
