"""One step of each cell against its equations, gate by gate and unit by unit."""

import math

import numpy as np
import pytest

from jaxlessons.models.rnn import gru_cell, lstm_cell, rnn_cell

BATCH, INPUTS, FEATURES = 2, 3, 4


def formula(name, *shape):
    index = np.arange(math.prod(shape), dtype=np.float64)
    return np.sin(index * index + index + sum(map(ord, name))).reshape(shape).astype(np.float32)


def params(gates):
    rows = gates * FEATURES
    shapes = {"weight_ih": (rows, INPUTS), "weight_hh": (rows, FEATURES)}
    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
    return {name: formula(name, *shape) for name, shape in shapes.items()}


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def sums(params, x, h, gate, unit):
    """(W_ih x + b_ih, W_hh h + b_hh) of one unit in one gate, added up by hand."""
    row = gate * FEATURES + unit
    from_input = sum(float(w) * float(v) for w, v in zip(params["weight_ih"][row], x, strict=True))
    from_hidden = sum(float(w) * float(v) for w, v in zip(params["weight_hh"][row], h, strict=True))
    return from_input + float(params["bias_ih"][row]), from_hidden + float(params["bias_hh"][row])


@pytest.fixture
def x():
    return formula("x", BATCH, INPUTS)


@pytest.fixture
def h():
    return formula("h", BATCH, FEATURES)


PLACES = [(row, unit) for row in range(BATCH) for unit in range(FEATURES)]


@pytest.mark.parametrize(
    ("nonlinearity", "function"), [("tanh", math.tanh), ("relu", lambda value: max(value, 0.0))]
)
def test_rnn_cell(nonlinearity, function, x, h):
    weights = params(1)
    carry, output = rnn_cell(weights, h, x, nonlinearity=nonlinearity)
    for row, unit in PLACES:
        expected = function(sum(sums(weights, x[row], h[row], 0, unit)))
        assert float(output[row, unit]) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    np.testing.assert_array_equal(carry, output)


def test_gru_cell_has_the_gates_r_z_n_and_the_reset_behind_the_product(x, h):
    weights = params(3)
    carry, output = gru_cell(weights, h, x)
    for row, unit in PLACES:
        r, z = (sigmoid(sum(sums(weights, x[row], h[row], gate, unit))) for gate in (0, 1))
        from_input, from_hidden = sums(weights, x[row], h[row], 2, unit)
        n = math.tanh(from_input + r * from_hidden)
        expected = (1 - z) * n + z * float(h[row, unit])
        assert float(output[row, unit]) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    np.testing.assert_array_equal(carry, output)


def test_lstm_cell_has_the_gates_i_f_g_o(x, h):
    weights, c = params(4), formula("c", BATCH, FEATURES)
    (new_h, new_c), output = lstm_cell(weights, (h, c), x)
    for row, unit in PLACES:
        i, f, g, o = (sum(sums(weights, x[row], h[row], gate, unit)) for gate in range(4))
        cell = sigmoid(f) * float(c[row, unit]) + sigmoid(i) * math.tanh(g)
        expected = sigmoid(o) * math.tanh(cell)
        assert float(new_c[row, unit]) == pytest.approx(cell, rel=1e-5, abs=1e-6)
        assert float(output[row, unit]) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    np.testing.assert_array_equal(new_h, output)
