"""Generation against loops without scan or carry, in float64, on a tiny random RNN."""

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxlessons.errors import UserError
from jaxlessons.generate import filter_logits, generate, stream

VOCABULARY, FEATURES = 5, 8
RANDOM = np.random.RandomState(0)
EMBEDDING = RANDOM.randn(VOCABULARY, FEATURES)
RECURRENT = RANDOM.randn(FEATURES, FEATURES) / 2
OUTPUT = RANDOM.randn(FEATURES, VOCABULARY) / 2
VARIABLES = jax.tree.map(jnp.float32, {"e": EMBEDDING, "r": RECURRENT, "o": OUTPUT})
PROMPT = [3, 1, 4, 1]
KEY = jax.random.key(7)


def apply(variables, tokens, carry=None):
    """A tanh RNN whose logits also turn with the time: a carry of two leaves and two types."""
    if carry is None:
        hidden = jnp.zeros((len(tokens), FEATURES))
        carry = {"hidden": hidden, "time": jnp.zeros(len(tokens), jnp.int32)}

    def step(carry, token):
        hidden = jnp.tanh(variables["e"][token] + carry["hidden"] @ variables["r"])
        turn = jnp.sin(carry["time"].astype(jnp.float32))[:, None]
        return {"hidden": hidden, "time": carry["time"] + 1}, hidden @ variables["o"] * (1 + turn)

    carry, logits = lax.scan(step, carry, tokens.T)
    return logits.swapaxes(0, 1), carry


def last_logits(tokens):
    """The logits after a whole text `[time]`, read from its start each time."""
    hidden = np.zeros(FEATURES)
    for token in tokens:
        hidden = np.tanh(EMBEDDING[token] + hidden @ RECURRENT)
    return hidden @ OUTPUT * (1 + math.sin(len(tokens) - 1))


def greedy_by_hand(prompt, length):
    text = list(prompt)
    for _ in range(length):
        text.append(int(last_logits(text).argmax()))
    return text[len(prompt) :]


def filter_by_hand(logits, temperature, top_k, top_p):
    scaled = [float(logit) / temperature for logit in logits]
    ranking = sorted(range(len(scaled)), key=lambda token: (-scaled[token], token))
    ranking = ranking[:top_k]
    total = sum(math.exp(scaled[token]) for token in ranking)
    kept, reached = [], 0.0
    for token in ranking:
        kept.append(token)
        reached += math.exp(scaled[token]) / total
        if top_p is not None and reached >= top_p:
            break
    return [scaled[t] - max(scaled) if t in kept else -math.inf for t in range(len(scaled))]


def sample_by_hand(prompt, length, key, sample, temperature=1.0, top_k=None, top_p=None):
    text = list(prompt)
    for index in range(length):
        kept = filter_by_hand(last_logits(text), temperature, top_k, top_p)
        now = jax.random.fold_in(jax.random.fold_in(key, sample), index)
        text.append(int(jax.random.categorical(now, jnp.asarray(kept, jnp.float32))))
    return text[len(prompt) :]


# Drawing takes a second to compile for each length, number of samples and top_k: most tests share.
write = partial(generate, apply, VARIABLES, PROMPT, 20, samples=3)


@pytest.mark.parametrize("prompt", [[0], PROMPT, [4, 4, 0, 2, 3, 1, 1]])
def test_greedy_is_the_argmax_of_the_whole_text_read_anew(prompt):
    found = generate(apply, VARIABLES, prompt, 30, KEY, greedy=True)
    assert found.dtype == np.int32
    assert found.shape == (1, 30)
    expected = greedy_by_hand(prompt, 30)
    assert found[0].tolist() == expected
    assert len(set(expected)) > 2


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.6}, {"temperature": 2.0, "top_k": 4, "top_p": 0.8}],
)
def test_each_token_is_drawn_with_the_key_of_its_sample_and_index(options):
    expected = [sample_by_hand(PROMPT, 20, KEY, sample, **options) for sample in range(3)]
    assert write(KEY, **options).tolist() == expected


def test_each_sample_can_have_its_own_prompt_and_all_of_it_counts():
    prompts = np.array([[0, 1], [2, 2], [4, 2]])
    found = generate(apply, VARIABLES, prompts, 20, KEY, samples=3)
    expected = [sample_by_hand(prompt, 20, KEY, row) for row, prompt in enumerate(prompts)]
    assert found.tolist() == expected
    for prompt in ([2, 2], [[2, 2]]):
        alike = generate(apply, VARIABLES, prompt, 20, KEY, samples=3)
        np.testing.assert_array_equal(alike[1], found[1])
        assert (alike[2] != found[2]).any()


def test_frequencies_follow_the_softmax_at_the_temperature():
    """Chi-square over 20,000 first tokens; 4 degrees of freedom exceed 18.5 once in a thousand."""
    for temperature in (0.8, 1.0, 3.0):
        powers = np.exp(last_logits(PROMPT) / temperature)
        expected = 20000 * powers / powers.sum()
        tokens = generate(apply, VARIABLES, PROMPT, 1, KEY, samples=20000, temperature=temperature)
        counts = np.bincount(tokens[:, 0], minlength=VOCABULARY)
        assert ((counts - expected) ** 2 / expected).sum() < 18.5
        assert expected.min() > 5


@pytest.mark.parametrize(
    "options",
    [{"temperature": 5.0, "top_k": 1}, {"top_k": 4, "top_p": 1e-9}, {"temperature": 1e-30}],
)
def test_the_narrowest_choice_is_greedy(options):
    np.testing.assert_array_equal(write(KEY, **options), [greedy_by_hand(PROMPT, 20)] * 3)


