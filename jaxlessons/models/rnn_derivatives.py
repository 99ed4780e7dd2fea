"""What the gradient of a recurrent cell's step multiplies by, worked out going forward.

A step is elementwise but for its products, so its derivative is one factor for each gate and unit,
and one or two for the carry. Going forward they cost little, for the activations are at hand; going
backward nothing is left but to multiply, and less is kept than gates and carries would need.

Arrays are `[..., features, batch]`, those of all gates `[..., gates * features, batch]`, in the
order of `cells`; d is for the loss's gradient with respect to what follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlessons.models import cells
from jaxlessons.models.cells import Carry


class Derivative(NamedTuple):
    """A cell's step by the chain rule.

    forward: (carry, new carry, from input, from hidden) -> (factors, what else is needed).
    backward: (factors, what else, d new carry) -> (d from hidden, rest, d carry but for what
    comes through the product). to_input: (d from hidden, rest) -> d from input, of all steps.
    """

    forward: Callable[[Carry, Carry, jax.Array, jax.Array], tuple[jax.Array, Any]]
    backward: Callable[[jax.Array, Any, Carry], tuple[jax.Array, Any, Carry]]
    to_input: Callable[[jax.Array, Any], jax.Array] = lambda d_gates, rest: d_gates


def _rnn_forward(
    carry: jax.Array, new: jax.Array, from_input: jax.Array, from_hidden: jax.Array
) -> tuple[jax.Array, None]:
    return 1 - new * new, None


def _rnn_relu_forward(
    carry: jax.Array, new: jax.Array, from_input: jax.Array, from_hidden: jax.Array
) -> tuple[jax.Array, None]:
    return (new > 0).astype(new.dtype), None


def _rnn_backward(
    factors: jax.Array, saved: None, d_new: jax.Array
) -> tuple[jax.Array, None, jax.Array]:
    return factors * d_new, None, jnp.zeros_like(d_new)


def _gru_forward(
    carry: jax.Array, new: jax.Array, from_input: jax.Array, from_hidden: jax.Array
) -> tuple[jax.Array, Any]:
    """h' = (1 - z) n + z h with n = tanh(i_n + r h_n)."""
    input_r, input_z, input_n = jnp.split(from_input, 3)
    hidden_r, hidden_z, hidden_n = jnp.split(from_hidden, 3)
    r, z = jax.nn.sigmoid(input_r + hidden_r), jax.nn.sigmoid(input_z + hidden_z)
    n = jnp.tanh(input_n + r * hidden_n)
    to_n = (1 - z) * (1 - n * n)
    factors = [to_n * hidden_n * r * (1 - r), (carry - n) * z * (1 - z), to_n * r]
    return jnp.concatenate(factors), (z, to_n)


def _gru_backward(
    factors: jax.Array, saved: Any, d_new: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The rest is d i_n, which the reset gate parts from d h_n."""
    z, to_n = saved
    return factors * jnp.tile(d_new, (3, 1)), to_n * d_new, z * d_new


def _gru_to_input(d_gates: jax.Array, d_input_n: jax.Array) -> jax.Array:
    return jnp.where(_gate(d_gates, 3) == 2, jnp.tile(d_input_n, (3, 1)), d_gates)


def _lstm_forward(
    carry: tuple[jax.Array, jax.Array],
    new: tuple[jax.Array, jax.Array],
    from_input: jax.Array,
    from_hidden: jax.Array,
) -> tuple[jax.Array, Any]:
    """c' = f c + i g, h' = o tanh(c')."""
    i, f, g, o = jnp.split(from_input + from_hidden, 4)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    tanh = jnp.tanh(new[1])
    factors = [g * i * (1 - i), carry[1] * f * (1 - f), i * (1 - g * g), tanh * o * (1 - o)]
    return jnp.concatenate(factors), (f, o * (1 - tanh * tanh))


def _lstm_backward(
    factors: jax.Array, saved: Any, d_new: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, None, tuple[jax.Array, jax.Array]]:
    f, to_cell = saved
    d_hidden, d_cell = d_new
    d_cell += d_hidden * to_cell
    # i, f and g reach the loss through the cell, o through h alone. XLA makes vector code of this
    # on a CPU, and none of a concatenation.
    through_cell, through_hidden = jnp.tile(d_cell, (4, 1)), jnp.tile(d_hidden, (4, 1))
    d_gates = factors * jnp.where(_gate(factors, 4) == 3, through_hidden, through_cell)
    return d_gates, None, (jnp.zeros_like(d_hidden), d_cell * f)


def _gate(gates: jax.Array, count: int) -> jax.Array:
    """The number of the gate that each value belongs to."""
    axis = gates.ndim - 2
    return jax.lax.broadcasted_iota(jnp.int32, gates.shape, axis) // (gates.shape[axis] // count)


DERIVATIVES = {
    cells.rnn_update: Derivative(_rnn_forward, _rnn_backward),
    cells.rnn_relu_update: Derivative(_rnn_relu_forward, _rnn_backward),
    cells.gru_update: Derivative(_gru_forward, _gru_backward, _gru_to_input),
    cells.lstm_update: Derivative(_lstm_forward, _lstm_backward),
}
