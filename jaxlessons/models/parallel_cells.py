"""Recurrences that need no loop: minGRU, minLSTM and the QRNN through an associative scan.

Their gates see the input and not the hidden state, so that a step is h' = a h + b with a and b
known for all steps beforehand. Such steps can be put together in any grouping,
(a1, b1) then (a2, b2) being (a1 a2, a2 b1 + b2), hence in log2(time) rounds (Blelloch, 1990;
Martin & Cundy, 2018) in place of one step after another.

Parameters: weight_ih `[gates * features, in]` (the QRNN's `[3 * features, 2 * in]`, the step
before ahead of the step itself) and bias_ih `[gates * features]`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxlessons.models import cells
from jaxlessons.models.cells import Carry, Params

Method = Literal["associative", "loop"]


class Linear(NamedTuple):
    """Steps state' = keep * state + add, and the gate of the output where there is one, float32."""

    keep: jax.Array
    add: jax.Array
    output_gate: jax.Array | None = None


def mingru_steps(gates: jax.Array) -> Linear:
    """h' = (1 - z) h + z n with z = sigmoid(i_z); gates `[..., 2 * features]` are i_z, n."""
    z, n = jnp.split(gates, 2, axis=-1)
    # 1 - sigmoid(z) is sigmoid(-z), which keeps its digits where the gate is nearly open.
    return Linear(jax.nn.sigmoid(-z), jax.nn.sigmoid(z) * n)


def minlstm_steps(gates: jax.Array) -> Linear:
    """h' = f h + i n, both divided by their sum; gates are f, i before the sigmoids, and n."""
    f, i, n = jnp.split(gates, 3, axis=-1)
    # sigmoid(f) / (sigmoid(f) + sigmoid(i)) without a quotient of two small numbers.
    odds = jax.nn.log_sigmoid(f) - jax.nn.log_sigmoid(i)
    return Linear(jax.nn.sigmoid(odds), jax.nn.sigmoid(-odds) * n)


def qrnn_steps(gates: jax.Array) -> Linear:
    """c' = f c + (1 - f) z, h = o c' ("fo-pooling"); gates are z, f, o before tanh and sigmoids."""
    z, f, o = jnp.split(gates, 3, axis=-1)
    return Linear(jax.nn.sigmoid(f), jax.nn.sigmoid(-f) * jnp.tanh(z), jax.nn.sigmoid(o))


class ParallelKind(NamedTuple):
    """gates: rows of the weight by features. window: inputs that one step sees, 1 or 2."""

    gates: int
    window: int
    steps: Callable[[jax.Array], Linear]


MINGRU = ParallelKind(2, 1, mingru_steps)
MINLSTM = ParallelKind(3, 1, minlstm_steps)
QRNN = ParallelKind(3, 2, qrnn_steps)


