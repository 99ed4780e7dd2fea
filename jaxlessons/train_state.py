"""What training changes: a state, how it begins, and how a gradient takes it one step on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxlessons.averaging import Average, Averager


class TrainState(struct.PyTreeNode):
    """All that training changes, and the key it draws from; what a checkpoint holds.

    step: int32 scalar, the steps taken. params, batch_stats: the module's variables
    (batch_stats is {} without batch norm). opt_state: the optimizer's. key: a typed key that
    stays the same throughout. average: of the parameters, where training keeps one. carry: the
    hidden state that a recurrent network takes to the next batch.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    key: jax.Array
    average: Average | None = None
    carry: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """What `module.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def create_state(
    module: Any,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    inputs: jax.Array,
    averager: Averager | None = None,
) -> TrainState:
    """A fresh state for a Flax module; inputs: a batch (only its shape and type count)."""
    return make_create_state(module, optimizer, averager)(key, inputs)


def make_create_state(
    module: Any, optimizer: optax.GradientTransformation, averager: Averager | None = None
) -> Callable[[jax.Array, jax.Array], TrainState]:
    """(key, inputs) -> `create_state`'s; for many keys, since it is compiled once."""

    def init(key: jax.Array, inputs: jax.Array) -> TrainState:
        init_key, train_key = jax.random.split(key)
        variables = module.init(init_key, inputs)
        return TrainState(
            step=jnp.zeros([], jnp.int32),
            params=variables["params"],
            batch_stats=variables.get("batch_stats", {}),
            opt_state=optimizer.init(variables["params"]),
            key=train_key,
            average=None if averager is None else averager.init(variables["params"]),
        )

    # XLA's CPU compiler takes four times as long to optimise these random numbers, 18 s for
    # Resnet2, as to compile them as they stand; they are drawn once. Not for anything else: at
    # this level gradients of convolutions came out wrong.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(init, compiler_options=options)


def update(
    state: TrainState,
    grads: Any,
    optimizer: optax.GradientTransformation,
    averager: Averager | None = None,
) -> TrainState:
    """The state one step on: parameters, the optimizer's state, and the average if there is one."""
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params, done = optax.apply_updates(state.params, updates), state.step + 1
    average = state.average
    if averager is not None:
        if average is None:
            raise ValueError("averager: the state has no average, create it with one too.")
        average = averager.update(average, params, done)
    return state.replace(step=done, params=params, opt_state=opt_state, average=average)
