"""A recurrent layer whose loop holds nothing but what must wait for the step before.

A plain scan of a cell multiplies each step's small input on its own, and its gradient adds to the
whole weight gradient at every step. Here the input product of all steps is one product ahead of
the loop; the backward loop only finds the gradients of the gates, and the weight gradients are
one product each behind it. The values are those of the plain scan, up to rounding; the gradient is
reverse mode only (`jax.grad`, not `jax.jvp`).

Where a gradient is to follow, the batch is the last axis: the weight then stands on the left of
every product, where a CPU need not rearrange it at each step. In the loop time is the first axis,
that a step be one piece of memory; in the products of all steps features are, for the same reason.
What a gate's gradient is multiplied by is worked out going forward (`rnn_derivatives`), and one
buffer holds in turn the input product, these factors, and the gradients of the gates.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxlessons.models import cells
from jaxlessons.models.cells import Carry, Kind, Params, select
from jaxlessons.models.rnn_derivatives import DERIVATIVES


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
    own = {
        name: value.astype(x.dtype if name.startswith("weight") else cells.wide(x.dtype))
        for name, value in params.items()
    }
    if kind.summed:
        own["bias_ih"] += own["bias_hh"]
        own["bias_hh"] = jnp.zeros_like(own["bias_hh"])
    outputs, carry = _layer(kind, reverse, own, jnp.swapaxes(x, 0, 1), carry, mask)
    return jnp.swapaxes(outputs, 0, 1).astype(x.dtype), carry


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _layer(
    kind: Kind, reverse: bool, params: Params, x: jax.Array, carry: Carry, mask: jax.Array | None
) -> tuple[jax.Array, Carry]:
    """(outputs `[time, batch, features]`, carry) for x `[time, batch, in]`, without a gradient."""

    def step(carry: Carry, inputs: Any) -> tuple[Carry, jax.Array]:
        from_input, keep = inputs
        hidden = cells.hidden(carry).astype(x.dtype)
        from_hidden = cells.linear(hidden, params["weight_hh"], params["bias_hh"])
        new = kind.update(carry, from_input, from_hidden)
        return select(keep, new, carry, cells.hidden(new))

    from_input = cells.linear(x, params["weight_ih"], params["bias_ih"])
    carry, outputs = jax.lax.scan(step, carry, (from_input, mask), reverse=reverse)
    return outputs, carry


def _forward(
    kind: Kind, reverse: bool, params: Params, x: jax.Array, carry: Carry, mask: jax.Array | None
) -> tuple[Any, Any]:
    """The same with the batch last, and what `_backward` needs."""
    update = jax.vmap(kind.update, in_axes=-1, out_axes=-1)
    bias_ih, bias_hh = params["bias_ih"][:, None], params["bias_hh"][:, None]

    def step(state: Any, inputs: Any) -> tuple[Any, Any]:
        (carry, buffer), (time, keep) = state, inputs
        from_input = _add(_get(buffer, time), bias_ih)
        hidden = cells.hidden(carry).astype(x.dtype)
        from_hidden = _add(_dot(params["weight_hh"], hidden), bias_hh)
        new = update(carry, from_input, from_hidden)
        factors, saved = DERIVATIVES[kind.update].forward(carry, new, from_input, from_hidden)
        new, _ = select(keep, new, carry, cells.hidden(new))
        return (new, _put(buffer, factors, time)), (cells.hidden(new), saved)

    x, keep = jnp.transpose(x, (2, 0, 1)), _turned(mask)
    buffer, first = _time_first(_dot(params["weight_ih"], x)), _turned(carry)
    inputs = (jnp.arange(len(buffer)), keep)
    (last, buffer), (hidden, saved) = jax.lax.scan(step, (first, buffer), inputs, reverse=reverse)
    outputs = _where(keep, hidden, 0)
    residuals = (buffer, saved, x, hidden, cells.hidden(first), params, keep)
    return (_turned(outputs), _turned(last)), residuals


def _backward(kind: Kind, reverse: bool, residuals: Any, cotangents: Any) -> tuple[Any, ...]:
    buffer, saved, x, hidden, first, params, keep = residuals
    d_outputs, d_last = _turned(cotangents)
    d_outputs = _where(keep, d_outputs, 0)
    derivative = DERIVATIVES[kind.update]
    # The barrier keeps the compiler from turning them at each step.
    weight_ih, weight_hh = jax.lax.optimization_barrier(
        (params["weight_ih"].T, params["weight_hh"].T)
    )

    def step(state: Any, inputs: Any) -> tuple[Any, Any]:
        (d_carry, buffer), (time, saved, d_output, keep) = state, inputs
        d_after = _add_to_hidden(d_carry, d_output)
        d_new = jax.tree.map(lambda d: _where(keep, d, 0), d_after)
        d_gates, rest, d_carry = derivative.backward(_get(buffer, time), saved, d_new)
        d_carry = _add_to_hidden(d_carry, _dot(weight_hh, d_gates.astype(x.dtype)))
        # A step that was not kept hands its gradient on as it is.
        d_carry = jax.tree.map(partial(_where, keep), d_carry, d_after)
        return (d_carry, _put(buffer, d_gates, time)), rest

    inputs = (jnp.arange(len(buffer)), saved, d_outputs, keep)
    (d_carry, d_hh), rest = jax.lax.scan(step, (d_last, buffer), inputs, reverse=not reverse)
    ends = [hidden[1:], first[None]] if reverse else [first[None], hidden[:-1]]
    d_ih, d_hh, before = (
        jnp.swapaxes(steps, 0, 1)
        for steps in (derivative.to_input(d_hh, rest), d_hh, jnp.concatenate(ends))
    )
    d_params = {
        "weight_ih": _weight_gradient(d_ih, x),
        "weight_hh": _weight_gradient(d_hh, before.astype(x.dtype)),
        "bias_ih": jnp.sum(d_ih, axis=(1, 2)),
        "bias_hh": jnp.sum(d_hh, axis=(1, 2)),
    }
    d_params = {name: d.astype(params[name].dtype) for name, d in d_params.items()}
    d_x = _turned(_time_first(_dot(weight_ih, d_ih.astype(x.dtype))))
    return d_params, d_x.astype(x.dtype), _turned(d_carry), None


_layer.defvjp(_forward, _backward)


def _dot(weight: jax.Array, b: jax.Array) -> jax.Array:
    """W b for b `[in, ...]`: multiplied in their type, added up in `wide`."""
    return jnp.tensordot(weight, b, 1, preferred_element_type=cells.wide(weight.dtype))


def _weight_gradient(d_gates: jax.Array, inputs: jax.Array) -> jax.Array:
    """The sum over steps and batch of d_gates and inputs, both `[features, time, batch]`."""
    # Not as matrices: where the batch is shared out among devices, joining it with time would
    # have each of them fetch all of it.
    over = (((1, 2), (1, 2)), ((), ()))
    wide = cells.wide(inputs.dtype)
    return jax.lax.dot_general(d_gates.astype(inputs.dtype), inputs, over, None, wide)


def _turned(tree: Any) -> Any:
    """The last two axes, features and batch, in the other order."""
    return jax.tree.map(lambda array: jnp.swapaxes(array, -1, -2), tree)


def _time_first(steps: jax.Array) -> jax.Array:
    """`[features, time, batch]` -> `[time, features, batch]`; flat in between, which keeps XLA on
    a CPU from copying twice, but for the batch, as above."""
    features, time, batch = steps.shape
    flat = jax.lax.optimization_barrier(jnp.swapaxes(steps, 0, 1).reshape(time * features, batch))
    return flat.reshape(time, features, batch)


def _get(buffer: jax.Array, time: jax.Array) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(buffer, time, keepdims=False)


def _put(buffer: jax.Array, step: jax.Array, time: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_index_in_dim(buffer, step, time, 0)


def _add(gates: jax.Array, bias: jax.Array) -> jax.Array:
    return gates + jnp.broadcast_to(bias, gates.shape)


def _add_to_hidden(carry: Carry, hidden: jax.Array) -> Carry:
    return (carry[0] + hidden, *carry[1:]) if isinstance(carry, tuple) else carry + hidden


def _where(keep: jax.Array | None, a: jax.Array, b: Any) -> jax.Array:
    return a if keep is None else jnp.where(jnp.broadcast_to(keep, a.shape), a, b)
