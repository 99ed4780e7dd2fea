"""PyTorch's recurrent weights; that they lead to its outputs is in models/test_rnn.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.errors import UserError
from jaxlessons.models.rnn import Recurrent
from jaxlessons.weights import recurrent_from_torch, recurrent_settings

X = np.float32(np.sin(np.arange(24)).reshape(2, 4, 3))


def state_dict(gates, layers=1, bidirectional=False, bias=True, features=5, inputs=3):
    """As torch.nn.RNN, GRU and LSTM name and order theirs; float64, each number another."""
    arrays = {}
    directions = ("", "_reverse") if bidirectional else ("",)
    for layer in range(layers):
        size = features * len(directions) if layer else inputs
        for direction in directions:
            shapes = {"weight_ih": (size,), "weight_hh": (features,)}
            shapes |= {"bias_ih": (), "bias_hh": ()} if bias else {}
            for name, columns in shapes.items():
                shape = (gates * features, *columns)
                values = len(arrays) + np.arange(np.prod(shape)) / 1000
                arrays[f"{name}_l{layer}{direction}"] = values.reshape(shape)
    return arrays


@pytest.mark.parametrize(
    ("cell", "gates", "layers", "bidirectional"),
    [("rnn", 1, 2, False), ("gru", 3, 1, True), ("lstm", 4, 3, True)],
)
@pytest.mark.parametrize("prefix", ["", "encoder.lstm."])
def test_names_values_and_settings_are_those_of_the_layer_that_takes_them(
    cell, gates, layers, bidirectional, prefix
):
    arrays = state_dict(gates, layers, bidirectional)
    params = recurrent_from_torch({prefix + name: value for name, value in arrays.items()})
    assert list(params) == list(arrays)
    for name, value in arrays.items():
        assert params[name].dtype == np.float32
        np.testing.assert_array_equal(params[name], np.float32(value))
    settings = recurrent_settings(params)
    assert settings == {
        "cell": cell,
        "features": 5,
        "layers": layers,
        "bidirectional": bidirectional,
    }
    wanted = jax.eval_shape(Recurrent(**settings).init, jax.random.key(0), X)["params"]
    assert {name: value.shape for name, value in wanted.items()} == {
        name: value.shape for name, value in params.items()
    }


def test_a_layer_without_biases_gets_zeros():
    arrays = state_dict(1, layers=2, bias=False)
    params = recurrent_from_torch(arrays)
    assert list(params) == list(state_dict(1, layers=2))
    for name, value in params.items():
        np.testing.assert_array_equal(value, np.float32(arrays.get(name, np.zeros(5))))
    short = recurrent_from_torch(state_dict(1, bias=False))
    outputs, _ = Recurrent(**recurrent_settings(short)).apply({"params": short}, X[:, :1])
    expected = np.tanh(X[:, 0] @ short["weight_ih_l0"].T)
    np.testing.assert_allclose(outputs[:, 0], expected, rtol=1e-5)


def test_lists_half_floats_jax_arrays_and_any_order_are_taken():
    arrays = state_dict(4)
    kinds = (np.float16, jnp.bfloat16, np.ndarray.tolist, jnp.float32)
    given = {
        name: kind(value) if kind is np.ndarray.tolist else jnp.asarray(value, kind)
        for (name, value), kind in zip(arrays.items(), kinds, strict=True)
    }
    params = recurrent_from_torch(dict(reversed(given.items())))
    assert list(params) == list(arrays)
    for name, value in arrays.items():
        assert params[name].dtype == np.float32
        np.testing.assert_allclose(params[name], value, rtol=0.005)


def changed(**arrays):
    """Two layers of an LSTM but for these; None is left out."""
    found = {**state_dict(4, layers=2), **arrays}
    return {name: value for name, value in found.items() if value is not None}


SQUARES, HUGE = np.zeros((20, 5)), np.full((20, 5), 1e300)
TWO = {
    f"{part}.weight_{kind}_l0": SQUARES for part in ("encoder", "decoder") for kind in ("ih", "hh")
}
WANTED = "give it the weights of one torch.nn.RNN, GRU or LSTM alone, such as weight_ih_l0"
FAULTS = [
    ([1], f"The state dict is of type list: {WANTED}."),
    (None, f"The state dict is of type NoneType: {WANTED}."),
    ({0: SQUARES}, f"The state dict has the name 0, which is no string: {WANTED}."),
    ({}, "The state dict is empty: there are no weights to take."),
    (
        TWO,
        "The state dict has 'encoder.weight_ih_l0': give it the weights of one torch.nn.RNN, GRU "
        "or LSTM alone, such as weight_ih_l0.",
    ),
    (
        {"weight": np.ones((2, 2)), "bias": np.ones(2)},
        "The state dict has 'weight': give it the weights of one torch.nn.RNN, GRU or LSTM alone, "
        "such as weight_ih_l0.",
    ),
    (
        {"rnn.weight_ih_l00": np.ones((5, 3))},
        "The state dict has 'rnn.weight_ih_l00': give it the weights of one torch.nn.RNN, GRU or "
        "LSTM alone, such as weight_ih_l0.",
    ),
    (
        changed(weight_hr_l0=np.ones((2, 5))),
        "The state dict has weight_hr_l0: an LSTM with projections (proj_size) is not supported.",
    ),
    (changed(weight_hh_l1=None), "The state dict lacks weight_hh_l1."),
    (changed(weight_ih_l0=None), "The state dict lacks weight_ih_l0."),
    (changed(weight_ih_l99999999999=SQUARES), "The state dict lacks weight_ih_l2."),
    (changed(weight_ih_l1_reverse=SQUARES), "The state dict lacks weight_ih_l0_reverse."),
    (changed(bias_hh_l1=None), "The state dict lacks bias_hh_l1."),
    (
        changed(weight_hh_l0=np.ones((10, 5))),
        "The state dict's weight_hh_l0 is [10, 5]: it must be [gates * features, features] with 1 "
        "(RNN), 3 (GRU) or 4 gates (LSTM).",
    ),
    (
        changed(weight_hh_l0=np.ones(20)),
        "The state dict's weight_hh_l0 is [20]: it must be [gates * features, features] with 1 "
        "(RNN), 3 (GRU) or 4 gates (LSTM).",
    ),
    (
        changed(weight_ih_l0=np.ones(20)),
        "The state dict's weight_ih_l0 is [20]: it must be [20, in].",
    ),
    (
        changed(weight_ih_l1=np.ones((20, 10))),
        "The state dict's weight_ih_l1 is [20, 10]: beside its other weights it must be [20, 5].",
    ),
    (
        changed(weight_ih_l0=np.ones((15, 3))),
        "The state dict's weight_ih_l0 is [15, 3]: beside its other weights it must be [20, 3].",
    ),
    (
        changed(bias_ih_l0=np.ones((20, 1))),
        "The state dict's bias_ih_l0 is [20, 1]: beside its other weights it must be [20].",
    ),
    (
        changed(weight_hh_l1=np.where(np.eye(20, 5), np.nan, 0)),
        "The state dict's weight_hh_l1 holds a value that is not finite in float32.",
    ),
    (
        changed(weight_hh_l1=HUGE),
        "The state dict's weight_hh_l1 holds a value that is not finite in float32.",
    ),
    (
        changed(bias_ih_l0=["a"] * 20),
        "The state dict's bias_ih_l0 is no array of numbers (it is of type <U1).",
    ),
    (
        changed(bias_ih_l0=np.ones(20, complex)),
        "The state dict's bias_ih_l0 is no array of numbers (it is of type complex128).",
    ),
]


@pytest.mark.parametrize(("faulty", "message"), FAULTS)
def test_each_fault_is_told_in_one_sentence(faulty, message):
    with pytest.raises(UserError) as refused:
        recurrent_from_torch(faulty)
    assert str(refused.value) == message
