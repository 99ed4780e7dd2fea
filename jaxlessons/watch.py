"""Watches a training run for the loss or the parameters turning NaN or infinite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlessons import metrics
from jaxlessons.errors import UserError
from jaxlessons.metrics import Sums


class NonFiniteError(UserError):
    """Loss or parameters became NaN or infinite; `step` is the first step seen to be."""

    def __init__(self, what: str, step: int) -> None:
        self.step = step
        super().__init__(
            f"The {what} became NaN or infinite at step {step}: try a lower rate (--lr, a tenth "
            "of it), or clip the gradient (--clip-norm 1)."
        )


class Watch:
    """Reads each call's sums one call late, so that the device never waits for the host."""

    def __init__(self, on_steps: Callable[[int, Sums], None]) -> None:
        self.mean = metrics.Mean()
        self._on_steps = on_steps
        self._waiting: tuple[int, Sums] | None = None

    def add(self, step: int, sums: Sums) -> None:
        self.flush()
        self._waiting = (step, sums)

    def flush(self) -> None:
        """Raises NonFiniteError, with the first step at fault, before anything is reported."""
        if self._waiting is None:
            return
        (step, sums), self._waiting = self._waiting, None
        loss = np.atleast_1d(np.asarray(sums["loss"][0]))
        bad = np.flatnonzero(~np.isfinite(loss))
        if bad.size:
            raise NonFiniteError("loss", step - len(loss) + int(bad[0]) + 1)
        self.mean.update(sums)
        self._on_steps(step, sums)


@jax.jit
def _all_finite(tree: Any) -> jax.Array:
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def check_finite(variables: Any, step: int) -> None:
    """Raises NonFiniteError when anything in the tree is NaN or infinite."""
    if not _all_finite(variables):
        raise NonFiniteError("network's parameters", step)
