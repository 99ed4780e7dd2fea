"""The learning rate finder: a short mock training in which the rate grows at every step.

Smith, Cyclical learning rates for training neural networks (2015), as fast.ai made it popular.
`sweep` does the same with any setting of an optimizer; `lr_find`, `momentum_sweep` and
`weight_decay_sweep` name the usual ones. The state that goes in stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from jaxlessons import losses, mock_training, training
from jaxlessons.devices import SINGLE, Layout
from jaxlessons.errors import UserError
from jaxlessons.lr_curve import Sweep
from jaxlessons.mock_training import MakeOptimizer
from jaxlessons.training import Apply, Augment, Examples, Loss, TrainState

MIN_STEPS = 5


def sweep(
    state: TrainState,
    split: Examples,
    apply: Apply,
    make_optimizer: MakeOptimizer,
    values: Sequence[float] | np.ndarray,
    *,
    batch_size: int = 64,
    loss: Loss = losses.cross_entropy,
    augment: Augment | None = None,
    smoothing: float = 0.98,
    diverged: float = 4.0,
    name: str = "value",
    scan: bool | None = None,
    layout: Layout = SINGLE,
) -> Sweep:
    """Trains a copy of `state` for one step a value, each with `make_optimizer(value)`.

    make_optimizer is given a traced number; the optimizer's state is made once and handed on.
    apply, loss, augment: as in `training.make_train_step`. The batches and all that is random
    follow from `state.key` and `state.step`.

    The smoothed loss is the exponential average divided by the sum of its weights,
    sum_j b^(i-j) loss_j / sum_j b^(i-j) with b = smoothing, as fast.ai's. The sweep stops, and
    leaves out that step, when it is above `diverged` times its least or not finite; the loss
    must therefore be one that is above 0.

    scan: one compiled scan in all, or one call a step; by default the scan except on a CPU,
    where XLA runs convolutions inside a scan on one thread. layout: the devices, as for
    `training.fit`, where `state` is.

    Raises:
      UserError: for fewer than 5 values, or fewer than 5 steps before the sweep diverged; an
        empty split or a batch larger than it; smoothing or diverged without meaning.
    """
    values = np.asarray(values, np.float64)
    _check(values, split, smoothing, diverged)
    optimizer = mock_training.swept_optimizer(make_optimizer, values)
    train_step = training.make_train_step(
        apply, optimizer, loss=loss, augment=augment, layout=layout
    )
    step, data, share = training.brought(train_step, split, layout)
    advance = mock_training.make_advance(step, smoothing, diverged)
    carry = jax.jit(partial(mock_training.start, optimizer))(state)
    places = mock_training.batch_places(state.key, len(split.labels), batch_size, len(values))
    if scan is None:
        scan = jax.default_backend() != "cpu"
    run = mock_training.run_scan if scan else mock_training.run_loop
    each, smoothed, stopped = run(advance, carry, data, places, share)
    steps = int(np.argmax(stopped)) if stopped.any() else len(values)
    if steps < MIN_STEPS:
        raise UserError(
            f"The sweep diverged at step {steps + 1} of {len(values)}, at a {name} of "
            f"{values[steps]:.3g}: begin it lower, or check the inputs and the loss."
        )
    diverged_at = float(values[steps]) if steps < len(values) else None
    return Sweep(values[:steps], each[:steps], smoothed[:steps], diverged_at, name)


def lr_find(
    state: TrainState,
    split: Examples,
    apply: Apply,
    *,
    start: float = 1e-7,
    end: float = 10.0,
    steps: int = 100,
    optimizer: MakeOptimizer = lambda lr: optax.sgd(lr, momentum=0.9),
    **settings: Any,
) -> Sweep:
    """A sweep of the learning rate, geometric from `start` to `end`; settings: as `sweep`'s."""
    values = _geometric("learning rate", start, end, steps)
    return sweep(state, split, apply, optimizer, values, name="learning rate", **settings)


def momentum_sweep(
    state: TrainState,
    split: Examples,
    apply: Apply,
    *,
    lr: float,
    start: float = 0.5,
    end: float = 0.99,
    steps: int = 100,
    **settings: Any,
) -> Sweep:
    """A sweep of SGD's momentum at one rate, in equal steps; settings: as `sweep`'s."""
    if not 0 <= start < end < 1:
        raise UserError(
            f"The momentum is to be swept from {start:g} to {end:g}: the start must be 0 or more, "
            f"and the end above it and below 1."
        )

    def optimizer(momentum: Any) -> optax.GradientTransformation:
        return optax.sgd(lr, momentum=momentum)

    values = np.linspace(start, end, max(steps, 0))
    return sweep(state, split, apply, optimizer, values, name="momentum", **settings)


def weight_decay_sweep(
    state: TrainState,
    split: Examples,
    apply: Apply,
    *,
    lr: float,
    momentum: float = 0.9,
    start: float = 1e-6,
    end: float = 1e-1,
    steps: int = 100,
    **settings: Any,
) -> Sweep:
    """A geometric sweep of SGD's decoupled weight decay at one rate; settings: as `sweep`'s."""
    values = _geometric("weight decay", start, end, steps)

    def optimizer(decay: Any) -> optax.GradientTransformation:
        shrink = optax.add_decayed_weights(decay)
        return optax.chain(optax.trace(momentum), shrink, optax.scale_by_learning_rate(lr))

    return sweep(state, split, apply, optimizer, values, name="weight decay", **settings)


def _geometric(name: str, start: float, end: float, steps: int) -> np.ndarray:
    if not 0 < start < end < np.inf:
        raise UserError(
            f"The {name} is to be swept from {start:g} to {end:g}: the start must be above 0, "
            f"and the end above it."
        )
    return np.geomspace(start, end, max(steps, 0))


def _check(values: np.ndarray, split: Examples, smoothing: float, diverged: float) -> None:
    if values.ndim != 1 or len(values) < MIN_STEPS or not np.isfinite(values).all():
        raise UserError(
            f"A sweep needs a list of at least {MIN_STEPS} finite values, one a step: "
            f"these are {values.size}."
        )
    if not len(split.labels):
        raise UserError("The split is empty: a sweep needs training examples.")
    if not 0 <= smoothing < 1:
        raise UserError(f"smoothing is {smoothing:g}: it must be in [0, 1), as 0.98.")
    if not diverged > 1:
        raise UserError(f"diverged is {diverged:g}: it must be above 1, as 4 times the least loss.")
