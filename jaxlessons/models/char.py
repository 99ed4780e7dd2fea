"""The character models of fast.ai's lesson 6 and 7, from three characters to a stateful LSTM.

All take token ids `[batch, time]` and return logits over the vocabulary. Each class's default sizes
are the lesson's: 42 numbers a character, 256 hidden units.
"""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlessons.errors import UserError
from jaxlessons.models.cells import Carry, Nonlinearity
from jaxlessons.models.rnn import Backend, CellName, Recurrent


class CharModel(nn.Module):
    """What the models share: the embedding, drawn from N(0, 1) as PyTorch does, and the output.

    vocabulary_size: of the logits. embedding_size: numbers a character becomes. features: hidden
    units. dtype: of the products; logits are float32.
    """

    vocabulary_size: int
    embedding_size: int = 42
    features: int = 256
    dtype: Any = jnp.float32

    def embed(self, tokens: jax.Array) -> jax.Array:
        """`[batch, time]` -> `[batch, time, embedding_size]`."""
        whole = jnp.issubdtype(tokens.dtype, jnp.integer)
        if not whole or tokens.ndim != 2 or 0 in tokens.shape:
            raise UserError(
                f"tokens are {tokens.dtype}{list(tokens.shape)}: they must be whole numbers "
                "[batch, time], neither of them 0."
            )
        table = nn.Embed(
            self.vocabulary_size,
            self.embedding_size,
            embedding_init=nn.initializers.normal(1.0),
            dtype=self.dtype,
            name="embedding",
        )
        return table(tokens)

    def dense(self, name: str) -> nn.Dense:
        """A layer of `features` units."""
        return nn.Dense(self.features, dtype=self.dtype, name=name)

    def logits(self, hidden: jax.Array) -> jax.Array:
        """`[..., features]` -> float32 `[..., vocabulary_size]`."""
        output = nn.Dense(self.vocabulary_size, dtype=self.dtype, name="output")
        return output(hidden).astype(jnp.float32)

    def loop(self, step: Any, x: jax.Array) -> jax.Array:
        """The last hidden state of `step(model, h, x)` over x `[batch, time, ...]`, from zeros."""
        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False}, in_axes=1)
        hidden, _ = scan(self, jnp.zeros((x.shape[0], self.features), x.dtype), x)
        return hidden


class ThreeCharModel(CharModel):
    """The fourth of four characters, written out: tokens `[batch, 3]` -> logits `[batch, n]`.

    h = tanh(hidden(h + relu(input(c)))) for each of the three in turn, from h = 0.
    """

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool = False) -> jax.Array:
        if tokens.shape[1:] != (3,):
            raise UserError(f"tokens are {list(tokens.shape)}: this model takes [batch, 3].")
        first, second, third = jnp.unstack(self.embed(tokens), axis=1)
        inputs, hidden = self.dense("input"), self.dense("hidden")
        h = jnp.tanh(hidden(nn.relu(inputs(first))))
        h = jnp.tanh(hidden(h + nn.relu(inputs(second))))
        h = jnp.tanh(hidden(h + nn.relu(inputs(third))))
        return self.logits(h)


class CharLoopModel(CharModel):
    """The same for any number of characters, as a loop: `[batch, time]` -> `[batch, n]`."""

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool = False) -> jax.Array:
        def step(model: CharModel, h: jax.Array, x: jax.Array) -> tuple[jax.Array, None]:
            return jnp.tanh(model.dense("hidden")(h + x)), None

        x = nn.relu(self.dense("input")(self.embed(tokens)))
        return self.logits(self.loop(step, x))


class CharLoopConcatModel(CharModel):
    """The loop with hidden state and character side by side, not added.

    h = tanh(hidden(relu(input([h, c])))), so that neither has to be of the other's size.
    """

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool = False) -> jax.Array:
        def step(model: CharModel, h: jax.Array, x: jax.Array) -> tuple[jax.Array, None]:
            joined = nn.relu(model.dense("input")(jnp.concatenate([h, x], axis=-1)))
            return jnp.tanh(model.dense("hidden")(joined)), None

        return self.logits(self.loop(step, self.embed(tokens)))


class CharRNN(CharModel):
    """The loop as a recurrent layer, its last output alone: `[batch, time]` -> `[batch, n]`."""

    cell: CellName = "rnn"
    nonlinearity: Nonlinearity = "tanh"
    recurrent_init: Literal["uniform", "orthogonal", "identity"] = "uniform"

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool = False) -> jax.Array:
        return self.logits(self.recurrent(self.embed(tokens))[:, -1])

    def recurrent(self, x: jax.Array) -> jax.Array:
        """The outputs `[batch, time, features]`."""
        layer = Recurrent(
            self.cell,
            self.features,
            nonlinearity=self.nonlinearity,
            recurrent_init=self.recurrent_init,
            dtype=self.dtype,
            name="recurrent",
        )
        return layer(x)[0]


class CharSequenceRNN(CharRNN):
    """A prediction after every character: `[batch, time]` -> `[batch, time, n]`.

    The lesson starts its recurrent weights at the identity (`recurrent_init="identity"`).
    """

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool = False) -> jax.Array:
        return self.logits(self.recurrent(self.embed(tokens)))


class StatefulCharRNN(CharModel):
    """The language model: (tokens, carry) -> (logits `[batch, time, n]`, carry).

    The carry goes from one batch to the next, so that the network remembers more than it is
    trained back through: no gradient goes into the carry that it is given (truncated
    backpropagation through time). None is the state at a text's beginning, zeros.

    The lesson's LSTM has 512 features, 2 layers and dropout 0.5 between them.
    """

    cell: CellName = "lstm"
    layers: int = 1
    dropout: float = 0.0
    output_dropout: float = 0.0
    recurrent_init: Literal["uniform", "orthogonal", "identity"] = "uniform"
    forget_bias: float | None = None
    backend: Backend = "auto"

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        carry: tuple[Carry, ...] | None = None,
        lengths: jax.Array | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, tuple[Carry, ...]]:
        """lengths: int `[batch]`, the real steps of each row; see `Recurrent`.

        With `mutable=["intermediates"]`, `apply` also gives the last layer's outputs, as
        "outputs" `[batch, time, features]`: what the hidden units say to the text.
        """
        layer = Recurrent(
            self.cell,
            self.features,
            self.layers,
            self.dropout,
            backend=self.backend,
            recurrent_init=self.recurrent_init,
            forget_bias=self.forget_bias,
            dtype=self.dtype,
            name="recurrent",
        )
        carry = jax.lax.stop_gradient(carry)
        outputs, carry = layer(self.embed(tokens), carry, lengths, train)
        self.sow("intermediates", "outputs", outputs)
        dropout = nn.Dropout(self.output_dropout, deterministic=not train)
        return self.logits(dropout(outputs)), carry
