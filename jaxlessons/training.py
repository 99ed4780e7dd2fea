"""Training and evaluation of any Flax module: a state, two jitted steps, and `fit`.

Everything that is random at step N comes from `fold_in(state.key, N)`, and the order of the
examples in epoch E from `fold_in(state.key, E)` on a stream of its own. So a run is determined by
its first state and its data, and one that goes on from a saved state ends where an unbroken one
does, bit for bit on a CPU.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlessons import loop, losses, metrics
from jaxlessons.averaging import Averager
from jaxlessons.devices import SINGLE, Layout
from jaxlessons.epoch_order import Order, epoch_order, grouped_order
from jaxlessons.errors import UserError
from jaxlessons.loop import EpochEnd
from jaxlessons.metrics import Sums
from jaxlessons.train_state import TrainState, create_state, update

__all__ = [
    "Apply",
    "Augment",
    "EvalStep",
    "Examples",
    "Loss",
    "Order",
    "Place",
    "TrainState",
    "TrainStep",
    "create_state",
    "epoch_order",
    "evaluate",
    "fit",
    "grouped_order",
    "make_eval_step",
    "make_train_step",
    "steps_per_epoch",
]

Apply = Callable[..., Any]
Loss = Callable[[jax.Array, jax.Array], jax.Array]


class Examples(NamedTuple):
    """A split or a batch. inputs: `[n, ...]`; labels: `[n]`, or what the loss takes."""

    inputs: jax.Array
    labels: jax.Array


class Place(NamedTuple):
    """Where a batch is in training. rows: `[batch]` into the split; epoch: int32 scalar."""

    rows: jax.Array
    epoch: jax.Array


# (key, batch, place) -> the inputs and labels that the network and the loss see.
Augment = Callable[[jax.Array, Examples, Place], Examples]
# (state, split, place) -> (state, sums): one step of the optimizer; the old state is consumed.
TrainStep = Callable[[TrainState, Examples, Place], tuple[TrainState, Sums]]
# (variables, inputs, labels, mask) -> (logits, sums)
EvalStep = Callable[[Any, jax.Array, jax.Array, jax.Array], tuple[jax.Array, Sums]]


def make_train_step(
    apply: Apply,
    optimizer: optax.GradientTransformation,
    *,
    loss: Loss = losses.cross_entropy,
    augment: Augment | None = None,
    averager: Averager | None = None,
    layout: Layout = SINGLE,
) -> TrainStep:
    """One jitted step: gather the batch, augment, gradient, update. It donates the state.

    apply: a Flax module's, called with `train=True` and a "dropout" key. loss: (logits, labels)
    -> one value an example; its mean is minimised. averager: keeps `state.average`, which the
    state must have been created with. layout: the devices; where there are several, the step is
    given the batch itself for a split. The sums returned are "loss" and "accuracy".
    """

    def step(state: TrainState, split: Examples, place: Place) -> tuple[TrainState, Sums]:
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        batch = split
        if layout.mesh is None:
            batch = Examples(*(jnp.take(array, place.rows, axis=0) for array in split))
        if augment is not None:
            batch = augment(augment_key, batch, place)

        def objective(params: Any) -> tuple[jax.Array, Any]:
            logits, updated = apply(
                {"params": params, "batch_stats": state.batch_stats},
                batch.inputs,
                train=True,
                rngs={"dropout": dropout_key},
                mutable=["batch_stats"],
            )
            each = loss(logits, batch.labels)
            sums = {
                "loss": metrics.masked_sum(each),
                "accuracy": metrics.masked_sum(metrics.correct(logits, batch.labels)),
            }
            return jnp.mean(each), (updated.get("batch_stats", {}), sums)

        grads, (batch_stats, sums) = jax.grad(objective, has_aux=True)(state.params)
        state = update(state, grads, optimizer, averager)
        return layout.constrain(state.replace(batch_stats=batch_stats)), sums

    return jax.jit(step, donate_argnums=0)


def make_eval_step(
    apply: Apply,
    *,
    loss: Loss = losses.cross_entropy,
    prepare: Callable[[jax.Array], jax.Array] = lambda inputs: inputs,
    layout: Layout = SINGLE,
) -> EvalStep:
    """A jitted step in evaluation mode; prepare: raw inputs -> the network's (normalisation).

    layout: the devices, among which it shares out batches of any size.
    """

    @jax.jit
    def step(
        variables: Any, inputs: jax.Array, labels: jax.Array, mask: jax.Array
    ) -> tuple[jax.Array, Sums]:
        logits = apply(variables, prepare(layout.share_batch(inputs)), train=False)
        logits = layout.replicate(logits[: len(labels)])
        return logits, {
            "loss": metrics.masked_sum(loss(logits, labels), mask),
            "accuracy": metrics.masked_sum(metrics.correct(logits, labels), mask),
        }

    return step


def evaluate(
    eval_step: EvalStep, variables: Any, split: Examples, batch_size: int = 500
) -> tuple[dict[str, float], np.ndarray]:
    """(means over the split, logits `[n, classes]`): every example counts once.

    The last batch is filled up to one shape, and what fills it is masked out.
    """
    count = len(split.labels)
    if batch_size < 1 or count < 1:
        raise UserError(f"There is nothing to evaluate in {count} examples by {batch_size}.")
    batch_size = min(batch_size, count)
    mean, logits = metrics.Mean(), []
    for start in range(0, count, batch_size):
        index = np.arange(start, start + batch_size)
        mask, index = index < count, np.minimum(index, count - 1)
        inputs, labels = (jnp.take(array, index, axis=0) for array in split)
        batch_logits, sums = eval_step(variables, inputs, labels, jnp.asarray(mask))
        mean.update(sums)
        logits.append(np.asarray(batch_logits)[mask])
    return mean.result(), np.concatenate(logits)


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Whole batches in `count` examples; the rest of an epoch is left out, others each time."""
    if not 1 <= batch_size <= count:
        raise UserError(
            f"The batch size is {batch_size}: it must be from 1 to the {count:,} training examples."
        )
    return count // batch_size


