"""Each character model against the lesson's equations in numpy, and what its carry promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.errors import UserError
from jaxlessons.models.char import (
    CharLoopConcatModel,
    CharLoopModel,
    CharRNN,
    CharSequenceRNN,
    StatefulCharRNN,
    ThreeCharModel,
)

SIZES = {"vocabulary_size": 7, "embedding_size": 5, "features": 6}
TOKENS = np.random.RandomState(0).randint(0, 7, (4, 9)).astype(np.int32)
CELLS = ("rnn", "gru", "lstm")


# Compiling is nearly all that these tests do.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.partial(quick, static_argnums=0)
def init(model, tokens):
    return model.init(jax.random.key(1), tokens)["params"]


@functools.cache
def draw(model, time=9):
    """The model's own first parameters, but no bias is zero: else nothing would tell of it."""
    params = init(model, TOKENS[:, :time])
    random = np.random.RandomState(2)
    return jax.tree.map(
        lambda v: np.float32(v + 0.3 * random.randn(*v.shape)) if v.ndim == 1 else v,
        jax.tree.map(np.asarray, params),
    )


@functools.partial(quick, static_argnums=0)
def apply(model, params, tokens, *arguments):
    return model.apply({"params": params}, tokens, *arguments)


def numpy_apply(*arguments):
    """The same in numpy arrays: each operation on another array would be compiled too."""
    return jax.tree.map(np.asarray, apply(*arguments))


# The lesson in numpy, float64.


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


def shapes_of(model, tokens):
    return jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]


N, E, H = 85, 42, 256  # the lesson's sizes, which are the defaults
ENDS = N * E + H * N + N


@pytest.mark.parametrize(
    ("model", "time", "parameters"),
    [
        (ThreeCharModel(N), 3, ENDS + (E * H + H) + (H * H + H)),
        (CharLoopModel(N), 8, ENDS + (E * H + H) + (H * H + H)),
        (CharLoopConcatModel(N), 8, ENDS + ((E + H) * H + H) + (H * H + H)),
        (CharRNN(N), 8, ENDS + H * (E + H + 2)),
        (CharSequenceRNN(N), 8, ENDS + H * (E + H + 2)),
        (StatefulCharRNN(N, cell="rnn"), 8, ENDS + H * (E + H + 2)),
        (StatefulCharRNN(N, cell="gru"), 8, ENDS + 3 * H * (E + H + 2)),
        (
            StatefulCharRNN(N, features=512, layers=2),
            8,
            N * E + 512 * N + N + 4 * 512 * (E + 512 + 2) + 4 * 512 * (512 + 512 + 2),
        ),
    ],
)
def test_the_number_of_parameters_is_the_formulas(model, time, parameters):
    shapes = shapes_of(model, np.zeros((1, time), np.int32))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == parameters


@pytest.mark.parametrize("cell", CELLS)
def test_two_halves_with_the_carry_between_them_are_the_whole(cell):
    model = StatefulCharRNN(**SIZES, cell=cell, layers=2)
    params = draw(model)
    whole, end = numpy_apply(model, params, TOKENS)
    first, carry = numpy_apply(model, params, TOKENS[:, :4])
    second, last = numpy_apply(model, params, TOKENS[:, 4:], carry)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-6)
    for a, b in zip(jax.tree.leaves(last), jax.tree.leaves(end), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    # It is the carry that does it.
    anew, _ = numpy_apply(model, params, TOKENS[:, 4:])
    assert np.abs(anew - second).max() > 0.01


def loss(model, params, tokens, carry=None):
    """(sum of -log p of each next token, the carry)."""
    logits, carry = model.apply({"params": params}, tokens[:, :-1], carry)
    each = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, 1:, None], axis=-1)
    return -jnp.sum(each), carry


