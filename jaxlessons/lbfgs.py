"""L-BFGS's direction by hand: the two-loop recursion, as lesson 13 explains it.

Newton's method goes along -H^-1 g, which for a picture's 200,000 pixels is out of the question: H
has 200,000^2 entries. L-BFGS makes H^-1 g from the last few steps s_k = x_k+1 - x_k and what they
did to the gradient, y_k = g_k+1 - g_k, and never makes a matrix (Nocedal and Wright, Numerical
optimization, 2006, algorithm 7.4). `minimize` uses optax's; the two agree.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def direction(
    gradient: jax.Array, steps: Sequence[jax.Array], changes: Sequence[jax.Array]
) -> jax.Array:
    """-H^-1 g, where H^-1 is what the last steps, oldest first, tell of the inverse Hessian.

    gradient: `[n]`; steps: s_k `[n]` each; changes: y_k `[n]` each, with s_k . y_k above 0. With
    no steps yet it is -g, shortened to a length of at most 1, as optax has it.
    """
    if not steps:
        return -gradient * jnp.minimum(1.0, 1.0 / jnp.linalg.norm(gradient))
    rho = [1 / (s @ y) for s, y in zip(steps, changes, strict=True)]
    q, alphas = gradient, []
    # From the newest to the oldest: take away what each step has already learnt.
    for s, y, r in zip(reversed(steps), reversed(changes), reversed(rho), strict=True):
        alpha = r * (s @ q)
        alphas.append(alpha)
        q = q - alpha * y
    # The inverse Hessian of the memory's start: the curvature along the newest step.
    s, y = steps[-1], changes[-1]
    z = q * (s @ y) / (y @ y)
    # Back from the oldest to the newest.
    for s, y, r, alpha in zip(steps, changes, rho, reversed(alphas), strict=True):
        z = z + s * (alpha - r * (y @ z))
    return -z
