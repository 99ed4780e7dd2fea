"""Gradients, transformations and types of `Recurrent`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.models.rnn import Recurrent

BATCH, TIME, INPUTS, FEATURES = 3, 5, 3, 4


def formula(name, *shape):
    """As in stored/make_rnn.py."""
    index = np.arange(np.prod(shape), dtype=np.float64)
    return np.sin(index * index + index + sum(map(ord, name))).reshape(shape)


QUICK = {"xla_backend_optimization_level": 0}


def test_vmap_and_remat_change_no_value_and_no_gradient(case, close):
    layer = Recurrent("lstm", FEATURES, backend="fused")
    params, x, _ = case(layer, BATCH, TIME, INPUTS)
    lengths = jnp.array([2, 5, 0])

    def total(params, x):
        outputs, carry = layer.apply({"params": params}, x, None, lengths)
        return jnp.sum(jnp.sin(outputs)) + sum(jnp.sum(h * c) for h, c in carry)

    def gradient(total):
        return jax.value_and_grad(total, (0, 1))

    plain = jax.jit(gradient(total), compiler_options=QUICK)
    remat = jax.jit(gradient(jax.checkpoint(total)), compiler_options=QUICK)
    close(remat(params, x), plain(params, x))
    models = jax.tree.map(lambda value: np.stack([value, -value]), params)
    batched = jax.jit(jax.vmap(gradient(total), (0, None)), compiler_options=QUICK)
    both = jax.tree.map(np.asarray, batched(models, x))
    for number, sign in enumerate((1, -1)):
        found = jax.tree.map(lambda value, i=number: value[i], both)
        close(found, plain(jax.tree.map(lambda value, s=sign: s * value, params), x))


@pytest.mark.parametrize(
    ("cell", "backend"),
    [
        ("lstm", "fused"),
        ("qrnn", "associative"),
        pytest.param("gru", "fused", marks=pytest.mark.slow),
        pytest.param("lstm", "scan", marks=pytest.mark.slow),
    ],
)
def test_in_float64_the_gradient_is_that_of_finite_differences(cell, backend, case, differentiated):
    with jax.enable_x64(True):
        layer = Recurrent(cell, FEATURES, bidirectional=True, backend=backend, dtype=jnp.float64)
        arguments = case(layer, BATCH, TIME, INPUTS, dtype=np.float64)
        lengths = np.array([2, 5, 0])
        found = differentiated(layer, *arguments, lengths)
        assert all(value.dtype == jnp.float64 for value in jax.tree.leaves(found))
        direction = jax.tree.map(lambda value: np.cos(3 * value), arguments)

        def loss(step):
            moved = jax.tree.map(lambda a, b: a + step * b, arguments, direction)
            found = differentiated(layer, *moved, lengths)
            leaves = jax.tree.leaves(found["carry"])
            named = [("loss", found["outputs"])]
            named += [(f"loss{i}", value) for i, value in enumerate(leaves)]
            return sum(float(np.sum(value * formula(n, *value.shape))) for n, value in named)

        gradients = tuple(found[key] for key in ("d_params", "d_x", "d_carry"))
        products = jax.tree.map(lambda a, b: float(np.sum(a * b)), gradients, direction)
        slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
    assert abs(slope - sum(jax.tree.leaves(products))) < 1e-7 * max(1, abs(slope))


@pytest.mark.parametrize(("cell", "backend"), [("lstm", "scan"), ("gru", "fused")])
def test_bfloat16_equals_float32_but_for_its_rounding(cell, backend, case, differentiated, close):
    lengths = np.array([2, 5, 0])
    layer = Recurrent(cell, FEATURES, bidirectional=True, backend=backend)
    params, x, carry = case(layer, BATCH, TIME, INPUTS)
    half = layer.clone(dtype=jnp.bfloat16)
    found = differentiated(half, params, x, carry, lengths)
    assert found["outputs"].dtype == jnp.bfloat16
    assert all(v.dtype == jnp.float32 for v in jax.tree.leaves((found["carry"], found["d_params"])))
    # bfloat16 keeps 8 bits: 0.4 % a rounding, of which some steps add up.
    close(found, differentiated(layer, params, x, carry, lengths), share=0.03)
