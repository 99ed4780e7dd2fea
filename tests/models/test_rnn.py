"""`Recurrent` and what every cell and backend has in common."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.models.rnn import Recurrent
from jaxlessons.recurrent_weights import recurrent_from_torch, recurrent_settings

BATCH, TIME, INPUTS, FEATURES = 3, 5, 3, 4
LENGTHS = np.array([2, 5, 1])
CELLS = ("rnn", "rnn relu", "gru", "lstm")
# Everything at once for each cell, and the plainest; what is between adds a minute.
TORCH = ["lstm", *(f"{cell} bidirectional lengths" for cell in CELLS)]
MORE = [f"{cell}{more}" for cell in CELLS for more in ("", " lengths", " bidirectional")]
TORCH += [pytest.param(name, marks=pytest.mark.slow) for name in MORE if name != "lstm"]


def formula(name, *shape):
    """As in stored/make_rnn.py."""
    index = np.arange(np.prod(shape), dtype=np.float64)
    return np.sin(index * index + index + sum(map(ord, name))).reshape(shape)


def from_torch(stacked):
    """PyTorch's h, or h and c, `[layers * directions, batch, features]` as a carry."""
    parts = [list(np.asarray(part, np.float32)) for part in stacked]
    return tuple(zip(*parts, strict=True)) if len(parts) == 2 else tuple(parts[0])


@pytest.mark.parametrize("backend", ["scan", "fused"])
@pytest.mark.parametrize("name", TORCH)
def test_torchs_weights_give_torchs_outputs_carry_and_gradients(
    name, backend, stored, differentiated, close
):
    expected = stored("rnn")[name]
    gradients = expected["d_params"]
    state_dict = {
        f"encoder.rnn.{key}": 0.6 * formula(key, *np.shape(gradients[key])) for key in gradients
    }
    params = recurrent_from_torch(state_dict)
    options = {"nonlinearity": "relu"} if "relu" in name else {}
    layer = Recurrent(**recurrent_settings(params), backend=backend, **options)
    x = formula("x", BATCH, TIME, INPUTS).astype(np.float32)
    parts = "hc" if layer.cell == "lstm" else "h"
    carry = from_torch([formula(part, *np.shape(expected["carry"][0])) for part in parts])
    lengths = LENGTHS if "lengths" in name else None
    found = differentiated(layer, params, x, carry, lengths)
    close(found["outputs"], np.array(expected["outputs"]))
    close(found["carry"], from_torch(expected["carry"]))
    close(found["d_x"], np.array(expected["d_x"]))
    close(found["d_carry"], from_torch(expected["d_carry"]))
    close(found["d_params"], {key: np.array(value) for key, value in gradients.items()})


def test_parameters_have_pytorchs_names_order_shapes_and_count(stored):
    for name in ("rnn bidirectional", "gru bidirectional", "lstm bidirectional", "lstm"):
        gradients = stored("rnn")[name]["d_params"]
        layer = Recurrent(name.split()[0], FEATURES, 2, bidirectional="bi" in name)
        x = jnp.zeros((1, 1, INPUTS))
        params = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
        assert {key: value.shape for key, value in params.items()} == {
            key: np.shape(value) for key, value in gradients.items()
        }
    # 4 H (I + H + 2) for the first layer, 4 H (2 H + 2) for the second.
    assert sum(value.size for value in params.values()) == 16 * (3 + 4 + 2) + 16 * (8 + 2)


ALL = ("rnn", "gru", "lstm", "qrnn", "mingru", "minlstm")


@pytest.mark.parametrize("cell", ALL)
def test_two_halves_with_the_carry_between_them_equal_the_whole(cell, case, close):
    layer = Recurrent(cell, FEATURES, 2)
    params, x, carry = case(layer, BATCH, 6, INPUTS)
    run = jax.jit(lambda x, carry: layer.apply({"params": params}, x, carry))
    outputs, last = run(x, carry)
    first, between = run(x[:, :3], carry)
    second, end = run(x[:, 3:], between)
    close(jnp.concatenate([first, second], axis=1), outputs)
    close(end, last)


def test_without_a_carry_it_starts_at_zeros(case, close):
    layer = Recurrent("qrnn", FEATURES, 2)
    params, x, carry = case(layer, BATCH, TIME, INPUTS)
    run = jax.jit(lambda carry: layer.apply({"params": params}, x, carry))
    zeros = jax.tree.map(jnp.zeros_like, carry)
    close(run(None), run(zeros))


@pytest.mark.parametrize(
    ("cell", "backend"), [("lstm", "fused"), ("gru", "fused"), ("mingru", "associative")]
)
def test_auto_is_the_fastest_that_fits_without_a_gpu(cell, backend, case):
    layer = Recurrent(cell, FEATURES)
    params, x, carry = case(layer, BATCH, TIME, INPUTS)

    def program(backend):
        run = layer.clone(backend=backend)
        return str(jax.make_jaxpr(lambda x: run.apply({"params": params}, x, carry))(x))

    assert program("auto") == program(backend) != program("scan")
