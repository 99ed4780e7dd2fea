"""A classifier of names, or of any short texts, by their letters."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlessons.errors import UserError
from jaxlessons.models.rnn import Backend, CellName, Recurrent


class NameClassifier(nn.Module):
    """(tokens `[batch, time]`, lengths `[batch]`) -> logits `[batch, classes]`.

    A recurrent network reads the letters from both ends; what each direction of the last layer has
    to say when it has read all of them, joined, goes through a linear layer. The tutorial's
    (Kim, PyTorchZeroToAll, lesson 13) has an embedding of 100 numbers, and 2 GRU layers of 100
    units in each direction.

    vocabulary_size: different tokens. classes: logits. embedding_size: numbers a token becomes,
    drawn from N(0, 1) as PyTorch does. dropout: of the embedding, between the layers, and ahead of
    the linear layer; needs a "dropout" key. The others are `Recurrent`'s. dtype: of the products;
    logits are float32.
    """

    vocabulary_size: int
    classes: int
    embedding_size: int = 100
    features: int = 100
    cell: CellName = "gru"
    layers: int = 2
    bidirectional: bool = True
    dropout: float = 0.0
    backend: Backend = "auto"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: jax.Array, lengths: jax.Array | None = None, train: bool = False
    ) -> jax.Array:
        """lengths: int, the real tokens of each row; unless given, those that are not negative.

        What stands behind them has no effect. A row without any is read as zeros.

        Raises:
          UserError: for tokens or lengths that don't fit.
        """
        if tokens.ndim != 2 or 0 in tokens.shape or not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise UserError(
                f"tokens are {tokens.dtype}{list(tokens.shape)}: they must be whole numbers "
                "[batch, time], neither of them 0."
            )
        lengths = token_counts(tokens) if lengths is None else jnp.asarray(lengths)
        table = nn.Embed(
            self.vocabulary_size,
            self.embedding_size,
            embedding_init=nn.initializers.normal(1.0),
            dtype=self.dtype,
            name="embedding",
        )
        dropout = nn.Dropout(self.dropout, deterministic=not train)
        layer = Recurrent(
            self.cell,
            self.features,
            self.layers,
            self.dropout,
            self.bidirectional,
            self.backend,
            dtype=self.dtype,
            name="recurrent",
        )
        outputs, _ = layer(dropout(table(jnp.maximum(tokens, 0))), None, lengths, train)
        output = nn.Dense(self.classes, dtype=self.dtype, name="output")
        return output(dropout(self._last(outputs, lengths))).astype(jnp.float32)

    def _last(self, outputs: jax.Array, lengths: jax.Array) -> jax.Array:
        """What each direction ends with: forward at the last real step, backward at the first."""
        place = jnp.clip(lengths - 1, 0, outputs.shape[1] - 1)[:, None, None]
        forward = jnp.take_along_axis(outputs[..., : self.features], place, axis=1)[:, 0]
        return jnp.concatenate([forward, outputs[:, 0, self.features :]], axis=-1)


def token_counts(tokens: jax.Array) -> jax.Array:
    """int32 `[batch]`: the tokens of each row `[batch, time]` that are not negative (padding)."""
    return jnp.sum(tokens >= 0, axis=1, dtype=jnp.int32)
