"""Metrics as (sum, count) pairs, so that any batching of a split adds up to the same figure.

Below them what is measured of a whole split at once: confusions, what a classifier makes of the
shares that the classes have in its data, and whether its probabilities are true ones. These take
arrays or lists, and raise UserError where there is nothing to measure, where indices are out of
range, or where two arguments are not of the same examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxlessons.errors import UserError

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


def log_loss(probabilities: ArrayLike, labels: ArrayLike, epsilon: float = 1e-15) -> float:
    """The mean of -log p[label] in nats, for probabilities `[n, classes]` and labels `[n]`.

    Probabilities below `epsilon` count as epsilon, so that one certain mistake costs 34.5 nats
    and not infinity.
    """
    wide, labels = _predictions(probabilities, labels)
    own = np.take_along_axis(wide, labels[:, None], axis=1)
    return float(-np.mean(np.log(np.maximum(own, epsilon))))


def accuracy(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The share of examples whose largest probability, of `[n, classes]`, is the label's."""
    wide, labels = _predictions(probabilities, labels)
    return float(np.mean(np.argmax(wide, axis=1) == labels))


def confusion_matrix(predicted: ArrayLike, labels: ArrayLike, num_classes: int) -> np.ndarray:
    """Counts `[num_classes, num_classes]` by (true class, predicted class), both `[n]` indices."""
    predicted = _indices(predicted, num_classes, "predicted")
    labels = _indices(labels, num_classes, "labels", len(predicted))
    matrix = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


def balanced_accuracy(predicted: ArrayLike, labels: ArrayLike, num_classes: int) -> float:
    """The mean over the classes that occur of the share of their examples that is right.

    predicted, labels: `[n]` indices. A classifier that always names the same class has
    1 / classes that occur, however large that class is.
    """
    return float(np.nanmean(accuracy_by_group(predicted, labels, labels, num_classes)))


def accuracy_by_group(
    predicted: ArrayLike, labels: ArrayLike, groups: ArrayLike, num_groups: int
) -> np.ndarray:
    """`[num_groups]`: the share that is right of each group's examples; NaN where it has none.

    predicted, labels, groups: `[n]` indices. With the labels as groups, each class's recall.
    """
    groups = _indices(groups, num_groups, "groups")
    predicted, labels = (
        _indices(of, math.inf, what, len(groups))
        for of, what in ((predicted, "predicted"), (labels, "labels"))
    )
    right = np.bincount(groups[predicted == labels], minlength=num_groups)
    return _share(right, np.bincount(groups, minlength=num_groups))


def class_share(indices: ArrayLike, num_classes: int) -> np.ndarray:
    """`[num_classes]`: the share that each class has among labels, or predictions, `[n]`."""
    indices = _indices(indices, num_classes, "indices")
    return np.bincount(indices, minlength=num_classes) / len(indices)


def bias_amplification(data: ArrayLike, predicted: ArrayLike) -> float:
    """By how much more one-sided the predictions are than the data (Zhao et al., 2017).

    data, predicted: counts or shares `[..., groups]`. With b the share of a group in its row,
    the mean over the rows of the sum, over the groups with b_data > 1 / groups, of
    b_predicted - b_data. Zhao et al. have a row for each activity and women and men as the groups:
    of the cooks 67 % are women in the data and 84 % in the predictions, so that row adds 0.17. One
    row of classes tells what the large ones gain together. Positive is amplified, negative is
    dampened. Rows that are empty in either are left out.
    """
    rows = [_rows(of, what) for of, what in ((data, "data"), (predicted, "predicted"))]
    if rows[0].shape != rows[1].shape:
        raise UserError(
            f"data is {list(np.shape(data))} and predicted {list(np.shape(predicted))}: they must "
            "have the same groups."
        )
    totals = [row.sum(axis=1, keepdims=True) for row in rows]
    filled = ((totals[0] > 0) & (totals[1] > 0))[:, 0]
    if not filled.any():
        return 0.0
    before, after = (row[filled] / total[filled] for row, total in zip(rows, totals, strict=True))
    # Counts are compared as they are; a share that is equal may be rounded to more.
    margin = 0.0 if np.asarray(data).dtype.kind in "iub" else 1e-6
    large = rows[0][filled] * before.shape[1] > totals[0][filled] * (1 + margin)
    return float(np.mean(np.sum(np.where(large, after - before, 0), axis=1)))


