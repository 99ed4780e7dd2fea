"""The learning rate finder: a short mock training in which the rate grows at every step.

Smith, Cyclical learning rates for training neural networks (2015), as fast.ai made it popular.
`sweep` does the same with any setting of an optimizer; `lr_find`, `momentum_sweep` and
`weight_decay_sweep` name the usual ones. The state that goes in stays as it was.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlessons import losses, training
from jaxlessons.errors import UserError
from jaxlessons.lr_curve import Sweep
from jaxlessons.training import Apply, Augment, Examples, Loss, Place, TrainState, TrainStep

MIN_STEPS = 5

# A value, traced, -> the optimizer that has it.
MakeOptimizer = Callable[[Any], optax.GradientTransformation]


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
    where XLA runs convolutions inside a scan on one thread.

    Raises:
      UserError: for fewer than 5 values, or fewer than 5 steps before the sweep diverged; an
        empty split or a batch larger than it; smoothing or diverged without meaning.
    """
    values = np.asarray(values, np.float64)
    _check(values, split, smoothing, diverged)
    optimizer = _swept(make_optimizer, values)
    train_step = training.make_train_step(apply, optimizer, loss=loss, augment=augment)
    advance = _make_advance(train_step, smoothing, diverged)
    carry = jax.jit(functools.partial(_start, optimizer))(state)
    rows = _rows(state.key, len(split.labels), batch_size, len(values))
    run = _scan if (jax.default_backend() != "cpu" if scan is None else scan) else _loop
    each, smoothed, stopped = run(advance, carry, split, rows)
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


class _SweptState(NamedTuple):
    """step: int32 scalar; values: `[steps]` float32; inner: the optimizer's own."""

    step: jax.Array
    values: jax.Array
    inner: Any


def _swept(make_optimizer: MakeOptimizer, values: np.ndarray) -> optax.GradientTransformation:
    """The optimizer that has `values[i]` in its step i."""

    def init(params: Any) -> _SweptState:
        table = jnp.asarray(values, jnp.float32)
        return _SweptState(jnp.zeros([], jnp.int32), table, make_optimizer(table[0]).init(params))

    def update(grads: Any, state: _SweptState, params: Any = None) -> tuple[Any, _SweptState]:
        optimizer = make_optimizer(state.values[state.step])
        updates, inner = optimizer.update(grads, state.inner, params)
        return updates, _SweptState(state.step + 1, state.values, inner)

    return optax.GradientTransformation(init, update)


class _Track(NamedTuple):
    """The smoothed loss so far: float32 scalars, and whether it has diverged."""

    average: jax.Array
    weight: jax.Array
    least: jax.Array
    stopped: jax.Array


Carry = tuple[TrainState, _Track]
Output = tuple[jax.Array, jax.Array, jax.Array]  # loss, smoothed loss, whether it has diverged
Advance = Callable[[Carry, Examples, Place], tuple[Carry, Output]]
Rows = tuple[np.ndarray, np.ndarray]  # those of all batches `[steps, batch]`; epochs `[steps]`
Curves = tuple[np.ndarray, np.ndarray, np.ndarray]  # the outputs of all steps taken


def _start(optimizer: optax.GradientTransformation, state: TrainState) -> Carry:
    """Copies all of the state: the train step donates what it gets, and it is the caller's."""
    state = state.replace(opt_state=optimizer.init(state.params))
    track = _Track(jnp.float32(0), jnp.float32(0), jnp.float32(jnp.inf), jnp.bool_(False))
    return jax.tree.map(jnp.copy, (state, track))


def _make_advance(train_step: TrainStep, smoothing: float, diverged: float) -> Advance:
    def advance(carry: Carry, split: Examples, place: Place) -> tuple[Carry, Output]:
        state, track = carry
        state, sums = train_step(state, split, place)
        total, count = sums["loss"]
        loss = total / count
        average = smoothing * track.average + (1 - smoothing) * loss
        weight = smoothing * track.weight + (1 - smoothing)
        smoothed = average / weight
        least = jnp.minimum(track.least, smoothed)
        stopped = ~jnp.isfinite(smoothed) | (smoothed > diverged * least)
        return (state, _Track(average, weight, least, stopped)), (loss, smoothed, stopped)

    return advance


def _loop(advance: Advance, carry: Carry, split: Examples, rows: Rows) -> Curves:
    step = jax.jit(advance, donate_argnums=0)
    outputs = []
    for place in zip(*rows, strict=True):
        carry, output = step(carry, split, Place(*place))
        outputs.append(jax.device_get(output))
        if outputs[-1][-1]:
            break
    each, smoothed, stopped = (np.array(column) for column in zip(*outputs, strict=True))
    return each, smoothed, stopped


def _scan(advance: Advance, carry: Carry, split: Examples, rows: Rows) -> Curves:
    """After the step that diverged it only repeats that it has."""

    def skip(carry: Carry, place: Place) -> tuple[Carry, Output]:
        return carry, (jnp.float32(jnp.nan), jnp.float32(jnp.nan), jnp.bool_(True))

    @jax.jit
    def run(carry: Carry, split: Examples, places: Place) -> Output:
        def body(carry: Carry, place: Place) -> tuple[Carry, Output]:
            return jax.lax.cond(
                carry[1].stopped, skip, lambda c, p: advance(c, split, p), carry, place
            )

        return jax.lax.scan(body, carry, places)[1]

    places = Place(*map(jnp.asarray, rows))
    each, smoothed, stopped = jax.device_get(run(carry, split, places))
    return each, smoothed, stopped


def _rows(key: jax.Array, count: int, batch_size: int, steps: int) -> Rows:
    """As in a new training; numpy's, since taking a jax array apart costs a compilation."""
    per_epoch = training.steps_per_epoch(count, batch_size)
    epochs = np.arange(steps) // per_epoch
    orders = [training.epoch_order(key, epoch, count) for epoch in range(epochs[-1] + 1)]
    rows = np.concatenate([order[: per_epoch * batch_size] for order in orders])
    rows = rows.reshape(-1, batch_size)[:steps]
    return rows.astype(np.int32), epochs.astype(np.int32)
