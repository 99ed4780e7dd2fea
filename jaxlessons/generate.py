"""Text from a recurrent language model, one token after the other, in a compiled loop.

The model is a function, apply(variables, tokens, carry=None) -> (logits, carry): tokens int32
`[batch, time]`, logits `[batch, time, vocabulary]`, and a carry of any structure whose leaves have
the batch axis first; without one it starts from its zero state. What is compiled is kept for this
very function, so hand over the same one each time (`model.apply` is), not a new lambda.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from jaxlessons.errors import UserError

# (variables, tokens, carry=None) -> (logits, carry), see above.
Apply = Callable[..., tuple[jax.Array, Any]]


class _Options(struct.PyTreeNode):
    """What is compiled for, and (the two numbers) what may change from call to call."""

    samples: int = struct.field(pytree_node=False, default=1)
    temperature: Any = 1.0
    top_k: int | None = struct.field(pytree_node=False, default=None)
    top_p: Any = None
    greedy: bool = struct.field(pytree_node=False, default=False)


class _State(NamedTuple):
    logits: jax.Array  # [samples, vocabulary] float32, of the token to come
    carry: Any  # leaves [samples, ...]
    written: jax.Array  # int32 scalar, how many tokens


def generate(
    apply: Apply,
    variables: Any,
    prompt: Any,
    length: int,
    key: jax.Array,
    *,
    samples: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    greedy: bool = False,
) -> np.ndarray:
    """The `length` tokens that follow the prompt, int32 `[samples, length]`.

    prompt: token ids `[time]` for all samples, or a row for each, `[samples, time]`; read by one
    call. temperature, top_k, top_p: see `filter_logits`; of these only top_k compiles anew, as
    does another length. greedy: the likeliest token each time, the lowest id among equals.

    Token i of sample s is drawn with fold_in(fold_in(key, s), i). So, as far as apply's rounding
    allows, a longer text begins with the shorter one, and a sample is the same however many there
    are (with JAX's default kind of key; "rbg" keys don't promise that).

    Raises:
      UserError: for an option outside its range; for a prompt that is empty, holds other than
        the model's token ids, or has neither one row nor `samples`.
    """
    options = _Options(samples, temperature, top_k, top_p, greedy)
    return next(_chunks(apply, variables, prompt, length, key, length, options))


def stream(
    apply: Apply,
    variables: Any,
    prompt: Any,
    length: int,
    key: jax.Array,
    *,
    chunk: int = 8,
    **options: Any,
) -> Iterator[np.ndarray]:
    """The tokens of `generate` as they come: int32 `[samples, chunk]`, the last ones fewer.

    One compiled loop of `chunk` steps serves every length. The options, those of `generate`, are
    checked, and the prompt is read, at once. Raises: UserError as `generate`; for a chunk below 1.
    """
    return _chunks(apply, variables, prompt, length, key, chunk, _Options(**options))


def filter_logits(
    logits: jax.Array,
    temperature: float | jax.Array = 1.0,
    top_k: int | None = None,
    top_p: float | jax.Array | None = None,
) -> jax.Array:
    """What the next token is drawn from: logits `[..., vocabulary]` float32, -inf where cut off.

    In this order: divided by the temperature; the top_k largest, exactly that many, or all where
    the vocabulary has fewer; of their softmax the nucleus, the smallest set of the likeliest whose
    probability reaches top_p, at least one (Holtzman et al., The curious case of neural text
    degeneration, 2020), and all for a top_p of 1. Among equals the lower ids come first. The
    largest is shifted to 0, which changes no probability. Unchecked: numbers may be traced.
    """
    wide = jnp.asarray(logits, jnp.float32)
    # Shifted before the division: a low temperature then can't overflow to inf.
    scaled = (wide - wide.max(axis=-1, keepdims=True)) / temperature
    if top_k is None and top_p is None:
        return scaled
    order = jnp.argsort(-scaled, axis=-1, stable=True)
    ranked = jnp.take_along_axis(scaled, order, axis=-1)
    rank = lax.broadcasted_iota(jnp.int32, ranked.shape, ranked.ndim - 1)
    if top_k is not None:
        ranked = jnp.where(rank < top_k, ranked, -jnp.inf)
    if top_p is not None:
        probabilities = jax.nn.softmax(ranked, axis=-1)
        before = jnp.cumsum(probabilities, axis=-1) - probabilities
        # The rounded sum can reach 1 before the rarest tokens.
        nucleus = (rank == 0) | (before < top_p) | (jnp.asarray(top_p) >= 1)
        ranked = jnp.where(nucleus, ranked, -jnp.inf)
    return jnp.put_along_axis(scaled, order, ranked, axis=-1, inplace=False)


def check_range(ids: np.ndarray, logits: jax.ShapeDtypeStruct) -> None:
    """UserError for a prompt's token that is none of those the logits `[..., vocabulary]` rank.

    Of the logits the shape will do, so that the model is traced first and not run: what it makes
    of ids beyond its vocabulary is its own affair.
    """
    last = logits.shape[-1] - 1
    outside = ids[(ids < 0) | (ids > last)]
    if outside.size:
        raise UserError(f"The prompt's token {outside[0]} is outside the model's ids, 0 to {last}.")


def _chunks(
    apply: Apply, variables: Any, prompt: Any, length: int, key: jax.Array, chunk: int, o: _Options
) -> Iterator[np.ndarray]:
    ids = np.atleast_2d(np.asarray(prompt))
    _check(ids, length, chunk, o)
    check_range(ids, _read.eval_shape(apply, variables, ids, o.samples).logits)
    start = _read(apply, variables, ids, o.samples)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(o.samples))
    traced = jax.tree.map(np.float32, o)

    def chunks(state: _State) -> Iterator[np.ndarray]:
        for written in range(0, length, chunk):
            # The last chunk runs in full and is cut here: a shorter loop would compile anew.
            state, tokens = _write(apply, variables, state, keys, traced, chunk)
            yield np.asarray(tokens)[:, : length - written]

    return chunks(start)


@functools.partial(jax.jit, static_argnames=("apply", "samples"))
def _read(apply: Apply, variables: Any, ids: jax.Array, samples: int) -> _State:
    logits, carry = apply(variables, ids.astype(jnp.int32))
    last = (logits[:, -1].astype(jnp.float32), carry)
    # A prompt that all samples share is read once.
    logits, carry = jax.tree.map(lambda leaf: jnp.repeat(leaf, samples // len(ids), axis=0), last)
    return _State(logits, carry, jnp.int32(0))


@functools.partial(jax.jit, static_argnames=("apply", "steps"))
def _write(
    apply: Apply, variables: Any, state: _State, keys: jax.Array, o: _Options, steps: int
) -> tuple[_State, jax.Array]:
    def draw(logits: jax.Array, written: jax.Array) -> jax.Array:
        if o.greedy:
            return logits.argmax(axis=-1)
        now = jax.vmap(jax.random.fold_in, (0, None))(keys, written)
        kept = filter_logits(logits, o.temperature, o.top_k, o.top_p)
        return jax.vmap(jax.random.categorical)(now, kept)

    def step(state: _State, _: None) -> tuple[_State, jax.Array]:
        tokens = draw(state.logits, state.written).astype(jnp.int32)
        logits, carry = apply(variables, tokens[:, None], state.carry)
        return _State(logits[:, 0].astype(jnp.float32), carry, state.written + 1), tokens

    state, tokens = lax.scan(step, state, length=steps)
    return state, tokens.T


def _check(ids: np.ndarray, length: int, chunk: int, o: _Options) -> None:
    float32 = np.finfo(np.float32)
    for fine, message in (
        (length >= 1, f"length is {length}: it must be 1 token or more."),
        (chunk >= 1, f"chunk is {chunk}: it must be 1 token or more."),
        (o.samples >= 1, f"samples is {o.samples}: it must be 1 text or more."),
        (
            o.greedy or float32.tiny <= o.temperature <= float32.max,
            f"temperature is {o.temperature}: it must be a number above 0; for the likeliest token "
            "each time, ask for greedy.",
        ),
        (o.top_k is None or o.top_k >= 1, f"top_k is {o.top_k}: it must be 1 token or more."),
        (o.top_p is None or 0 < o.top_p <= 1, f"top_p is {o.top_p}: it must be above 0, up to 1."),
        (ids.size, "The prompt is empty: give at least one token to start from."),
        (ids.dtype.kind in "iu", f"The prompt holds {ids.dtype}: give token ids, integers."),
        (
            ids.ndim == 2 and len(ids) in (1, o.samples),
            f"The prompt has the shape {ids.shape}: give one row of token ids, or one for each of "
            f"the samples, {o.samples} now.",
        ),
    ):
        if not fine:
            raise UserError(message)
