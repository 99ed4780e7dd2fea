"""Each character model against the lesson's equations in numpy, float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from char_networks import CELLS, SIZES, TOKENS, draw, numpy_apply, quick

from jaxlessons.models.char import (
    CharLoopConcatModel,
    CharLoopModel,
    CharRNN,
    CharSequenceRNN,
    StatefulCharRNN,
    ThreeCharModel,
)


def dense(p, x):
    return x @ p["kernel"] + p["bias"]


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def embed(p, tokens):
    return p["embedding"]["embedding"][tokens]


def add_by_hand(p, tokens):
    h = np.zeros((len(tokens), 6))
    for x in embed(p, tokens).swapaxes(0, 1):
        h = np.tanh(dense(p["hidden"], h + relu(dense(p["input"], x))))
    return dense(p["output"], h)


def concat_by_hand(p, tokens):
    h = np.zeros((len(tokens), 6))
    for x in embed(p, tokens).swapaxes(0, 1):
        joined = relu(dense(p["input"], np.concatenate([h, x], axis=1)))
        h = np.tanh(dense(p["hidden"], joined))
    return dense(p["output"], h)


def cell_by_hand(cell, p, layer, carry, x):
    """PyTorch's equations, gate by gate: the carry (h, c) of every cell; only the LSTM has a c."""
    h, c = carry
    i, j = (
        x @ p[f"weight_ih_l{layer}"].T + p[f"bias_ih_l{layer}"],
        h @ p[f"weight_hh_l{layer}"].T + p[f"bias_hh_l{layer}"],
    )
    gate = [slice(6 * k, 6 * k + 6) for k in range(4)]
    if cell == "rnn":
        return np.tanh(i + j), c
    if cell == "gru":
        r, z = (sigmoid((i + j)[:, gate[k]]) for k in (0, 1))
        n = np.tanh(i[:, gate[2]] + r * j[:, gate[2]])
        return (1 - z) * n + z * h, c
    write, forget, new, out = ((i + j)[:, g] for g in gate)
    c = sigmoid(forget) * c + sigmoid(write) * np.tanh(new)
    return sigmoid(out) * np.tanh(c), c


def outputs_by_hand(p, tokens, cell="rnn", layers=1):
    """(the last layer's outputs, the last carry of each layer), from zeros."""
    x = embed(p, tokens)
    carries = []
    for layer in range(layers):
        carry, outputs = (np.zeros((len(tokens), 6)),) * 2, []
        for step in x.swapaxes(0, 1):
            carry = cell_by_hand(cell, p["recurrent"], layer, carry, step)
            outputs.append(carry[0])
        x = np.stack(outputs, axis=1)
        carries.append(carry if cell == "lstm" else carry[0])
    return x, carries


def rnn_by_hand(p, tokens):
    return dense(p["output"], outputs_by_hand(p, tokens)[0])


BY_HAND = [
    (ThreeCharModel, 3, add_by_hand),
    (CharLoopModel, 9, add_by_hand),
    (CharLoopConcatModel, 9, concat_by_hand),
    (CharRNN, 9, lambda p, tokens: rnn_by_hand(p, tokens)[:, -1]),
    (CharSequenceRNN, 9, rnn_by_hand),
]


def double(tree):
    return jax.tree.map(lambda v: np.asarray(v, np.float64), tree)


@pytest.mark.parametrize(("kind", "time", "by_hand"), BY_HAND)
def test_each_model_is_the_lessons_equations(kind, time, by_hand):
    model = kind(**SIZES)
    params = draw(model, time)
    found = numpy_apply(model, params, TOKENS[:, :time])
    assert found.dtype == jnp.float32
    expected = by_hand(double(params), TOKENS[:, :time])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2])
def test_the_stateful_model_is_its_cells_equations(cell, layers):
    model = StatefulCharRNN(**SIZES, cell=cell, layers=layers)
    params = draw(model)
    logits, carry = numpy_apply(model, params, TOKENS)
    outputs, carries = outputs_by_hand(double(params), TOKENS, cell, layers)
    expected = dense(double(params)["output"], outputs)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    assert len(carry) == layers
    for own, theirs in zip(jax.tree.leaves(carry), jax.tree.leaves(carries), strict=True):
        np.testing.assert_allclose(own, theirs, rtol=1e-5, atol=1e-5)


