"""A recurrent layer whose loop holds nothing but what must wait for the step before.

A plain scan of a cell multiplies each step's small input on its own, and its gradient adds to the
whole weight gradient at every step. Here the input product of all steps is one product ahead of
the loop; the backward loop only collects the gradients of the gates, and the weight gradients are
one product behind it. The values are those of the plain scan, up to rounding; the gradient is
reverse mode only (`jax.grad`, not `jax.jvp`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxlessons.models import cells
from jaxlessons.models.cells import Carry, Kind, Params, select


def fused_layer(
    kind: Kind,
    params: Params,
    x: jax.Array,
    carry: Carry,
    mask: jax.Array | None = None,
    reverse: bool = False,
) -> tuple[jax.Array, Carry]:
    """(outputs `[batch, time, features]`, carry) of one layer in one direction.

    x: `[batch, time, in]`. mask: `[time, batch, 1]`, false where the carry is to stay as it is
    and the output to be zero. reverse: from the last step to the first.
    """
    # Time comes first in the loop; the input is turned before it is multiplied, for it is smaller.
    steps, bias = jnp.swapaxes(x, 0, 1), params["bias_ih"]
    hidden_bias = params["bias_hh"].astype(cells.wide(x.dtype))
    if kind.summed:
        bias, hidden_bias = bias + hidden_bias, jnp.zeros_like(hidden_bias)
    from_input = cells.linear(steps, params["weight_ih"], bias)
    weight = params["weight_hh"].astype(x.dtype)
    outputs, carry = _recurrence(kind, reverse, from_input, weight, hidden_bias, carry, mask)
    return jnp.swapaxes(outputs, 0, 1).astype(x.dtype), carry


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _recurrence(
    kind: Kind,
    reverse: bool,
    from_input: jax.Array,
    weight: jax.Array,
    bias: jax.Array,
    carry: Carry,
    mask: jax.Array | None,
) -> tuple[jax.Array, Carry]:
    """(outputs `[time, batch, features]`, carry) from the input product of all steps."""
    return _forward(kind, reverse, from_input, weight, bias, carry, mask)[0]


def _forward(
    kind: Kind,
    reverse: bool,
    from_input: jax.Array,
    weight: jax.Array,
    bias: jax.Array,
    carry: Carry,
    mask: jax.Array | None,
) -> tuple[Any, Any]:
    """Also what the gradient needs of every step: the carry before it, and its gates.

    Where no gradient is taken, XLA drops these from the loop.
    """

    def step(carry: Carry, inputs: Any) -> tuple[Carry, Any]:
        gates, keep = inputs
        from_hidden = cells.linear(cells.hidden(carry).astype(weight.dtype), weight, bias)
        saved = (gates + from_hidden,) if kind.summed else (gates, from_hidden)
        new = kind.update(carry, gates, from_hidden)
        new, output = select(keep, new, carry, cells.hidden(new))
        return new, (output, carry, saved)

    last, (outputs, before, saved) = jax.lax.scan(step, carry, (from_input, mask), reverse=reverse)
    return (outputs, last), (before, saved, weight, mask)


def _backward(kind: Kind, reverse: bool, residuals: Any, cotangents: Any) -> tuple[Any, ...]:
    before, saved, weight, mask = residuals
    d_outputs, d_last = cotangents

    def step(d_carry: Carry, inputs: Any) -> tuple[Carry, Any]:
        carry, saved, d_output, keep = inputs

        def forward(carry: Carry, *saved: jax.Array) -> tuple[Carry, jax.Array]:
            gates = saved if len(saved) == 2 else (*saved, jnp.zeros_like(saved[0]))
            new = kind.update(carry, *gates)
            return select(keep, new, carry, cells.hidden(new))

        d_carry, *d_saved = jax.vjp(forward, carry, *saved)[1]((d_carry, d_output))
        through = _dot(d_saved[-1].astype(weight.dtype), weight)
        if isinstance(d_carry, tuple):
            return (d_carry[0] + through, *d_carry[1:]), d_saved
        return d_carry + through, d_saved

    inputs = (before, saved, d_outputs, mask)
    d_carry, d_saved = jax.lax.scan(step, d_last, inputs, reverse=not reverse)
    d_hidden_gates = _rows(d_saved[-1])
    hidden = _rows(cells.hidden(before)).astype(weight.dtype)
    d_weight = _dot(d_hidden_gates.astype(weight.dtype).T, hidden)
    d_bias = jnp.sum(d_hidden_gates, axis=0)
    return d_saved[0], d_weight.astype(weight.dtype), d_bias, d_carry, None


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.dot(a, b, preferred_element_type=cells.wide(a.dtype))


def _rows(steps: jax.Array) -> jax.Array:
    """`[time, batch, n]` -> `[time * batch, n]`."""
    return steps.reshape(-1, steps.shape[-1])


_recurrence.defvjp(_forward, _backward)