@pytest.mark.parametrize("cell", CELLS)
def test_the_gradient_stops_at_the_chunks_bound(cell):
    model = StatefulCharRNN(**SIZES, cell=cell)
    params = draw(model)
    first, second = TOKENS[:, :5], TOKENS[:, 4:]

    def two_chunks(params):
        before, carry = loss(model, params, first)
        return before + loss(model, params, second, carry)[0]

    def with_a_constant(params, carry):
        return loss(model, params, first)[0] + loss(model, params, second, carry)[0]

    def in_one(params):
        return loss(model, params, TOKENS)[0]

    @quick
    def gradients(params, carry):
        both = jax.grad(with_a_constant, (0, 1))(params, carry)
        return jax.grad(two_chunks)(params), *both, jax.grad(in_one)(params)

    _, constant = numpy_apply(model, params, first[:, :-1])
    made = gradients(params, constant)
    found, expected, into_carry, full = jax.tree.map(np.asarray, made)
    differ = 0.0
    for a, b, c in zip(*map(jax.tree.leaves, (found, expected, full)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        differ = max(differ, float(np.abs(a - c).max()))
    assert differ > 0.01
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(into_carry))


@pytest.mark.parametrize(
    ("model", "gates"),
    [
        (CharSequenceRNN(**SIZES, recurrent_init="identity"), 1),
        (CharRNN(**SIZES, cell="lstm", recurrent_init="identity"), 4),
        (StatefulCharRNN(**SIZES, cell="gru", layers=2, recurrent_init="identity"), 3),
    ],
)
def test_the_recurrent_weights_can_start_at_the_identity(model, gates):
    own = init(model, TOKENS)["recurrent"]
    names = [name for name in own if name.startswith("weight_hh")]
    assert len(names) == getattr(model, "layers", 1)
    for name in names:
        np.testing.assert_array_equal(own[name], np.concatenate([np.eye(6)] * gates))
    # The others are still drawn.
    assert np.std(own["weight_ih_l0"]) > 0.1


def test_the_embedding_starts_as_a_normal_draw():
    table = np.asarray(init(CharRNN(85, features=4), TOKENS)["embedding"]["embedding"])
    assert abs(table.mean()) < 0.05
    assert abs(table.std() - 1) < 0.05


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


MODELS = [ThreeCharModel, CharLoopModel, CharLoopConcatModel, CharRNN, CharSequenceRNN]


@pytest.mark.parametrize("kind", [*MODELS[1:], StatefulCharRNN])
@pytest.mark.parametrize(
    ("tokens", "named"),
    [
        (np.zeros((2, 9), np.float32), "float32[2, 9]"),
        (np.zeros(9, np.int32), "int32[9]"),
        (np.zeros((2, 0), np.int32), "int32[2, 0]"),
    ],
)
def test_what_is_not_token_ids_is_refused(kind, tokens, named):
    with pytest.raises(UserError) as caught:
        shapes_of(kind(**SIZES), jnp.asarray(tokens))
    assert str(caught.value) == (
        f"tokens are {named}: they must be whole numbers [batch, time], neither of them 0."
    )


@pytest.mark.parametrize("shape", [(2, 4), (2, 2), (3,), (2, 3, 1)])
def test_three_characters_are_three(shape):
    with pytest.raises(UserError) as caught:
        shapes_of(ThreeCharModel(**SIZES), jnp.zeros(shape, jnp.int32))
    expected = f"tokens are {list(shape)}: this model takes [batch, 3]."
    assert str(caught.value) == expected


def test_a_cell_that_there_is_not_and_a_carry_that_does_not_fit_are_refused():
    with pytest.raises(UserError, match=r"^cell is 'elman': it must be one of rnn, gru, lstm, "):
        shapes_of(StatefulCharRNN(**SIZES, cell="elman"), TOKENS)
    model = StatefulCharRNN(**SIZES, cell="gru")
    params = draw(model)
    carry = (np.zeros((3, 6), np.float32),)
    with pytest.raises(UserError) as caught:
        apply(model, params, TOKENS, carry)
    assert str(caught.value) == (
        "carry has the shapes ((3, 6),): for this layer and batch they are ((4, 6),)."
    )