def test_three_characters_written_out_are_the_loop_over_three():
    params = draw(ThreeCharModel(**SIZES), 3)
    three, loop = (
        numpy_apply(kind(**SIZES), params, TOKENS[:, :3])
        for kind in (ThreeCharModel, CharLoopModel)
    )
    np.testing.assert_allclose(three, loop, rtol=1e-6, atol=1e-6)


def test_the_sequence_models_last_output_is_the_other_ones():
    params = draw(CharRNN(**SIZES))
    every = numpy_apply(CharSequenceRNN(**SIZES), params, TOKENS)
    np.testing.assert_allclose(
        every[:, -1], numpy_apply(CharRNN(**SIZES), params, TOKENS), atol=1e-6
    )
    # And the others are what the model would say of a shorter text.
    shorter = numpy_apply(CharRNN(**SIZES), params, TOKENS[:, :4])
    np.testing.assert_allclose(every[:, 3], shorter, atol=1e-6)


def test_an_rnn_with_relu_is_its_equation():
    model = CharRNN(**SIZES, nonlinearity="relu")
    p = double(draw(model))
    own = p["recurrent"]
    h = np.zeros((4, 6))
    for x in embed(p, TOKENS).swapaxes(0, 1):
        h = relu(
            x @ own["weight_ih_l0"].T
            + own["bias_ih_l0"]
            + h @ own["weight_hh_l0"].T
            + own["bias_hh_l0"]
        )
    found = numpy_apply(model, draw(model), TOKENS)
    np.testing.assert_allclose(found, dense(p["output"], h), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "time", "by_hand"), BY_HAND)
def test_half_precision_products_give_the_logits_but_for_rounding(kind, time, by_hand):
    params = draw(kind(**SIZES), time)
    found = numpy_apply(kind(**SIZES, dtype=jnp.bfloat16), params, TOKENS[:, :time])
    assert found.dtype == jnp.float32
    expected = by_hand(double(params), TOKENS[:, :time])
    # bfloat16 keeps 8 bits: 0.4 % a rounding, of which some add up.
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert 1e-5 < error < 0.03


@pytest.mark.parametrize("layers", [1, 2])
def test_the_last_layers_outputs_are_handed_out_when_asked_for(layers):
    model = StatefulCharRNN(**SIZES, layers=layers)
    params = draw(model)

    @quick
    def asked(params):
        return model.apply({"params": params}, TOKENS, mutable=["intermediates"])

    (logits, _), extra = asked(params)
    (outputs,) = extra["intermediates"]["outputs"]
    expected, _ = outputs_by_hand(double(params), TOKENS, "lstm", layers)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    logits_of_them = dense(double(params)["output"], np.asarray(outputs))
    np.testing.assert_allclose(logits_of_them, logits, atol=1e-5)


def test_dropout_takes_outputs_away_in_training_only_and_scales_the_rest():
    model = StatefulCharRNN(6, 5, 6, output_dropout=0.5)
    params = draw(model)
    # So that the logits are the outputs.
    params = {**params, "output": {"kernel": np.eye(6, dtype="f"), "bias": np.zeros(6, "f")}}
    tokens = TOKENS % 6
    outputs = numpy_apply(model, params, tokens)[0]
    expected, _ = outputs_by_hand(double(params), tokens, "lstm")
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)

    @quick
    def trained(params, key):
        return model.apply({"params": params}, tokens, train=True, rngs={"dropout": key})

    dropped, carry = trained(params, jax.random.key(4))
    gone = np.asarray(dropped) == 0
    assert 0.4 < gone.mean() < 0.6
    np.testing.assert_allclose(dropped, np.where(gone, 0, 2 * outputs), rtol=1e-5, atol=1e-6)
    kept = numpy_apply(model, params, tokens)[1]
    for a, b in zip(jax.tree.leaves(carry), jax.tree.leaves(kept), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