def fit(
    state: TrainState,
    train_step: TrainStep,
    split: Examples,
    *,
    batch_size: int,
    total_steps: int,
    on_steps: Callable[[int, Sums], None] = lambda step, sums: None,
    on_epoch: Callable[[EpochEnd], None] = lambda end: None,
    should_stop: Callable[[], bool] = lambda: False,
    steps_per_call: int | None = None,
    began: tuple[int, int] = (0, 0),
    order: Order = epoch_order,
    layout: Layout = SINGLE,
) -> TrainState:
    """Trains from `state` until `total_steps`, or until `should_stop()`, and returns the state.

    `state` is consumed. `on_steps(step, sums)` follows every call to the device, with the sums
    of its steps stacked; `on_epoch` every epoch, the last one too when it is not whole.
    steps_per_call: how many steps one `lax.scan` holds; by default 50, and on a CPU one step
    a call without a scan, inside which XLA runs convolutions on one thread (nine times as slow).
    began: the (step, epoch) at which training on this split, in this batch size, begins.
    order: of the examples, epoch by epoch; see `epoch_order` and `grouped_order`.
    layout: the devices, as `train_step` was told; `state` is to be placed there. With several, the
    split stays on the host, from where each process takes its share of every batch.

    Raises:
      NonFiniteError: when the loss or, at an epoch's end or a stop, the parameters are not
        finite; neither `on_epoch` nor the caller gets to save such a state.
      UserError: for a batch size that is not within the split.
    """
    count, per_epoch = len(split.labels), steps_per_epoch(len(split.labels), batch_size)
    step, data, share = brought(train_step, split, layout)

    def places(state: TrainState, epoch: int) -> Place:
        rows = order(state.key, epoch, count)[: per_epoch * batch_size]
        rows = rows.reshape(per_epoch, batch_size)
        return Place(rows, np.full(per_epoch, epoch, np.int32))  # type: ignore[arg-type]

    return loop.run(
        state,
        step,
        data,
        places,
        per_epoch=per_epoch,
        total_steps=total_steps,
        steps_per_call=steps_per_call or (1 if jax.default_backend() == "cpu" else 50),
        on_steps=on_steps,
        on_epoch=on_epoch,
        should_stop=should_stop,
        began=began,
        share=share,
    )


def brought(
    train_step: TrainStep, split: Examples, layout: Layout
) -> tuple[Callable[..., Any], Examples | None, Callable[[Place], Any]]:
    """(step, data, share): step(state, data, share(places)[i]) trains on the batch at places[i].

    On one device data is the split and what is shared are places; with several data is None, and
    the batches themselves are shared out.
    """
    if layout.mesh is None:
        return train_step, split, layout.share_steps

    def share(places: Place) -> tuple[Examples, Place]:
        rows = np.asarray(places.rows)
        taken = (layout.take_steps(np.asarray(array), rows) for array in split)
        return Examples(*taken), layout.share_steps(places)

    return _given(train_step), None, share


@functools.lru_cache(maxsize=8)
def _given(train_step: TrainStep) -> Callable[..., tuple[TrainState, Sums]]:
    """The step with a batch of its own; kept, so that a second `fit` compiles nothing."""
    return lambda state, data, own: train_step(state, *own)
