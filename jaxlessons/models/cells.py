"""Recurrent cells as pure functions, in PyTorch's equations, names and gate order.

A cell is `cell(params, carry, x) -> (carry, output)` for one step: x `[batch, in]`, output
`[batch, features]`. Its parameters are those of PyTorch's RNNCell, GRUCell and LSTMCell:
weight_ih `[gates * features, in]`, weight_hh `[gates * features, features]`, bias_ih and bias_hh
`[gates * features]`. The carry is the hidden state h `[batch, features]`, the LSTM's the pair
(h, c).

Each cell is two matrix products and an elementwise update; the update stands on its own, since
that is where the cells differ, and since the fused backend moves the products out of the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

Params = Mapping[str, jax.Array]
Carry = Any
Nonlinearity = Literal["tanh", "relu"]


def rnn_cell(
    params: Params, carry: jax.Array, x: jax.Array, nonlinearity: Nonlinearity = "tanh"
) -> tuple[jax.Array, jax.Array]:
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu (Elman, 1990)."""
    update = rnn_relu_update if nonlinearity == "relu" else rnn_update
    hidden = update(carry, *_products(params, carry, x))
    return hidden, hidden


def gru_cell(params: Params, carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The gated recurrent unit (Cho et al., 2014), with the reset gate after the product.

    r = sigmoid(i_r + h_r), z = sigmoid(i_z + h_z), n = tanh(i_n + r h_n), h' = (1 - z) n + z h,
    where i = W_ih x + b_ih and h_* = W_hh h + b_hh, each in the order r, z, n.
    """
    hidden = gru_update(carry, *_products(params, carry, x))
    return hidden, hidden


def lstm_cell(
    params: Params, carry: tuple[jax.Array, jax.Array], x: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """The long short-term memory (Hochreiter & Schmidhuber, 1997; Gers et al., 2000).

    c' = sigmoid(f) c + sigmoid(i) tanh(g), h' = sigmoid(o) tanh(c'), where i, f, g, o, in this
    order, are the quarters of W_ih x + b_ih + W_hh h + b_hh. The carry is (h, c).
    """
    carry = lstm_update(carry, *_products(params, carry[0], x))
    return carry, carry[0]


def rnn_update(carry: jax.Array, from_input: jax.Array, from_hidden: jax.Array) -> jax.Array:
    """The plain RNN's new carry, from the two products with their biases."""
    return jnp.tanh(from_input + from_hidden)


def rnn_relu_update(carry: jax.Array, from_input: jax.Array, from_hidden: jax.Array) -> jax.Array:
    """The same with relu, which keeps its gradient over many steps when W_hh is the identity."""
    return jax.nn.relu(from_input + from_hidden)


def gru_update(carry: jax.Array, from_input: jax.Array, from_hidden: jax.Array) -> jax.Array:
    """The GRU's new carry."""
    input_r, input_z, input_n = jnp.split(from_input, 3, axis=-1)
    hidden_r, hidden_z, hidden_n = jnp.split(from_hidden, 3, axis=-1)
    r, z = jax.nn.sigmoid(input_r + hidden_r), jax.nn.sigmoid(input_z + hidden_z)
    n = jnp.tanh(input_n + r * hidden_n)
    return (1 - z) * n + z * carry


def lstm_update(
    carry: tuple[jax.Array, jax.Array], from_input: jax.Array, from_hidden: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The LSTM's new carry."""
    i, f, g, o = jnp.split(from_input + from_hidden, 4, axis=-1)
    cell = jax.nn.sigmoid(f) * carry[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(cell), cell


class Kind(NamedTuple):
    """What a layer must know of a cell.

    gates: by how much its weights have more rows than features. summed: whether the update sees
    only the sum of the two products. update: (carry, from input, from hidden) -> carry.
    """

    cell: Callable[[Params, Carry, jax.Array], tuple[Carry, jax.Array]]
    gates: int
    summed: bool
    update: Callable[[Carry, jax.Array, jax.Array], Carry]


KINDS = {
    "rnn": Kind(rnn_cell, 1, True, rnn_update),
    "rnn_relu": Kind(partial(rnn_cell, nonlinearity="relu"), 1, True, rnn_relu_update),
    "gru": Kind(gru_cell, 3, False, gru_update),
    "lstm": Kind(lstm_cell, 4, True, lstm_update),
}


def hidden(carry: Carry) -> jax.Array:
    """The hidden state h in a carry."""
    return carry[0] if isinstance(carry, tuple) else carry


def scan_layer(
    cell: Callable[..., Any],
    params: Params,
    x: jax.Array,
    carry: Carry,
    mask: jax.Array | None = None,
    reverse: bool = False,
) -> tuple[jax.Array, Carry]:
    """(outputs `[batch, time, features]`, carry): a cell, step by step.

    x: `[batch, time, in]`. mask: `[time, batch, 1]`, false where the carry is to stay as it is
    and the output to be zero. reverse: from the last step to the first.
    """

    def step(carry: Carry, inputs: tuple[jax.Array, jax.Array | None]) -> tuple[Carry, jax.Array]:
        x, keep = inputs
        new, output = cell(params, carry, x)
        return select(keep, new, carry, output)

    carry, outputs = jax.lax.scan(step, carry, (jnp.swapaxes(x, 0, 1), mask), reverse=reverse)
    return jnp.swapaxes(outputs, 0, 1).astype(x.dtype), carry


def step_mask(lengths: jax.Array, time: int) -> jax.Array:
    """`[time, batch, 1]`: whether a step is within its sequence's length `[batch]`."""
    steps = jnp.broadcast_to(jnp.arange(time)[:, None], (time, *lengths.shape))
    return (steps < jnp.broadcast_to(lengths, steps.shape))[..., None]


def select(
    keep: jax.Array | None, new: Carry, old: Carry, output: jax.Array
) -> tuple[Carry, jax.Array]:
    """(carry, output) of a step: where `keep` `[batch, 1]` is false, the old carry, and zero."""
    if keep is None:
        return new, output

    def choose(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(jnp.broadcast_to(keep, new.shape), new, old)

    return jax.tree.map(choose, new, old), choose(output, jnp.zeros_like(output))


def _products(params: Params, hidden: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(W_ih x + b_ih, W_hh h + b_hh), each `[batch, gates * features]`."""
    from_input = linear(x, params["weight_ih"], params["bias_ih"])
    return from_input, linear(hidden.astype(x.dtype), params["weight_hh"], params["bias_hh"])


def linear(x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    """x W^T + b for x `[..., in]`, W `[out, in]`: multiplied in x's type, added up in `wide`."""
    product = jax.lax.dot_general(
        x,
        weight.astype(x.dtype),
        (((x.ndim - 1,), (1,)), ((), ())),
        preferred_element_type=wide(x.dtype),
    )
    return product + jnp.broadcast_to(bias.astype(product.dtype), product.shape)


def wide(dtype: Any) -> jnp.dtype:
    """The type of sums, gates and carry for products in `dtype`: float32, or float64 with it."""
    return jnp.promote_types(dtype, jnp.float32)
