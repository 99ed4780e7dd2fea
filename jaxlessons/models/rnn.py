"""Recurrent layers: any cell, any number of layers, both directions, padded batches.

The cells are in `cells` (PyTorch's RNN, GRU and LSTM) and `parallel_cells` (QRNN, minGRU, minLSTM,
whose loop over time can be done in parallel).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxlessons.models import cells, parallel_cells, rnn_cudnn
from jaxlessons.models.cells import (
    Carry,
    Nonlinearity,
    Params,
    gru_cell,
    lstm_cell,
    rnn_cell,
    scan_layer,
    step_mask,
    wide,
)
from jaxlessons.models.parallel_cells import mingru_cell, minlstm_cell, parallel_layer, qrnn_cell
from jaxlessons.models.rnn_checks import check_settings, checked_carry, checked_lengths
from jaxlessons.models.rnn_fused import fused_layer

__all__ = [
    "Recurrent",
    "gru_cell",
    "lstm_cell",
    "mingru_cell",
    "minlstm_cell",
    "qrnn_cell",
    "rnn_cell",
]

CellName = Literal["rnn", "gru", "lstm", "qrnn", "mingru", "minlstm"]
Backend = Literal["auto", "scan", "fused", "cudnn", "associative"]
Layer = Callable[[Params, jax.Array, Carry, jax.Array | None, bool], tuple[jax.Array, Carry]]


class Recurrent(nn.Module):
    """Layers of a recurrent cell: (x, carry, lengths, train) -> (outputs, carry).

    The parameters have the names and shapes of torch.nn.RNN, GRU and LSTM: weight_ih_l0,
    weight_hh_l0, bias_ih_l0, bias_hh_l0, ..., with "_reverse" behind those of the backward
    direction; qrnn, mingru and minlstm have no weight_hh and bias_hh.

    dropout: share of the features between two layers that training sets to 0; needs a "dropout"
    key. bidirectional: each layer also runs from the last step to the first, and its outputs are
    joined behind the forward ones. nonlinearity: the plain RNN's. recurrent_init: of weight_hh,
    each gate by itself: "uniform" as PyTorch, orthogonal (Saxe et al., 2014) or the identity
    (Le et al., 2015). forget_bias: what the LSTM's forget gate has in place of its random bias,
    such as 1 (Gers et al., 2000; Jozefowicz et al., 2015). dtype: of the products and outputs;
    sums, gates and carry are float32, or float64 where dtype is.

    backend:
      "scan": `lax.scan` of the cell, the reference.
      "fused": products that need not wait for the step before are taken out of the loop, forward
        and backward (see `rnn_fused`).
      "associative": no loop at all; qrnn, mingru and minlstm only.
      "cudnn": NVIDIA's, for the LSTM on its GPUs, with TF32 products unless within
        `jax.default_matmul_precision("highest")`.
      "auto": the fastest that fits.
    """

    cell: CellName = "lstm"
    features: int = 256
    layers: int = 1
    dropout: float = 0.0
    bidirectional: bool = False
    backend: Backend = "auto"
    nonlinearity: Nonlinearity = "tanh"
    recurrent_init: Literal["uniform", "orthogonal", "identity"] = "uniform"
    forget_bias: float | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        carry: tuple[Carry, ...] | None = None,
        lengths: jax.Array | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, tuple[Carry, ...]]:
        """x `[batch, time, in]` -> (outputs `[batch, time, directions * features]`, carry).

        carry: of each layer and direction, in PyTorch's order (layer 0, layer 0 backwards,
        layer 1, ...), that of the cell: h `[batch, features]`, the LSTM's (h, c), the QRNN's
        (c, the input before). None is zeros. lengths: int `[batch]`, the real steps of each
        sequence: outputs beyond them are zero, and the carry is that of the last real step, the
        backward direction's that of the first. What x holds beyond them has no effect. Under
        jit, where their values can't be checked, they are clipped to 0..time.

        Raises:
          UserError: for a setting, a carry or lengths that don't fit.
        """
        check_settings(self, x)
        x = x.astype(self.dtype)
        directions = 2 if self.bidirectional else 1
        sizes = [x.shape[-1], *[directions * self.features] * (self.layers - 1)]
        params = [
            [self._params(size, layer, reverse) for reverse in (False, True)[:directions]]
            for layer, size in enumerate(sizes)
        ]
        zeros = self.initial_carry(*x.shape[::2])
        carry = zeros if carry is None else checked_carry(carry, zeros)
        mask = None
        if lengths is not None:
            lengths = checked_lengths(lengths, x)
            mask = step_mask(lengths, x.shape[1])
            # A NaN in the padding would become one in the gradient, though its own is zero.
            x = jnp.where(jnp.broadcast_to(jnp.swapaxes(mask, 0, 1), x.shape), x, 0)
        backend = self._chosen_backend()
        dropout = nn.Dropout(self.dropout, deterministic=not train)
        if backend == "cudnn" and (not train or self.dropout == 0):
            return rnn_cudnn.lstm(params, x, carry, lengths)

        new: list[Carry] = []
        for number, layer in enumerate(params):
            x = dropout(x) if number else x
            old = carry[number * directions :][:directions]
            if backend == "cudnn":
                x, last = rnn_cudnn.lstm([layer], x, old, lengths)
                new += last
                continue
            run = self._layer(backend)
            both = [
                run(p, x, c, mask, d == 1) for d, (p, c) in enumerate(zip(layer, old, strict=True))
            ]
            x = jnp.concatenate([outputs for outputs, _ in both], axis=-1)
            new += [last for _, last in both]
        return x, tuple(new)

    def initial_carry(self, batch: int, in_features: int) -> tuple[Carry, ...]:
        """Zeros in the shape of the carry, for inputs `[batch, time, in_features]`."""
        directions = 2 if self.bidirectional else 1
        zeros = partial(jnp.zeros, dtype=wide(self.dtype))
        state = zeros((batch, self.features))
        carry: list[Carry] = []
        for layer in range(self.layers):
            before = zeros((batch, directions * self.features if layer else in_features))
            own: Carry = {"lstm": (state, state), "qrnn": (state, before)}.get(self.cell, state)
            carry += [own] * directions
        return tuple(carry)

    def _layer(self, backend: str) -> Layer:
        """One layer in one direction by this backend."""
        if self.cell in parallel_cells.KINDS:
            cell, parallel = parallel_cells.KINDS[self.cell]
            if backend == "scan":
                return partial(scan_layer, cell)
            method: parallel_cells.Method = "loop" if backend == "fused" else "associative"
            return partial(parallel_layer, parallel, method)
        relu = self.cell == "rnn" and self.nonlinearity == "relu"
        kind = cells.KINDS["rnn_relu" if relu else self.cell]
        return partial(scan_layer, kind.cell) if backend == "scan" else partial(fused_layer, kind)

    def _chosen_backend(self) -> str:
        if self.backend != "auto":
            return self.backend
        if self.cell in parallel_cells.KINDS:
            return "associative"
        fits = self.cell == "lstm" and self.dtype == jnp.float32
        return "cudnn" if fits and rnn_cudnn.is_available() else "fused"

    def _params(self, in_features: int, layer: int, reverse: bool) -> Params:
        """One layer's parameters, drawn as PyTorch draws them but for the options."""
        suffix = f"_l{layer}" + ("_reverse" if reverse else "")
        if self.cell in parallel_cells.KINDS:
            kind = parallel_cells.KINDS[self.cell][1]
            gates, shapes = kind.gates, {"weight_ih": kind.window * in_features}
        else:
            gates = cells.KINDS[self.cell].gates
            shapes = {"weight_ih": in_features, "weight_hh": self.features}
        rows = gates * self.features
        params = {
            name: self.param(name + suffix, self._initializer(name, gates), (rows, columns))
            for name, columns in shapes.items()
        }
        for name in shapes:
            name = name.replace("weight", "bias")
            params[name] = self.param(name + suffix, self._initializer(name, gates), (rows,))
        return params

    def _initializer(self, name: str, gates: int) -> Callable[..., jax.Array]:
        bound = 1 / np.sqrt(self.features)
        uniform = partial(jax.random.uniform, dtype=jnp.float32, minval=-bound, maxval=bound)
        if name == "weight_hh" and self.recurrent_init != "uniform":

            def by_gate(key: jax.Array, shape: Sequence[int]) -> jax.Array:
                square = (self.features, self.features)
                if self.recurrent_init == "identity":
                    return jnp.tile(jnp.eye(self.features, dtype=jnp.float32), (gates, 1))
                draw = nn.initializers.orthogonal(dtype=jnp.float32)
                keys = jax.random.split(key, gates)
                return jnp.concatenate([draw(k, square) for k in keys])

            return by_gate
        if self.cell == "lstm" and self.forget_bias is not None and name.startswith("bias"):
            # Both biases are added: one of them holds the whole, the other zero.
            value = self.forget_bias if name == "bias_ih" else 0.0
            forget = slice(self.features, 2 * self.features)
            return lambda key, shape: uniform(key, shape).at[forget].set(value)
        return uniform
