"""The most that a device computes in practice, for others' figures to be shares of."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def matmul_peak(dtype: Any, size: int, repeats: int = 8, rounds: int = 5) -> float:
    """FLOP a second of products of size x size matrices in `dtype`, the best of some rounds.

    A round is `repeats` products in a row, each with the one before, in one compiled program; a
    product is 2 size^3 operations. The best round, since all that disturbs one makes it slower.
    """
    # Random, since a GPU draws less power for zeros and then has a higher clock.
    x = jax.random.normal(jax.random.key(0), (size, size), jnp.float32).astype(dtype)
    # Of a norm that neither grows nor vanishes over the products.
    factor = (x / jnp.asarray(size**0.5, dtype)).astype(dtype)

    def chain(x: jax.Array, factor: jax.Array) -> jax.Array:
        # Written out: in a loop XLA computes a CPU's products on one thread.
        for _ in range(repeats):
            x = x @ factor
        return x

    run = jax.jit(chain).lower(x, factor).compile()
    return best_rate(lambda: jax.block_until_ready(run(x, factor)), 2 * size**3 * repeats, rounds)


def best_rate(run: Callable[[], Any], operations: float, rounds: int) -> float:
    """Operations a second of a call, the best of some rounds, after one that isn't timed."""
    run()
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return operations / min(seconds)
