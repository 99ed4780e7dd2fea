"""Metrics as (sum, count) pairs, so that any batching of a split adds up to the same figure."""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

Sums = dict[str, tuple[jax.Array, jax.Array]]


def masked_sum(values: jax.Array, mask: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """(sum, count) of values `[batch, ...]` where mask is true; no mask counts them all.

    mask: of the values' shape, or `[batch]` for examples that hold several, such as characters.
    """
    if mask is None:
        return jnp.sum(values, dtype=jnp.float32), jnp.asarray(values.size, jnp.float32)
    mask = jnp.broadcast_to(jnp.expand_dims(mask, range(mask.ndim, values.ndim)), values.shape)
    return (
        jnp.sum(jnp.where(mask, values, 0), dtype=jnp.float32),
        jnp.sum(mask, dtype=jnp.float32),
    )


def correct(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """1.0 where the largest logit is the label's, else 0.0: `[...]` for logits `[..., classes]`.

    Labels that are probabilities (mixup) count as their most probable class.
    """
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        labels = jnp.argmax(labels, axis=-1)
    return (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)


class Mean:
    """Adds up `Sums` on the host in float64: `update` with each batch's, `result` for the means.

    Leading axes, as a scan over steps gives them, are summed too.
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}

    def update(self, sums: Mapping[str, tuple[jax.Array, jax.Array]]) -> None:
        for name, (total, count) in sums.items():
            old_total, old_count = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = (
                old_total + float(np.sum(np.asarray(total, np.float64))),
                old_count + float(np.sum(np.asarray(count, np.float64))),
            )

    def result(self) -> dict[str, float]:
        return {name: total / max(count, 1.0) for name, (total, count) in self._sums.items()}


def perplexity(nats: float) -> float:
    """e to the mean loss in nats: the number of equally likely characters it stands for."""
    return math.exp(nats) if nats < 700 else math.inf


def bits_per_character(nats: float) -> float:
    """The mean loss in bits: nats / ln 2."""
    return nats / math.log(2)


def log_loss(probabilities: np.ndarray, labels: np.ndarray, epsilon: float = 1e-15) -> float:
    """The mean of -log p[label] in nats, for probabilities `[n, classes]` and labels `[n]`.

    Probabilities below `epsilon` count as epsilon, so that one certain mistake costs 34.5 nats
    and not infinity.
    """
    wide, column = np.asarray(probabilities, np.float64), np.asarray(labels)[:, None]
    own = np.take_along_axis(wide, column, axis=1)
    return float(-np.mean(np.log(np.maximum(own, epsilon))))


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The share of examples whose largest probability, of `[n, classes]`, is the label's."""
    return float(np.mean(np.argmax(probabilities, axis=1) == labels))


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts `[num_classes, num_classes]` by (true class, predicted class), both `[n]` indices."""
    matrix = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix
