"""The name classifier: what it reads, and that padding has no part in it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.errors import UserError
from jaxlessons.models.cells import gru_cell
from jaxlessons.models.names import NameClassifier
from jaxlessons.models.rnn import Recurrent

TOKENS = np.array([[3, 1, 4, 1, 5], [2, 0, -1, -1, -1], [6, 5, 4, -1, -1]], np.int32)
LENGTHS = np.array([5, 2, 3])
SMALL = {"vocabulary_size": 7, "classes": 3, "embedding_size": 4, "features": 5}


def made(cell="gru", **settings):
    """(the compiled network, its variables)."""
    network = NameClassifier(**SMALL, cell=cell, **settings)
    return jax.jit(network.apply), jax.jit(network.init)(jax.random.key(1), TOKENS)


def test_the_tutorials_network_has_its_parameters():
    shapes = jax.eval_shape(NameClassifier(128, 18).init, jax.random.key(0), TOKENS)["params"]
    # torch.nn.Embedding(128, 100), GRU(100, 100, 2, bidirectional=True), Linear(200, 18).
    gru = 2 * (300 * (100 + 100) + 600) + 2 * (300 * (200 + 100) + 600)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 12_800 + gru + 200 * 18 + 18


def test_it_is_the_cell_step_by_step_over_one_name_alone():
    apply, variables = made()
    params = variables["params"]
    recurrent = params["recurrent"]

    def walk(x, layer, reverse):
        suffix = f"_l{layer}" + ("_reverse" if reverse else "")
        own = {
            name.removesuffix(suffix): value
            for name, value in recurrent.items()
            if name.endswith(suffix) and (reverse or "reverse" not in name)
        }
        carry, outputs = jnp.zeros((1, 5)), []
        for step in x[::-1] if reverse else x:
            carry, output = gru_cell(own, carry, step[None])
            outputs.append(output[0])
        return outputs[::-1] if reverse else outputs, carry[0]

    logits = apply(variables, TOKENS)
    for row, length in enumerate(LENGTHS):
        x = [params["embedding"]["embedding"][token] for token in TOKENS[row, :length]]
        for layer in (0, 1):
            (there, end), (back, start) = (walk(x, layer, way) for way in (False, True))
            x = [jnp.concatenate(both) for both in zip(there, back, strict=True)]
        last = jnp.concatenate([end, start])
        expected = last @ params["output"]["kernel"] + params["output"]["bias"]
        np.testing.assert_allclose(logits[row], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "cell",
    [
        "gru",
        "qrnn",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("lstm", "rnn", "mingru", "minlstm")
        ),
    ],
)
def test_padding_and_the_other_names_change_no_logit(cell):
    apply, variables = made(cell)
    logits = apply(variables, TOKENS)
    assert logits.shape == (3, 3)
    assert logits.dtype == jnp.float32
    wider = np.pad(TOKENS, ((0, 0), (0, 4)), constant_values=-1)
    alone = apply(variables, TOKENS[1:2, :2])
    np.testing.assert_allclose(alone[0], logits[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(apply(variables, wider), logits, rtol=1e-5, atol=1e-6)
    assert np.abs(np.diff(logits, axis=0)).min() > 1e-4
    # Lengths that are given decide, whatever stands behind them.
    other = np.where(TOKENS < 0, 6, TOKENS)
    np.testing.assert_array_equal(apply(variables, other, LENGTHS), logits)


@pytest.mark.slow
def test_lengths_may_be_a_list():
    apply, variables = made(layers=1)
    network = NameClassifier(**SMALL, layers=1)
    listed = network.apply(variables, np.abs(TOKENS), LENGTHS.tolist())
    np.testing.assert_allclose(listed, apply(variables, TOKENS), rtol=1e-5, atol=1e-6)


def test_padding_has_no_part_in_the_gradient():
    apply, variables = made()
    wide = np.pad(TOKENS, ((0, 0), (0, 4)), constant_values=-1)

    @jax.jit
    def gradient(tokens):
        return jax.grad(lambda v: jnp.sum(jnp.sin(apply(v, tokens))))(variables)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        gradient(TOKENS),
        gradient(wide),
    )


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["gru", "lstm", "mingru"])
def test_the_last_outputs_are_the_last_hidden_states(cell):
    apply, variables = made(cell)
    params = variables["params"]
    x = params["embedding"]["embedding"][np.maximum(TOKENS, 0)]
    layer = Recurrent(cell, 5, 2, bidirectional=True)
    _, carry = layer.apply({"params": params["recurrent"]}, x, None, LENGTHS)
    ends = [c[0] if isinstance(c, tuple) else c for c in carry[-2:]]
    expected = jnp.concatenate(ends, axis=1) @ params["output"]["kernel"]
    expected += jnp.broadcast_to(params["output"]["bias"], expected.shape)
    np.testing.assert_allclose(apply(variables, TOKENS), expected, rtol=1e-5, atol=1e-6)


def test_in_one_direction_only_the_end_is_read():
    apply, variables = made(bidirectional=False, layers=1)
    assert variables["params"]["output"]["kernel"].shape == (5, 3)
    logits = apply(variables, TOKENS)
    changed = TOKENS.copy()
    changed[2, 2] = 0  # the last letter of the third name
    found = apply(variables, changed)
    np.testing.assert_array_equal(found[:2], logits[:2])
    assert np.abs(found[2] - logits[2]).min() > 1e-4


@pytest.mark.slow
def test_dropout_is_for_training_alone():
    network = NameClassifier(**SMALL, dropout=0.5)
    variables = jax.jit(network.init)(jax.random.key(1), TOKENS)
    train = jax.jit(lambda key: network.apply(variables, TOKENS, train=True, rngs={"dropout": key}))
    one, other = (train(jax.random.key(k)) for k in (0, 1))
    assert np.abs(one - other).max() > 0.01
    plain = jax.jit(NameClassifier(**SMALL).apply)(variables, TOKENS)
    np.testing.assert_array_equal(jax.jit(network.apply)(variables, TOKENS), plain)


@pytest.mark.parametrize(
    ("tokens", "described"),
    [
        (np.zeros((2, 3), np.float32), "float32[2, 3]"),
        (np.zeros(3, np.int32), "int32[3]"),
        (np.zeros((2, 0), np.int32), "int32[2, 0]"),
    ],
)
def test_what_are_no_tokens_is_told(tokens, described):
    message = (
        f"tokens are {described}: they must be whole numbers [batch, time], neither of them 0."
    )
    # Not `match`: where jax shortens tracebacks it adds a note, which that would read too.
    with pytest.raises(UserError) as caught:
        NameClassifier(**SMALL).init(jax.random.key(0), tokens)
    assert str(caught.value) == message