def mingru_cell(params: Params, carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """minGRU (Feng et al., 2024), the plain form. The carry is h `[batch, features]`."""
    return _cell(MINGRU, params, carry, x)


def minlstm_cell(params: Params, carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """minLSTM (Feng et al., 2024), the plain form. The carry is h `[batch, features]`."""
    return _cell(MINLSTM, params, carry, x)


def qrnn_cell(
    params: Params, carry: tuple[jax.Array, jax.Array], x: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """The quasi-recurrent network, width 2, fo-pooling (Bradbury et al., 2016).

    The carry is (c `[batch, features]`, the input before `[batch, in]`).
    """
    state, before = carry
    state, output = _cell(
        QRNN, params, state, jnp.concatenate([before.astype(x.dtype), x], axis=-1)
    )
    return (state, x.astype(before.dtype)), output


KINDS: dict[str, tuple[Callable[..., Any], ParallelKind]] = {
    "mingru": (mingru_cell, MINGRU),
    "minlstm": (minlstm_cell, MINLSTM),
    "qrnn": (qrnn_cell, QRNN),
}


def _cell(
    kind: ParallelKind, params: Params, state: jax.Array, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    step = kind.steps(cells.linear(x, params["weight_ih"], params["bias_ih"]))
    state = step.keep * state + step.add
    return state, state if step.output_gate is None else step.output_gate * state


def parallel_layer(
    kind: ParallelKind,
    method: Method,
    params: Params,
    x: jax.Array,
    carry: Carry,
    mask: jax.Array | None = None,
    reverse: bool = False,
) -> tuple[jax.Array, Carry]:
    """(outputs `[batch, time, features]`, carry) of one layer in one direction.

    method: "associative", or "loop" for one elementwise step after another. x: `[batch, time,
    in]`. mask: `[time, batch, 1]`, false where the carry is to stay as it is and the output to be
    zero. reverse: from the last step to the first.
    """
    inputs = jnp.swapaxes(x, 0, 1)
    state, before = carry if isinstance(carry, tuple) else (carry, None)
    if before is not None:
        inputs, before = _windows(inputs, before, mask, reverse)
    keep, add, output_gate = kind.steps(
        cells.linear(inputs, params["weight_ih"], params["bias_ih"])
    )
    if mask is not None:
        real = jnp.broadcast_to(mask, keep.shape)
        keep, add = jnp.where(real, keep, 1), jnp.where(real, add, 0)
    states = linear_recurrence(method, reverse, keep, add, state)
    outputs = states if output_gate is None else output_gate * states
    if mask is not None:
        outputs = jnp.where(real, outputs, 0)
    last = states[0 if reverse else -1]
    outputs = jnp.swapaxes(outputs, 0, 1).astype(x.dtype)
    return outputs, last if before is None else (last, before)


def _windows(
    inputs: jax.Array, before: jax.Array, mask: jax.Array | None, reverse: bool
) -> tuple[jax.Array, jax.Array]:
    """(each step's input behind that of the step before it, the carry's new input before)."""
    first, kept = before[None].astype(inputs.dtype), inputs
    if reverse and mask is not None:
        # Backwards, the step before the last real one is padding: there the carry's own counts.
        kept = jnp.where(jnp.broadcast_to(mask, inputs.shape), inputs, first)
    shifted = jnp.concatenate([kept[1:], first] if reverse else [first, kept[:-1]])
    if reverse or mask is None:
        last = kept[0 if reverse else -1]
    else:
        lengths = jnp.sum(mask, axis=0, dtype=jnp.int32)
        padded = jnp.concatenate([first, inputs])
        last = jnp.take_along_axis(padded, lengths[None], axis=0)[0]
    return jnp.concatenate([shifted, inputs], axis=-1), last.astype(before.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def linear_recurrence(
    method: Method, reverse: bool, keep: jax.Array, add: jax.Array, start: jax.Array
) -> jax.Array:
    """All states `[time, ...]` of state' = keep * state + add, from `start` `[...]`.

    Its gradient is a recurrence of the same kind in the other direction, and is computed as one.
    """

    def step(state: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        state = inputs[0] * state + inputs[1]
        return state, state

    if method == "loop":
        return jax.lax.scan(step, start, (keep, add), reverse=reverse)[1]
    first = -1 if reverse else 0
    add = add.at[first].add(keep[first] * start)
    return jax.lax.associative_scan(_compose, (keep, add), reverse=reverse)[1]


def _compose(
    first: tuple[jax.Array, jax.Array], then: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    return first[0] * then[0], then[0] * first[1] + then[1]


def _forward(
    method: Method, reverse: bool, keep: jax.Array, add: jax.Array, start: jax.Array
) -> tuple[jax.Array, Any]:
    states = linear_recurrence(method, reverse, keep, add, start)
    return states, (keep, states, start)


def _backward(
    method: Method, reverse: bool, residuals: Any, cotangents: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    keep, states, start = residuals
    none, first = jnp.zeros_like(start)[None], start[None]
    if reverse:
        kept_after, before = (
            jnp.concatenate([none, keep[:-1]]),
            jnp.concatenate([states[1:], first]),
        )
    else:
        kept_after, before = (
            jnp.concatenate([keep[1:], none]),
            jnp.concatenate([first, states[:-1]]),
        )
    d_states = linear_recurrence(method, not reverse, kept_after, cotangents, jnp.zeros_like(start))
    end = -1 if reverse else 0
    return d_states * before, d_states, d_states[end] * keep[end]


linear_recurrence.defvjp(_forward, _backward)
