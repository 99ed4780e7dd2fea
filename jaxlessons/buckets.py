"""Rows of many lengths in batches that are no wider than their longest row needs.

A row `[time]` of tokens is filled up with negative ones. A batch is cut to one of a few widths: the
first that holds all that is real in it. A step for that is one program with a branch for each
width, so it is compiled once, and a scan over steps may hold it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def bucket_widths(longest: int, count: int = 4) -> tuple[int, ...]:
    """Up to `count` widths for rows up to `longest`, rising, each about sqrt(2) times the last.

    bucket_widths(20) is (8, 10, 15, 20). In every bucket but the first no row is more than a third
    padding, and the narrow ones are few. There are fewer where the narrowest would repeat.
    """
    count = min(count, 2 + 2 * math.ceil(math.log2(max(longest, 1))))  # by then the width is 1
    return tuple(sorted({-int(-longest // 2 ** (k / 2)) for k in range(count)}))


def bucket_of(lengths: np.ndarray, widths: Sequence[int]) -> np.ndarray:
    """The place in `widths`, rising, of the first that holds each of `lengths` `[n]`."""
    return np.minimum(np.searchsorted(widths, lengths), len(widths) - 1)


def in_buckets(train_step: Callable[..., Any], widths: Sequence[int]) -> Callable[..., Any]:
    """A `training.TrainStep` whose batches are cut to the first of `widths` that holds them.

    train_step: takes a split with tokens `[n, time]` as its inputs, filled up with negative ones.
    widths: rising, the last one as wide as the longest row. What was real is all that the step
    sees, so that the result is that of `train_step` itself, up to rounding.
    """

    def step(state: Any, split: Any, place: Any) -> Any:
        rows = place.rows if len(split.labels) > len(place.rows) else slice(None)
        real = jnp.sum(split.inputs[rows] >= 0, axis=1)
        # Around the gradient and not within it: what one branch saves for its way back, all
        # others would fill with zeros, which takes longer than the padding did.
        branch = jnp.searchsorted(jnp.asarray(widths[:-1], jnp.int32), jnp.max(real))
        return jax.lax.switch(branch, [cut(width) for width in widths], state, split, place)

    def cut(width: int) -> Callable[..., Any]:
        def narrow(state: Any, split: Any, place: Any) -> Any:
            return train_step(state, split._replace(inputs=split.inputs[:, :width]), place)

        return narrow

    return jax.jit(step, donate_argnums=0)
