"""The mock training of a sweep: a setting changes at every step, and the loss is tracked."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlessons import training
from jaxlessons.metrics import Sums
from jaxlessons.training import Place, TrainState

# A value, traced, -> the optimizer that has it.
MakeOptimizer = Callable[[Any], optax.GradientTransformation]


class SweptState(NamedTuple):
    """step: int32 scalar; values: `[steps]` float32; inner: the optimizer's own."""

    step: jax.Array
    values: jax.Array
    inner: Any


def swept_optimizer(
    make_optimizer: MakeOptimizer, values: np.ndarray
) -> optax.GradientTransformation:
    """The optimizer that has `values[i]` in its step i."""

    def init(params: Any) -> SweptState:
        table = jnp.asarray(values, jnp.float32)
        return SweptState(jnp.zeros([], jnp.int32), table, make_optimizer(table[0]).init(params))

    def update(grads: Any, state: SweptState, params: Any = None) -> tuple[Any, SweptState]:
        optimizer = make_optimizer(state.values[state.step])
        updates, inner = optimizer.update(grads, state.inner, params)
        return updates, SweptState(state.step + 1, state.values, inner)

    return optax.GradientTransformation(init, update)


class Track(NamedTuple):
    """The smoothed loss so far: float32 scalars, and whether it has diverged."""

    average: jax.Array
    weight: jax.Array
    least: jax.Array
    stopped: jax.Array


Carry = tuple[TrainState, Track]
Output = tuple[jax.Array, jax.Array, jax.Array]  # loss, smoothed loss, whether it has diverged
# (carry, data, what one step is given) -> (carry, output); see `training.brought`.
Advance = Callable[[Carry, Any, Any], tuple[Carry, Output]]
Share = Callable[[Place], Any]
Curves = tuple[np.ndarray, np.ndarray, np.ndarray]  # the outputs of all steps taken


def start(optimizer: optax.GradientTransformation, state: TrainState) -> Carry:
    """Copies all of the state: the train step donates what it gets, and it is the caller's."""
    state = state.replace(opt_state=optimizer.init(state.params))
    track = Track(jnp.float32(0), jnp.float32(0), jnp.float32(jnp.inf), jnp.bool_(False))
    return jax.tree.map(jnp.copy, (state, track))


def make_advance(
    train_step: Callable[..., tuple[TrainState, Sums]], smoothing: float, diverged: float
) -> Advance:
    """One step of `train_step`, its loss smoothed as `lr_find.sweep` says, and whether to stop."""

    def advance(carry: Carry, data: Any, own: Any) -> tuple[Carry, Output]:
        state, track = carry
        state, sums = train_step(state, data, own)
        total, count = sums["loss"]
        loss = total / count
        average = smoothing * track.average + (1 - smoothing) * loss
        weight = smoothing * track.weight + (1 - smoothing)
        smoothed = average / weight
        least = jnp.minimum(track.least, smoothed)
        stopped = ~jnp.isfinite(smoothed) | (smoothed > diverged * least)
        return (state, Track(average, weight, least, stopped)), (loss, smoothed, stopped)

    return advance


def run_loop(advance: Advance, carry: Carry, data: Any, places: Place, share: Share) -> Curves:
    """One call a step, up to the one that diverged."""

    @partial(jax.jit, donate_argnums=0)
    def step(carry: Carry, data: Any, shared: Any) -> tuple[Carry, Output]:
        return advance(carry, data, jax.tree.map(lambda array: array[0], shared))

    outputs = []
    for i in range(len(places.epoch)):
        one = jax.tree.map(lambda array: array[i : i + 1], places)  # noqa: B023
        carry, output = step(carry, data, share(one))
        outputs.append(jax.device_get(output))
        if outputs[-1][-1]:
            break
    each, smoothed, stopped = (np.array(column) for column in zip(*outputs, strict=True))
    return each, smoothed, stopped


def run_scan(advance: Advance, carry: Carry, data: Any, places: Place, share: Share) -> Curves:
    """All steps in one call; after the one that diverged it only repeats that it has."""

    def skip(carry: Carry, own: Any) -> tuple[Carry, Output]:
        return carry, (jnp.float32(jnp.nan), jnp.float32(jnp.nan), jnp.bool_(True))

    @jax.jit
    def run(carry: Carry, data: Any, shared: Any) -> Output:
        def body(carry: Carry, own: Any) -> tuple[Carry, Output]:
            return jax.lax.cond(
                carry[1].stopped, skip, lambda c, own: advance(c, data, own), carry, own
            )

        return jax.lax.scan(body, carry, shared)[1]

    each, smoothed, stopped = jax.device_get(run(carry, data, share(places)))
    return each, smoothed, stopped


def batch_places(key: jax.Array, count: int, batch_size: int, steps: int) -> Place:
    """The batches of a new training, as places in the split, `[steps, batch]`.

    In numpy, since taking a jax array apart costs a compilation.
    """
    per_epoch = training.steps_per_epoch(count, batch_size)
    epochs = np.arange(steps) // per_epoch
    orders = [training.epoch_order(key, epoch, count) for epoch in range(epochs[-1] + 1)]
    rows = np.concatenate([order[: per_epoch * batch_size] for order in orders])
    rows = rows.reshape(-1, batch_size)[:steps]
    return Place(rows.astype(np.int32), epochs.astype(np.int32))  # type: ignore[arg-type]
