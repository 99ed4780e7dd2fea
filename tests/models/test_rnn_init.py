"""What `Recurrent` starts from, its dropout, and what it refuses."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.errors import UserError
from jaxlessons.models.rnn import Recurrent

X = jnp.ones((2, 3, 5))


def init(*settings, seed=0, **options):
    def params(key):
        return Recurrent(*settings, **options).init(key, X)["params"]

    quick = {"xla_backend_optimization_level": 0}
    return jax.jit(params, compiler_options=quick)(jax.random.key(seed))


@pytest.mark.parametrize("cell", ["lstm", "minlstm"])
def test_all_parameters_start_evenly_spread_within_pytorchs_bounds(cell):
    for name, value in init(cell, 64).items():
        bound = 1 / 8  # 1 / sqrt(features)
        assert np.abs(value).max() <= bound, name
        assert np.abs(value).max() > 0.95 * bound, name
        assert np.std(value) == pytest.approx(bound / np.sqrt(3), rel=0.1), name
        assert np.abs(np.mean(value)) < 0.2 * bound, name


def test_the_key_decides_what_it_starts_from_and_no_two_gates_are_alike():
    one, same, other = (init("gru", 4, seed=seed) for seed in (0, 0, 1))
    for name, value in one.items():
        np.testing.assert_array_equal(value, same[name])
        assert not np.any(np.asarray(value) == other[name])
        assert len(np.unique(value)) == value.size


@pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("lstm", 4)])
def test_recurrent_weights_start_orthogonal_gate_by_gate_or_as_the_identity(cell, gates):
    weight = init(cell, 6, recurrent_init="orthogonal")["weight_hh_l0"]
    squares = np.asarray(weight).reshape(gates, 6, 6)
    for square in squares:
        np.testing.assert_allclose(square @ square.T, np.eye(6), atol=1e-6)
    assert len({square.tobytes() for square in squares}) == gates
    weight = init(cell, 6, recurrent_init="identity")["weight_hh_l0"]
    np.testing.assert_array_equal(weight, np.concatenate([np.eye(6)] * gates))


def test_the_forget_gates_two_biases_add_up_to_what_was_asked_for():
    plain, asked = init("lstm", 4), init("lstm", 4, forget_bias=1.5)
    forget = np.arange(16) // 4 == 1
    both = asked["bias_ih_l0"] + asked["bias_hh_l0"]
    np.testing.assert_array_equal(both[forget], 1.5)
    for name in plain:
        kept = ~forget if name.startswith("bias") else slice(None)
        np.testing.assert_array_equal(asked[name][kept], plain[name][kept])


# Layers that hand a positive input on as it is: dropout is all that happens.
UNIT = {"weight_ih": np.eye(5), "weight_hh": np.zeros((5, 5)), "bias_ih": np.zeros(5)}
UNIT = {**UNIT, "bias_hh": UNIT["bias_ih"]}


def dropped(layers, train, seed=0, **options):
    layer = Recurrent("rnn", 5, layers, dropout=0.25, nonlinearity="relu", **options)
    params = {f"{name}_l{i}": np.float32(v) for name, v in UNIT.items() for i in range(layers)}
    rngs = None if seed is None else {"dropout": jax.random.key(seed)}
    x = jnp.ones((64, 40, 5))
    return np.asarray(layer.apply({"params": params}, x, train=train, rngs=rngs)[0])


@pytest.mark.parametrize("backend", ["scan", "fused"])
def test_dropout_acts_between_layers_in_training_and_keeps_the_mean(backend):
    np.testing.assert_array_equal(dropped(3, train=False, backend=backend), 1)
    np.testing.assert_array_equal(dropped(1, train=True, backend=backend), 1)
    between = dropped(2, train=True, backend=backend)
    np.testing.assert_allclose(between[between > 0], 1 / 0.75, rtol=1e-6)
    # 12,800 draws: their mean is off by 0.005 one time in three.
    assert np.mean(between == 0) == pytest.approx(0.25, abs=0.02)
    twice = dropped(3, train=True, backend=backend)
    np.testing.assert_allclose(twice[twice > 0], 1 / 0.75**2, rtol=1e-6)
    assert np.mean(twice > 0) == pytest.approx(0.75**2, abs=0.025)


def test_dropout_needs_a_key_and_follows_it():
    first, same, other = (dropped(2, train=True, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert np.mean(first != other) > 0.3  # 2 * 0.25 * 0.75 of them
    with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
        dropped(2, train=True, seed=None)


REFUSED = [
    (
        {"cell": "elman"},
        "cell is 'elman': it must be one of rnn, gru, lstm, mingru, minlstm, qrnn.",
    ),
    ({"cell": "rnn_relu"}, "cell is 'rnn_relu': it must be one of rnn, gru, "),
    (
        {"cell": "rnn", "nonlinearity": "selu"},
        "nonlinearity is 'selu': it must be tanh or relu.",
    ),
    ({"nonlinearity": "relu"}, "nonlinearity relu is the plain RNN's: cell is 'lstm'."),
    (
        {"cell": "gru", "backend": "cudnn"},
        "backend is 'cudnn': for cell gru take one of auto, scan, fused.",
    ),
    (
        {"cell": "qrnn", "backend": "fast"},
        "backend is 'fast': for cell qrnn take one of auto, scan, fused, associative.",
    ),
    (
        {"backend": "associative"},
        "backend is 'associative': for cell lstm take one of auto, scan, fused, cudnn.",
    ),
    (
        {"recurrent_init": "eye"},
        "recurrent_init is 'eye': it must be uniform, orthogonal or identity.",
    ),
    (
        {"cell": "mingru", "recurrent_init": "identity"},
        "recurrent_init: cell mingru has no recurrent weights.",
    ),
    ({"cell": "gru", "forget_bias": 1.0}, "forget_bias is the LSTM's: cell is 'gru'."),
    (
        {"features": 0},
        "features 0 and layers 1 must be at least 1, and dropout 0.0 from 0 to below 1.",
    ),
    ({"layers": 0}, "features 4 and layers 0 must be at least 1, "),
    ({"dropout": 1.0}, "dropout 1.0 from 0 to below 1."),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_settings_that_do_not_fit_are_refused_in_one_sentence(settings, message):
    with pytest.raises(UserError) as refused:
        Recurrent(**{"features": 4, **settings}).init(jax.random.key(0), X)
    assert message in str(refused.value)
    assert str(refused.value).count("\n") == 0


H = np.zeros((2, 4), np.float32)
LENGTHS = "it must be a whole number for each of the 2 sequences."
INPUTS = [
    ({"x": X[0]}, "x is [3, 5]: it must be [batch, time, in], none of them 0."),
    ({"x": X[:, :0]}, "x is [2, 0, 5]: it must be [batch, time, in], none of them 0."),
    (
        {"carry": (H,)},
        "carry has the shapes ((2, 4),): for this layer and batch they are (((2, 4), (2, 4)),).",
    ),
    ({"carry": ((H[:1], H[:1]),)}, "carry has the shapes (((1, 4), (1, 4)),): for this layer"),
    ({"lengths": np.array([1.0, 2.0])}, f"lengths is float32[2]: {LENGTHS}"),
    ({"lengths": np.array([1, 2, 3])}, f"[3]: {LENGTHS}"),
    ({"lengths": np.array([True, True])}, f"lengths is bool[2]: {LENGTHS}"),
    ({"lengths": np.array([1, 4])}, "lengths[1] is 4: it must be from 0 to the 3 steps of x."),
    ({"lengths": np.array([-1, 3])}, "lengths[0] is -1: it must be from 0 to the 3 steps of x."),
]


@pytest.mark.parametrize(("inputs", "message"), INPUTS)
def test_inputs_that_do_not_fit_are_refused_in_one_sentence(inputs, message):
    layer = Recurrent("lstm", 4)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), X)["params"]
    params = jax.tree.map(lambda value: np.zeros(value.shape, np.float32), shapes)
    with pytest.raises(UserError) as refused:
        layer.apply({"params": params}, **{"x": X, **inputs})
    assert message in str(refused.value)