class Reliability(NamedTuple):
    """What became of predictions by how sure they were: arrays `[bins]`, NaN where counts is 0.

    edges: `[bins + 1]`, from 0 to 1; a bin holds (edge, next edge]. counts: its examples.
    confidence: the mean of their highest probabilities. accuracy: the share of them that is right.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> Reliability:
    """Accuracy by confidence, for probabilities `[n, classes]` and labels `[n]`.

    Of a calibrated classifier's predictions with confidence p the share p is right (Niculescu-Mizil
    and Caruana, 2005; Guo et al., 2017, with 15 bins of one width).
    """
    wide, labels = _predictions(probabilities, labels)
    confidence, right = np.max(wide, axis=1), np.argmax(wide, axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    # Rounding can take a probability above 1.
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    sums = (np.bincount(place, weights=w, minlength=bins) for w in (confidence, right))
    return Reliability(edges, counts, *(_share(total, counts) for total in sums))


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 15
) -> float:
    """Sum over the bins of count / n |accuracy - confidence| (Naeini et al., 2015).

    probabilities `[n, classes]`, labels `[n]`; the bins are those of `reliability`.
    """
    found = reliability(probabilities, labels, bins)
    gap = np.abs(found.accuracy - found.confidence)
    return float(np.nansum(found.counts * gap) / found.counts.sum())


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where whole is 0."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _predictions(probabilities: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """float64 probabilities `[n, classes]` and labels `[n]`."""
    wide = np.asarray(probabilities, np.float64)
    if wide.ndim != 2 or 0 in wide.shape:
        raise UserError(
            f"probabilities is {list(wide.shape)}: it must be [n, classes], none of them 0."
        )
    # argmax takes a NaN for the largest.
    if (broken := np.isnan(wide).any(axis=1)).any():
        raise UserError(
            f"probabilities[{int(broken.argmax())}] holds NaN: the network has diverged; take an "
            "earlier checkpoint."
        )
    return wide, _indices(labels, wide.shape[1], "labels", len(wide))


def _indices(values: ArrayLike, limit: float, what: str, count: int | None = None) -> np.ndarray:
    """`[n]` whole numbers from 0 to below `limit`, of `count` examples."""
    array = np.asarray(values)
    if array.ndim != 1 or not len(array):
        raise UserError(f"{what} is {list(array.shape)}: it must be [n], of one example or more.")
    if array.dtype.kind not in "iub":
        raise UserError(f"{what} is of type {array.dtype}: it must be whole numbers.")
    if count not in (None, len(array)):
        raise UserError(f"{what} is of {len(array):,} examples: the others are of {count:,}.")
    array = array.astype(np.int64)
    odd = (array < 0) | (array >= limit)
    if odd.any():
        raise UserError(
            f"{what}[{int(odd.argmax())}] is {array[odd][0]}: it must be from 0 to below {limit}."
        )
    return array


def _rows(values: ArrayLike, what: str) -> np.ndarray:
    """Counts or shares `[..., groups]` as float64 `[rows, groups]`."""
    array = np.asarray(values, np.float64)
    if not array.size:
        raise UserError(f"{what} is {list(array.shape)}: it must be [..., groups], none of them 0.")
    if not (np.isfinite(array) & (array >= 0)).all():
        raise UserError(f"{what} holds what is neither a count nor a share: all must be 0 or more.")
    return array.reshape(-1, array.shape[-1] if array.ndim else 1)
