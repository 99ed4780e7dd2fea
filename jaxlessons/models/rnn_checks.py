"""What `Recurrent` refuses, and in which words."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlessons.errors import UserError
from jaxlessons.models import cells, parallel_cells, rnn_cudnn
from jaxlessons.models.cells import Carry


def check_settings(layer: Any, x: jax.Array) -> None:
    """UserError for settings of the `Recurrent` layer, or an x, that don't fit."""
    kinds = [*cells.KINDS, *parallel_cells.KINDS]
    kinds.remove("rnn_relu")
    if layer.cell not in kinds:
        raise UserError(f"cell is {layer.cell!r}: it must be one of {', '.join(kinds)}.")
    if layer.nonlinearity not in ("tanh", "relu"):
        raise UserError(f"nonlinearity is {layer.nonlinearity!r}: it must be tanh or relu.")
    if layer.nonlinearity != "tanh" and layer.cell != "rnn":
        raise UserError(f"nonlinearity relu is the plain RNN's: cell is {layer.cell!r}.")
    fitting = ["auto", "scan", "fused"]
    fitting += ["associative"] if layer.cell in parallel_cells.KINDS else []
    fitting += ["cudnn"] if layer.cell == "lstm" else []
    if layer.backend not in fitting:
        known = ", ".join(fitting)
        raise UserError(f"backend is {layer.backend!r}: for cell {layer.cell} take one of {known}.")
    if layer.backend == "cudnn" and not rnn_cudnn.is_available():
        raise UserError('backend is "cudnn": it needs an NVIDIA GPU, take "auto".')
    if layer.backend == "cudnn" and layer.dtype != jnp.float32:
        raise UserError('backend "cudnn" computes in float32 only: take "auto".')
    if layer.recurrent_init not in ("uniform", "orthogonal", "identity"):
        raise UserError(
            f"recurrent_init is {layer.recurrent_init!r}: it must be uniform, orthogonal or "
            "identity."
        )
    if layer.forget_bias is not None and layer.cell != "lstm":
        raise UserError(f"forget_bias is the LSTM's: cell is {layer.cell!r}.")
    if layer.recurrent_init != "uniform" and layer.cell in parallel_cells.KINDS:
        raise UserError(f"recurrent_init: cell {layer.cell} has no recurrent weights.")
    if min(layer.features, layer.layers) < 1 or not 0 <= layer.dropout < 1:
        raise UserError(
            f"features {layer.features} and layers {layer.layers} must be at least 1, and "
            f"dropout {layer.dropout} from 0 to below 1."
        )
    if x.ndim != 3 or 0 in x.shape:
        raise UserError(f"x is {list(x.shape)}: it must be [batch, time, in], none of them 0.")


def checked_carry(carry: Any, zeros: tuple[Carry, ...]) -> tuple[Carry, ...]:
    """The carry in the type of `zeros`; UserError when its shapes are not those of `zeros`."""
    shapes, wanted = jax.tree.map(jnp.shape, carry), jax.tree.map(jnp.shape, zeros)
    if shapes != wanted:
        raise UserError(
            f"carry has the shapes {shapes}: for this layer and batch they are {wanted}."
        )
    return jax.tree.map(lambda array, zero: jnp.asarray(array, zero.dtype), carry, zeros)


def checked_lengths(lengths: Any, x: jax.Array) -> jax.Array:
    """int32 lengths; under jit, where their values can't be seen, they are clipped to 0..time."""
    batch, time, _ = x.shape
    if jnp.shape(lengths) != (batch,) or not jnp.issubdtype(
        jnp.asarray(lengths).dtype, jnp.integer
    ):
        raise UserError(
            f"lengths is {jnp.asarray(lengths).dtype}{list(jnp.shape(lengths))}: it must be a "
            f"whole number for each of the {batch} sequences."
        )
    if not isinstance(lengths, jax.core.Tracer):
        for row, length in enumerate(np.asarray(lengths)):
            if not 0 <= length <= time:
                raise UserError(
                    f"lengths[{row}] is {length}: it must be from 0 to the {time} steps of x."
                )
    return jnp.clip(jnp.asarray(lengths, jnp.int32), 0, time)
