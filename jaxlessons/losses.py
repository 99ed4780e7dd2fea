"""Losses, one value an example, from logits."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """-sum_k t_k log softmax(logits)_k in nats, `[...]`, for logits `[..., classes]`.

    labels: class indices `[...]` (integers), or probabilities `[..., classes]` as mixup gives.
    label_smoothing e replaces the target t by (1 - e) t + e/classes (Szegedy et al., 2015).
    """
    classes = logits.shape[-1]
    if jnp.issubdtype(labels.dtype, jnp.integer):
        target = jax.nn.one_hot(labels, classes, dtype=jnp.float32)
    else:
        target = labels.astype(jnp.float32)
    target = (1 - label_smoothing) * target + label_smoothing / classes
    return -jnp.sum(target * jax.nn.log_softmax(logits.astype(jnp.float32)), axis=-1)
