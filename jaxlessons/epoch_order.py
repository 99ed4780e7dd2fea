"""The order in which an epoch takes a split's examples."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

ORDER_STREAM = 0x0E9  # keeps the epochs' keys apart from the steps', which count up from 0

# (key, epoch, count) -> the rows of an epoch, up to `count` of them, whole batches first.
Order = Callable[[jax.Array, int, int], np.ndarray]


def epoch_order(key: jax.Array, epoch: int, count: int) -> np.ndarray:
    """The permutation of `count` examples in this epoch, the same whatever came before."""
    stream = jax.random.fold_in(key, ORDER_STREAM)
    return np.asarray(jax.random.permutation(jax.random.fold_in(stream, epoch), count))


def grouped_order(groups: np.ndarray, batch_size: int) -> Order:
    """An order in which neighbours in `groups` `[count]` (int) share a batch.

    Which examples meet is drawn anew in each epoch, and so is the order of the batches; each
    batch but one a group is of one group alone. For rows that are padded to the longest of their
    batch, with the groups their lengths' buckets.
    """

    def order(key: jax.Array, epoch: int, count: int) -> np.ndarray:
        whole = count // batch_size * batch_size
        # The rest is left out here, or it would be the last group's in every epoch.
        drawn = epoch_order(key, epoch, count)[:whole]
        batches = drawn[np.argsort(groups[drawn], kind="stable")].reshape(-1, batch_size)
        return batches[
            epoch_order(jax.random.fold_in(key, batch_size), epoch, len(batches))
        ].ravel()

    return order