def test_greedy_asks_for_no_temperature():
    found = write(KEY, greedy=True, temperature=0.0)
    np.testing.assert_array_equal(found, [greedy_by_hand(PROMPT, 20)] * 3)


def test_the_key_is_the_luck():
    text = write(KEY)
    np.testing.assert_array_equal(write(jax.random.key(7)), text)
    assert (write(jax.random.key(8)) != text).any(axis=1).all()


def test_a_sample_depends_neither_on_how_many_there_are_nor_on_the_length():
    texts = write(KEY)
    assert len(np.unique(texts, axis=0)) == 3
    np.testing.assert_array_equal(write(KEY, samples=2), texts[:2])
    shorter = generate(apply, VARIABLES, PROMPT, 13, KEY, samples=3)
    np.testing.assert_array_equal(shorter, texts[:, :13])


def test_a_stream_is_the_text_in_chunks():
    whole = write(KEY, temperature=1.3)
    for chunk, length in [(1, 5), (3, 9), (3, 10), (8, 3), (8, 8), (8, 20), (20, 20)]:
        parts = list(
            stream(apply, VARIABLES, PROMPT, length, KEY, chunk=chunk, samples=3, temperature=1.3)
        )
        assert [part.shape[1] for part in parts[:-1]] == [chunk] * (len(parts) - 1)
        assert 1 <= parts[-1].shape[1] <= chunk
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole[:, :length])


def test_a_stream_can_be_greedy_and_is_of_eights():
    parts = list(stream(apply, VARIABLES, PROMPT, 20, KEY, greedy=True))
    assert [part.shape for part in parts] == [(1, 8), (1, 8), (1, 4)]
    assert np.concatenate(parts, axis=1)[0].tolist() == greedy_by_hand(PROMPT, 20)


def test_other_numbers_keys_weights_and_lengths_of_streams_compile_nothing_anew():
    traces = []

    def counted(variables, tokens, carry=None):
        traces.append(tokens.shape)
        return apply(variables, tokens, carry)

    def text(weights, prompt, length, key, **options):
        return list(stream(counted, weights, prompt, length, key, chunk=4, **options))

    text(VARIABLES, PROMPT, 4, KEY, temperature=0.7, top_p=0.9)
    first = len(traces)
    assert first > 0
    text(jax.tree.map(jnp.sin, VARIABLES), PROMPT[::-1], 13, KEY, temperature=1, top_p=1)
    text(VARIABLES, PROMPT, 7, jax.random.key(1), temperature=np.float64(2.5), top_p=0.1)
    assert len(traces) == first


# The last rows have many ties.
LOGITS = 2 * np.random.RandomState(3).randn(12, 11).astype(np.float32)
LOGITS[8:] = LOGITS[8:].round()


@pytest.mark.parametrize("top_k", [None, 3, 50])
@pytest.mark.parametrize("top_ps", [[None], [1e-6, 0.35, 0.8, 0.99, 1.0]])
def test_the_filter_agrees_with_a_plain_loop(top_k, top_ps):
    compiled = jax.jit(filter_logits, static_argnums=2)
    for top_p in top_ps:
        for temperature in (0.3, 1.0, 4.0):
            found = compiled(LOGITS.reshape(4, 3, 11), temperature, top_k, top_p)
            assert found.dtype == jnp.float32
            expected = [filter_by_hand(row, temperature, top_k, top_p) for row in LOGITS]
            np.testing.assert_allclose(found.reshape(12, 11), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"temperature": 0},
            "temperature is 0: it must be a number above 0; for the likeliest token each time, "
            "ask for greedy.",
        ),
        ({"temperature": -0.5}, "temperature is -0.5: it must be a number above 0; for"),
        ({"temperature": math.inf}, "temperature is inf: it must be a number above 0; for"),
        ({"temperature": math.nan}, "temperature is nan: it must be a number above 0; for"),
        ({"temperature": 1e-60}, "temperature is 1e-60: it must be a number above 0; for"),
        ({"top_k": 0}, "top_k is 0: it must be 1 token or more."),
        ({"top_p": 0.0}, "top_p is 0.0: it must be above 0, up to 1."),
        ({"top_p": 1.01}, "top_p is 1.01: it must be above 0, up to 1."),
        ({"top_p": math.nan}, "top_p is nan: it must be above 0, up to 1."),
        ({"length": 0}, "length is 0: it must be 1 token or more."),
        ({"samples": 0}, "samples is 0: it must be 1 text or more."),
        ({"chunk": 0}, "chunk is 0: it must be 1 token or more."),
        ({"prompt": []}, "The prompt is empty: give at least one token to start from."),
        ({"prompt": [0.5]}, "The prompt holds float64: give token ids, integers."),
        ({"prompt": [0, 5]}, "The prompt's token 5 is outside the model's ids, 0 to 4."),
        ({"prompt": [2, -1]}, "The prompt's token -1 is outside the model's ids, 0 to 4."),
        ({"prompt": [2**40]}, "The prompt's token 1099511627776 is outside the model's ids, 0 to"),
        (
            {"prompt": [[1], [2], [3]], "samples": 2},
            "The prompt has the shape (3, 1): give one row of token ids, or one for each of the "
            "samples, 2 now.",
        ),
    ],
)
def test_what_has_no_meaning_is_refused_before_anything_runs(changed, message):
    options = {"prompt": PROMPT, "length": 4, **changed}
    prompt, length = options.pop("prompt"), options.pop("length")
    with pytest.raises(UserError, match=re.escape(message)):
        stream(apply, VARIABLES, prompt, length, KEY, **options)
    if "chunk" not in options:
        with pytest.raises(UserError, match=re.escape(message)):
            generate(apply, VARIABLES, prompt, length, KEY, **options)
