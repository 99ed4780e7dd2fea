"""Beam search against trying all texts, and against a plain loop in float64."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxlessons.beam_search import beam_search
from jaxlessons.errors import UserError

VOCABULARY, FEATURES = 3, 6
RANDOM = np.random.RandomState(1)
EMBEDDING = RANDOM.randn(VOCABULARY, FEATURES)
RECURRENT = RANDOM.randn(FEATURES, FEATURES) / 2
OUTPUT = RANDOM.randn(FEATURES, VOCABULARY)
VARIABLES = jax.tree.map(jnp.float32, {"e": EMBEDDING, "r": RECURRENT, "o": OUTPUT})
PROMPT = [2, 0, 1]


def apply(variables, tokens, carry=None):
    """A tanh RNN; its carry also counts the tokens, and only the batch axis is first for sure."""
    if carry is None:
        carry = (jnp.zeros((len(tokens), 1, FEATURES)), jnp.zeros(len(tokens), jnp.int32))

    def step(carry, token):
        hidden = jnp.tanh(variables["e"][token] + carry[0][:, 0] @ variables["r"])
        return (hidden[:, None], carry[1] + 1), hidden @ variables["o"]

    carry, logits = lax.scan(step, carry, tokens.T)
    return logits.swapaxes(0, 1), carry


def last_log_probabilities(tokens):
    hidden = np.zeros(FEATURES)
    for token in tokens:
        hidden = np.tanh(EMBEDDING[token] + hidden @ RECURRENT)
    logits = hidden @ OUTPUT
    return logits - np.log(np.exp(logits).sum())


def score(text):
    """The log probability of a text after the prompt, read from its start for each token."""
    whole = [*PROMPT, *text]
    places = range(len(PROMPT), len(whole))
    return sum(last_log_probabilities(whole[:place])[whole[place]] for place in places)


def search_by_hand(length, beams):
    texts = [()]
    for _ in range(length):
        texts = [(*text, token) for text in texts for token in range(VOCABULARY)]
        texts = sorted(texts, key=score, reverse=True)[:beams]
    return texts


def all_texts(length):
    """Every text with its score, best first."""
    texts = itertools.product(range(VOCABULARY), repeat=length)
    return sorted(((score(text), text) for text in texts), reverse=True)


def check(found, texts):
    """tokens and log probabilities are these texts in this order."""
    tokens, log_probabilities = found
    assert tokens.dtype == jnp.int32
    assert log_probabilities.dtype == jnp.float32
    assert list(map(tuple, tokens.tolist())) == list(texts)
    np.testing.assert_allclose(log_probabilities, [score(text) for text in texts], atol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 4])
def test_with_enough_beams_it_is_all_texts_in_order(length):
    expected = all_texts(length)
    found = beam_search(apply, VARIABLES, PROMPT, length, beams=VOCABULARY**length)
    check(found, [text for _, text in expected])
    np.testing.assert_allclose(np.exp(found[1]).sum(), 1, rtol=1e-5)


def test_a_third_of_that_finds_the_best_of_all():
    best = [text for _, text in all_texts(4)[:27]]
    check(beam_search(apply, VARIABLES, PROMPT, 4, beams=27), best)


@pytest.mark.parametrize(("length", "beams"), [(1, 2), (5, 2), (7, 4), (6, 5)])
def test_few_beams_are_those_of_a_plain_loop(length, beams):
    check(beam_search(apply, VARIABLES, PROMPT, length, beams), search_by_hand(length, beams))


def test_one_beam_is_greedy():
    text = []
    for _ in range(25):
        text.append(int(last_log_probabilities([*PROMPT, *text]).argmax()))
    check(beam_search(apply, VARIABLES, PROMPT, 25, beams=1), [tuple(text)])


def test_it_can_beat_greedy():
    """The second of a fork's two ways leads on to certainty, the first to a guess."""
    # Row: the token read; column: the token to come. The carry goes unused.
    table = jnp.log(jnp.array([[0.01, 0.55, 0.44], [0.34, 0.33, 0.33], [0.98, 0.01, 0.01]]))

    def bigrams(table, tokens, carry=None):
        return table[tokens], jnp.zeros(len(tokens))

    tokens, log_probabilities = beam_search(bigrams, table, [0], 2, beams=2)
    assert tokens.tolist() == [[2, 0], [1, 0]]
    np.testing.assert_allclose(np.exp(log_probabilities), [0.44 * 0.98, 0.55 * 0.34], rtol=1e-5)
    assert beam_search(bigrams, table, [0], 2, beams=1)[0].tolist() == [[1, 0]]


def test_beams_beyond_all_texts_have_no_probability():
    tokens, log_probabilities = beam_search(apply, VARIABLES, PROMPT, 2, beams=12)
    check((tokens[:9], log_probabilities[:9]), [text for _, text in all_texts(2)])
    assert (log_probabilities[9:] == -jnp.inf).all()


def test_other_weights_and_prompts_compile_nothing_anew():
    traces = []

    def counted(variables, tokens, carry=None):
        traces.append(tokens.shape)
        return apply(variables, tokens, carry)

    one = beam_search(counted, VARIABLES, PROMPT, 6, beams=3)
    first = len(traces)
    assert first > 0
    other = beam_search(counted, jax.tree.map(jnp.negative, VARIABLES), [0, 0, 2], 6, beams=3)
    assert len(traces) == first
    assert (one[0] != other[0]).any()


@pytest.mark.parametrize(
    ("prompt", "length", "beams", "message"),
    [
        (PROMPT, 0, 4, "length is 0: it must be 1 or more."),
        (PROMPT, 4, 0, "beams is 0: it must be 1 or more."),
        ([], 4, 4, "The prompt is empty: give at least one token to start from."),
        (
            [[0, 1]],
            4,
            4,
            "The prompt is int64 of shape (1, 2): give one row of token ids, which are integers.",
        ),
        ([0.5], 4, 4, "The prompt is float64 of shape (1,): give one row of token ids"),
        ([0, 3], 4, 4, "The prompt's token 3 is outside the model's ids, 0 to 2."),
        ([-1], 4, 4, "The prompt's token -1 is outside the model's ids, 0 to 2."),
    ],
)
def test_what_has_no_meaning_is_refused(prompt, length, beams, message):
    with pytest.raises(UserError, match=re.escape(message)):
        beam_search(apply, VARIABLES, prompt, length, beams)
