"""The cells that need no loop: against their equations, a loop, and each backend."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.models.parallel_cells import linear_recurrence, minlstm_steps
from jaxlessons.models.rnn import Recurrent, mingru_cell, minlstm_cell, qrnn_cell

BATCH, TIME, INPUTS, FEATURES = 3, 5, 3, 4
CELLS = ("qrnn", "mingru", "minlstm")
quick = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def formula(name, *shape):
    index = np.arange(math.prod(shape), dtype=np.float64)
    return np.sin(index * index + index + sum(map(ord, name))).reshape(shape)


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


def drawn(rows, columns):
    return {"weight_ih": formula("w", rows, columns), "bias_ih": formula("b", rows)}


def products(params, count, x):
    """W x + b as so many gates, float64."""
    return np.split(x @ params["weight_ih"].T + params["bias_ih"][None], count, axis=1)


X, H = formula("x", BATCH, INPUTS), formula("h", BATCH, FEATURES)


def test_mingru_cell():
    params = drawn(2 * FEATURES, INPUTS)
    z, n = products(params, 2, X)
    expected = (1 - sigmoid(z)) * H + sigmoid(z) * n
    carry, output = mingru_cell(jax.tree.map(jnp.float32, params), jnp.float32(H), jnp.float32(X))
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(carry, output)


def test_minlstm_cell():
    params = drawn(3 * FEATURES, INPUTS)
    f, i, n = products(params, 3, X)
    both = sigmoid(f) + sigmoid(i)
    expected = sigmoid(f) / both * H + sigmoid(i) / both * n
    carry, output = minlstm_cell(jax.tree.map(jnp.float32, params), jnp.float32(H), jnp.float32(X))
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(carry, output)


def test_qrnn_cell_sees_the_input_before_ahead_of_its_own():
    params, before = drawn(3 * FEATURES, 2 * INPUTS), formula("before", BATCH, INPUTS)
    z, f, o = products(params, 3, np.concatenate([before, X], axis=1))
    state = sigmoid(f) * H + (1 - sigmoid(f)) * np.tanh(z)
    (found, last), output = qrnn_cell(
        jax.tree.map(jnp.float32, params),
        (jnp.float32(H), jnp.float32(before)),
        jnp.float32(X),
    )
    np.testing.assert_allclose(found, state, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(output, sigmoid(o) * state, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(last, np.float32(X))


def test_minlstms_shares_keep_their_digits_where_a_gate_is_nearly_shut():
    f, i, n = np.float64([30.0, -30.0]), np.float64([-10.0, 12.0]), np.float64([2.0, 3.0])
    keep, add, _ = minlstm_steps(jnp.concatenate([jnp.float32(v)[None] for v in (f, i, n)], axis=1))
    both = sigmoid(f) + sigmoid(i)
    np.testing.assert_allclose(keep[0], sigmoid(f) / both, rtol=2e-6)
    np.testing.assert_allclose(add[0], sigmoid(i) / both * n, rtol=2e-6)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("method", ["associative", "loop"])
def test_linear_recurrence_and_its_gradient_equal_a_python_loop(method, reverse, close):
    keep, add = (jnp.float32(formula(name, 6, 2)) for name in ("keep", "add"))
    start, weights = jnp.float32(formula("start", 2)), jnp.float32(formula("loss", 6, 2))

    def by_hand(keep, add, start):
        states = [start]
        for step in reversed(range(6)) if reverse else range(6):
            states.append(keep[step] * states[-1] + add[step])
        return jnp.stack(states[:0:-1] if reverse else states[1:])

    def figures(recurrence):
        def total(*arguments):
            states = recurrence(*arguments)
            return jnp.sum(states * weights), states

        return quick(jax.value_and_grad(total, (0, 1, 2), has_aux=True))(keep, add, start)

    close(figures(partial(linear_recurrence, method, reverse)), figures(by_hand))


@pytest.mark.parametrize(
    ("cell", "backends"),
    [("qrnn", ["fused", "associative"]), ("mingru", ["fused"]), ("minlstm", ["associative"])],
)
def test_every_backend_equals_the_scan_in_values_and_gradients(
    cell, backends, case, differentiated, close
):
    layer = Recurrent(cell, FEATURES, bidirectional=True, backend="scan")
    arguments = case(layer, BATCH, TIME, INPUTS)
    lengths = np.array([2, 5, 0])
    expected = differentiated(layer, *arguments, lengths)
    for backend in backends:
        close(differentiated(layer.clone(backend=backend), *arguments, lengths), expected)


@pytest.mark.parametrize(("cell", "backend"), [("qrnn", "associative"), ("minlstm", "fused")])
def test_a_padded_sequence_gives_what_it_gives_alone(cell, backend, case, close):
    layer = Recurrent(cell, FEATURES, bidirectional=True, backend=backend)
    params, x, carry = case(layer, BATCH, TIME, INPUTS)
    run = quick(lambda x, carry, lengths: layer.apply({"params": params}, x, carry, lengths))
    outputs, last = run(x, carry, jnp.array([2, 5, 2]))
    for row in (0, 2):
        own = jax.tree.map(lambda value, row=row: value[row : row + 1], carry)
        alone, end = run(x[row : row + 1, :2], own, None)
        close(outputs[row : row + 1, :2], alone)
        close(jax.tree.map(lambda value, row=row: value[row : row + 1], last), end)


def test_4096_steps_equal_float64s_and_their_gradient_is_finite(case):
    layer = Recurrent("mingru", FEATURES, backend="associative")
    params, x, carry = case(layer, 2, 4096, INPUTS)

    @quick
    def run(params):
        def total(params):
            outputs, _ = layer.apply({"params": params}, x, carry)
            return jnp.sum(outputs**2), outputs

        return jax.value_and_grad(total, has_aux=True)(params)

    (_, outputs), gradients = run(params)
    wide = {name[: -len("_l0")]: np.float64(value) for name, value in params.items()}
    state, expected = np.float64(carry[0]), []
    for step in range(4096):
        z, n = products(wide, 2, np.float64(x[:, step]))
        state = (1 - sigmoid(z)) * state + sigmoid(z) * n
        expected.append(state)
    np.testing.assert_allclose(outputs, np.stack(expected, axis=1), rtol=0, atol=1e-5)
    assert all(np.isfinite(value).all() for value in gradients.values())


def test_the_associative_backend_has_no_loop_forward_or_backward(case):
    def has_loop(layer):
        params, x, _ = case(layer, BATCH, TIME, INPUTS)
        total = lambda params: jnp.sum(layer.apply({"params": params}, x)[0])  # noqa: E731
        text = str(jax.make_jaxpr(jax.grad(total))(params))
        return "scan[" in text or "while[" in text

    for cell in CELLS:
        assert not has_loop(Recurrent(cell, FEATURES, 2, bidirectional=True))
        assert has_loop(Recurrent(cell, FEATURES, backend="fused"))
