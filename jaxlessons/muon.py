"""Muon for convolutions: orthogonal steps, from filters of a fixed norm."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

# A kernel [height, width, in, out] is the matrix of all that goes into each output.
FILTERS = contrib.MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)


def muon(
    learning_rate: optax.ScalarOrSchedule, momentum: float = 0.6, newton_schulz_steps: int = 3
) -> optax.GradientTransformation:
    """Muon for kernels `[height, width, in, out]` (Jordan et al., Muon, 2024).

    p <- p sqrt(out)/|p| - rate O, where O is Nesterov's momentum with its singular values
    brought near 1 by a few Newton-Schulz steps, in which the gradient's scale plays no part. The
    momentum is optax's, which divides by its weights' sum; that changes the first few steps alone.
    """

    def filters(tree: Any) -> Any:
        return jax.tree.map(lambda _: FILTERS, tree)

    return optax.chain(
        contrib.scale_by_muon(
            ns_steps=newton_schulz_steps, beta=momentum, weight_dimension_numbers=filters
        ),
        optax.scale_by_learning_rate(learning_rate),
        _from_fixed_norm(),
    )


def _from_fixed_norm() -> optax.GradientTransformation:
    """Turns an update into one that first scales its kernel to the norm sqrt(out)."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        if params is None:
            raise ValueError("muon: update needs the parameters as well.")

        def add(change: jax.Array, p: jax.Array) -> jax.Array:
            scale = p.shape[-1] ** 0.5 / jnp.sqrt(jnp.sum(p**2))
            return change + (scale - 1) * p

        return jax.tree.map(add, updates, params), state

    return optax.GradientTransformation(optax.init_empty_state, update)
