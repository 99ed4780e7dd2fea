"""Training and evaluation of a recurrent language model on one long text.

The text is an array of tokens on the device; a step's batch is where its windows begin and how
long they are. The hidden state is part of the training state: it goes from a window to the one
behind it, starts at zeros with each epoch and evaluation, and is in every checkpoint, so that a
run that is resumed in mid-epoch ends as one that was not stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlessons import loop, losses, metrics, train_state
from jaxlessons.averaging import Averager
from jaxlessons.devices import SINGLE, Layout
from jaxlessons.metrics import Sums
from jaxlessons.train_state import TrainState

WINDOW_STREAM = 0x51DE  # keeps the epochs' keys apart from the steps', which count up from 0

# (tokens `[count]`, starts `[batch]`, lengths `[batch]`) -> inputs, targets, mask `[batch, time]`.
Gather = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]


class Window(NamedTuple):
    """A batch, or with a leading axis an epoch of them: starts, lengths `[batch]` int32."""

    starts: jax.Array
    lengths: jax.Array


# (state, tokens, window) -> (state, sums); the old state is consumed.
SequenceStep = Callable[[TrainState, jax.Array, Window], tuple[TrainState, Sums]]


def create_state(
    module: Any,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    batch_size: int,
    *,
    carried: bool = True,
    averager: Averager | None = None,
) -> TrainState:
    """A fresh state for a module that maps (tokens, carry) to (logits, carry).

    carried: whether the state holds the hidden state of `batch_size` rows, zeros at first.
    """
    tokens = jnp.zeros((batch_size, 1), jnp.int32)
    state = train_state.create_state(module, optimizer, key, tokens, averager)
    if not carried:
        return state
    _, carry = jax.eval_shape(module.apply, state.variables, tokens)
    return state.replace(carry=_zeros(carry))


def make_train_step(
    apply: Callable[..., Any],
    optimizer: optax.GradientTransformation,
    gather: Gather,
    *,
    ragged: bool = False,
    averager: Averager | None = None,
    layout: Layout = SINGLE,
) -> SequenceStep:
    """One jitted step: gather the windows, gradient, update. It donates the state.

    apply: a Flax module's, (variables, tokens, carry, lengths, train) -> (logits, carry), called
    with `train=True` and a "dropout" key. ragged: whether windows may be shorter than what
    `gather` gives; only then are their lengths passed on. The mean over the targets that count is
    minimised. layout: the devices that the state and tokens are on. The sums are "loss", in nats a
    character, and "accuracy".
    """

    def step(state: TrainState, tokens: jax.Array, window: Window) -> tuple[TrainState, Sums]:
        inputs, targets, mask = layout.share_batch(gather(tokens, *window))

        def objective(params: Any) -> tuple[jax.Array, Any]:
            logits, carry = apply(
                {"params": params},
                inputs,
                carry=state.carry,
                lengths=window.lengths if ragged else None,
                train=True,
                rngs={"dropout": jax.random.fold_in(state.key, state.step)},
            )
            sums = _sums(logits, targets, mask)
            total, count = sums["loss"]
            return total / count, (carry, sums)

        grads, (carry, sums) = jax.grad(objective, has_aux=True)(state.params)
        carry = None if state.carry is None else carry
        state = train_state.update(state, grads, optimizer, averager)
        return layout.constrain(state.replace(carry=carry)), sums

    return jax.jit(step, donate_argnums=0)


def fit(
    state: TrainState,
    train_step: SequenceStep,
    tokens: jax.Array,
    windows: Callable[[jax.Array], Any],
    *,
    steps_per_epoch: int,
    total_steps: int,
    steps_per_call: int | None = None,
    layout: Layout = SINGLE,
    **callbacks: Any,
) -> TrainState:
    """Trains from `state`, which is consumed, until `total_steps` or until asked to stop.

    windows: an epoch's key -> (starts, lengths), `[steps_per_epoch, batch]` each. callbacks:
    `on_steps`, `on_epoch` and `should_stop`, as for `training.fit`, which also tells what is
    raised. steps_per_call: by default an epoch is one `lax.scan`, and on a CPU, where that would
    leave the user waiting, one for every 100 steps or less. layout: the devices, as `train_step`
    was told; `state` and `tokens` are to be there.
    """

    def inputs(state: TrainState, epoch: int) -> Window:
        key = jax.random.fold_in(jax.random.fold_in(state.key, WINDOW_STREAM), epoch)
        return Window(*map(np.asarray, windows(key)))  # type: ignore[arg-type]

    at_once = _part(steps_per_epoch) if jax.default_backend() == "cpu" else steps_per_epoch
    return loop.run(
        state,
        train_step,
        tokens,
        inputs,
        per_epoch=steps_per_epoch,
        total_steps=total_steps,
        steps_per_call=steps_per_call or at_once,
        begin_epoch=lambda state: state.replace(carry=_zeros(state.carry)),
        share=layout.share_steps,
        **callbacks,
    )


def _part(steps: int) -> int:
    """50, or better a number from 25 to 100 that divides `steps`: then one program is compiled."""
    return next((part for part in range(100, 24, -1) if steps % part == 0), 50)


def make_evaluate(
    apply: Callable[..., Any], gather: Gather, layout: Layout = SINGLE
) -> Callable[[Any, jax.Array, Any], dict[str, float]]:
    """(variables, tokens, windows) -> the means over all targets of the windows.

    windows: (starts, lengths) `[steps, batch]`, in which lane b of a step goes on where it ended
    in the step before. The whole split is one compiled scan, from a state of zeros. layout: the
    devices that variables and tokens are on, among which it shares out any number of lanes.
    """

    def evaluate(variables: Any, tokens: jax.Array, windows: Window) -> Sums:
        def step(carry: Any, window: Window) -> tuple[Any, Sums]:
            inputs, targets, mask = layout.share_batch(gather(tokens, *window))
            logits, carry = apply(variables, inputs, carry=carry, lengths=window.lengths)
            return carry, _sums(logits, targets, mask)

        one = jnp.zeros((windows.starts.shape[1], 1), jnp.int32)
        _, carry = jax.eval_shape(apply, variables, one)
        return jax.lax.scan(step, layout.share_batch(_zeros(carry)), windows)[1]

    compiled = jax.jit(evaluate)

    def means(variables: Any, tokens: jax.Array, windows: Any) -> dict[str, float]:
        # What fills up the lanes are some of length 0, which count for nothing.
        filled = (np.pad(a, ((0, 0), (0, -a.shape[1] % layout.count))) for a in windows)
        mean = metrics.Mean()
        mean.update(compiled(variables, tokens, layout.share_steps(Window(*filled))))  # type: ignore[arg-type]
        return mean.result()

    return means


def _sums(logits: jax.Array, targets: jax.Array, mask: jax.Array) -> Sums:
    return {
        "loss": metrics.masked_sum(losses.cross_entropy(logits, targets), mask),
        "accuracy": metrics.masked_sum(metrics.correct(logits, targets), mask),
    }


def _zeros(carry: Any) -> Any:
    """In the same place, where the leaves are arrays and not shapes."""
    return jax.tree.map(jnp.zeros_like, carry)
