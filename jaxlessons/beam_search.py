"""Beam search: the likeliest continuations that a recurrent language model gives a text."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlessons.errors import UserError
from jaxlessons.generate import Apply, check_range


def beam_search(
    apply: Apply, variables: Any, prompt: Any, length: int, beams: int = 4
) -> tuple[jax.Array, jax.Array]:
    """The `beams` likeliest texts of `length` tokens after the prompt that the search found.

    Of all one-token extensions of the beams, the likeliest `beams` are the next beams. One beam
    is the greedy text; with at least vocabulary**(length - 1) beams nothing is ever dropped that
    could win, and the result is that of trying all texts.

    apply: a recurrent language model's, (variables, tokens int32 [batch, time], carry=None) ->
    (logits [batch, time, vocabulary], carry), the carry's leaves with the batch axis first. The
    search is compiled for this function, length and number of beams. prompt: token ids `[time]`.

    Returns:
      The texts, int32 `[beams, length]`, best first, and the logarithm of each one's probability
      given the prompt, float32 `[beams]`. Where there are fewer texts than beams,
      vocabulary**length of them, the beams left over have -inf, and their tokens mean nothing.

    Raises:
      UserError: for a length or beams below 1, or a prompt that is empty or holds other than
        token ids of the model's vocabulary.
    """
    for name, count in (("length", length), ("beams", beams)):
        if count < 1:
            raise UserError(f"{name} is {count}: it must be 1 or more.")
    ids = np.asarray(prompt)
    if not ids.size:
        raise UserError("The prompt is empty: give at least one token to start from.")
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise UserError(
            f"The prompt is {ids.dtype} of shape {ids.shape}: give one row of token ids, which are "
            "integers."
        )
    check_range(ids, _read.eval_shape(apply, variables, ids)[0])
    return _search(apply, variables, *_read(apply, variables, ids), length, beams)


@functools.partial(jax.jit, static_argnames="apply")
def _read(apply: Apply, variables: Any, ids: jax.Array) -> tuple[jax.Array, Any]:
    """The logits `[1, vocabulary]` of the token after the prompt, and the carry there."""
    logits, carry = apply(variables, ids.astype(jnp.int32)[None])
    return logits[:, -1], carry


@functools.partial(jax.jit, static_argnames=("apply", "length", "beams"))
def _search(
    apply: Apply, variables: Any, logits: jax.Array, carry: Any, length: int, beams: int
) -> tuple[jax.Array, jax.Array]:
    logits, carry = jax.tree.map(lambda leaf: jnp.repeat(leaf, beams, axis=0), (logits, carry))
    # All beams are the prompt still: only the first one counts, or they would stay equal.
    scores = jnp.where(jnp.arange(beams) == 0, 0.0, -jnp.inf)

    def step(state: Any, _: None) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        scores, logits, carry = state
        extended = scores[:, None] + jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
        scores, best = lax.top_k(extended.reshape(-1), beams)
        parents, tokens = jnp.divmod(best, logits.shape[-1])
        carry = jax.tree.map(lambda leaf: leaf[parents], carry)
        logits, carry = apply(variables, tokens[:, None], carry)
        return (scores, logits[:, 0], carry), (parents, tokens)

    def trace_back(beam: jax.Array, link: tuple[jax.Array, jax.Array]) -> Any:
        parents, tokens = link
        return parents[beam], tokens[beam]

    (scores, _, _), links = lax.scan(step, (scores, logits, carry), length=length)
    _, tokens = lax.scan(trace_back, jnp.arange(beams), links, reverse=True)
    return tokens.T, scores
