"""cuDNN's LSTM: on any machine by jax's own reference in its place, on a GPU itself."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import rnn

from jaxlessons.errors import UserError
from jaxlessons.models import rnn_cudnn
from jaxlessons.models.rnn import Recurrent

BATCH, TIME, INPUTS, FEATURES = 3, 5, 3, 4


def by_reference(x, h, c, weights, lengths, **settings):
    """jax.experimental.rnn.lstm without a GPU; NaN for the empty sequences that cuDNN refuses."""
    names = ("input_size", "hidden_size", "num_layers", "bidirectional")
    unpacked = rnn.unpack_lstm_weights(weights, *(settings[name] for name in names))
    names = (*names[:3], "dropout", "bidirectional")
    found = rnn.lstm_ref(x, h, c, *unpacked, lengths, *(settings[name] for name in names))
    fault = jnp.where(jnp.min(lengths) > 0, 0, jnp.nan)
    return jax.tree.map(lambda value: value + jnp.broadcast_to(fault, value.shape), found)


@pytest.fixture
def reference(monkeypatch):
    """ "cudnn" in every respect but for who computes it; how often it was called."""
    calls = []

    def lstm(*arguments, **settings):
        calls.append(settings)
        return by_reference(*arguments, **settings)

    monkeypatch.setattr(rnn_cudnn.rnn, "lstm", lstm)
    monkeypatch.setattr(rnn_cudnn, "is_available", lambda: True)
    return calls


CASES = [(1, False, None), (2, True, (2, 5, 0))]


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "bidirectional", "lengths"), CASES)
def test_the_packed_weights_give_the_scans_values_and_gradients(
    layers, bidirectional, lengths, reference, case, differentiated, close
):
    layer = Recurrent("lstm", FEATURES, layers, bidirectional=bidirectional, backend="scan")
    arguments = case(layer, BATCH, TIME, INPUTS)
    lengths = lengths and np.array(lengths)
    expected = differentiated(layer, *arguments, lengths)
    assert not reference
    close(differentiated(layer.clone(backend="cudnn"), *arguments, lengths), expected)
    assert [call["num_layers"] for call in reference] == [layers]
    if lengths is not None:  # under jit they are clipped to 0..time
        found = differentiated(layer.clone(backend="cudnn"), *arguments, np.array([2, 9, -1]))
        close(found, expected)


def test_dropout_between_layers_makes_a_call_of_each_layer(reference, case, close):
    layer = Recurrent("lstm", FEATURES, 2, dropout=0.5, backend="cudnn")
    params, x, carry = case(layer, BATCH, TIME, INPUTS)
    quick = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

    def run(backend):
        own, rngs = layer.clone(backend=backend), {"dropout": jax.random.key(3)}
        variables, lengths = {"params": params}, np.array([2, 5, 0])
        return quick(lambda x: own.apply(variables, x, carry, lengths, train=True, rngs=rngs))(x)

    close(run("cudnn"), run("scan"))
    assert [call["num_layers"] for call in reference] == [1, 1]
    assert all(call["dropout"] == 0 for call in reference)


def test_auto_takes_it_for_the_lstm_in_float32_alone(reference, case):
    def calls(**settings):
        reference.clear()
        layer = Recurrent(features=FEATURES, **settings)
        params, x, carry = case(layer, BATCH, TIME, INPUTS)
        jax.eval_shape(lambda x: layer.apply({"params": params}, x, carry), x)
        return len(reference)

    assert calls(cell="lstm") == 1
    assert calls(cell="lstm", dtype=jnp.bfloat16) == 0
    assert calls(cell="lstm", backend="fused") == 0
    assert calls(cell="gru") == 0


def refusal(**settings):
    layer = Recurrent("lstm", FEATURES, backend="cudnn", **settings)
    with pytest.raises(UserError) as refused:
        layer.init(jax.random.key(0), jnp.ones((BATCH, TIME, INPUTS)))
    return str(refused.value)


def test_without_an_nvidia_gpu_it_is_refused(monkeypatch):
    message = 'backend is "cudnn": it needs an NVIDIA GPU, take "auto".'
    for backend, platform in (("cpu", "cpu"), ("gpu", "rocm 6.0"), ("tpu", "libtpu")):
        client = SimpleNamespace(platform_version=platform)
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        monkeypatch.setattr(jax, "devices", lambda client=client: [SimpleNamespace(client=client)])
        assert not rnn_cudnn.is_available()
        assert refusal() == message
    client = SimpleNamespace(platform_version="PJRT C API\ncuda 13000")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(client=client)])
    assert rnn_cudnn.is_available()


def test_what_is_not_float32_is_refused(reference):
    message = 'backend "cudnn" computes in float32 only: take "auto".'
    assert refusal(dtype=jnp.bfloat16) == message


@pytest.mark.skipif(not rnn_cudnn.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize(("layers", "bidirectional", "lengths"), CASES)
def test_on_a_gpu_cudnn_equals_the_scan(layers, bidirectional, lengths, case, close):
    layer = Recurrent("lstm", FEATURES, layers, bidirectional=bidirectional, backend="scan")
    params, x, carry = case(layer, BATCH, TIME, INPUTS)
    lengths = lengths and np.array(lengths)

    def figures(backend):
        def total(*arguments):
            own = layer.clone(backend=backend)
            outputs, last = own.apply({"params": arguments[0]}, *arguments[1:], lengths)
            parts = [jnp.sum(jnp.sin(value)) for value in jax.tree.leaves((outputs, last))]
            return sum(parts), (outputs, last)

        return jax.jit(jax.grad(total, (0, 1, 2), has_aux=True))(params, x, carry)

    with jax.default_matmul_precision("highest"):
        expected = figures("scan")
        close(figures("cudnn"), expected)
    close(figures("cudnn"), expected, share=0.01)
