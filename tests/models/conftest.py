import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest


def formula(name, *shape):
    """As in stored/make_networks.py, float64."""
    index = np.arange(math.prod(shape), dtype=np.float64)
    return np.sin(index * index + index + sum(map(ord, name))).reshape(shape)


def loss(outputs, carry):
    """The scalar of stored/make_rnn.py, and the outputs and the carry themselves."""

    def weighed(value, name):
        value = value.astype(jnp.promote_types(value.dtype, jnp.float32))
        return jnp.sum(value * jnp.asarray(formula(name, *value.shape), value.dtype))

    parts = [weighed(value, f"loss{i}") for i, value in enumerate(jax.tree.leaves(carry))]
    return weighed(outputs, "loss") + sum(parts), (outputs, carry)


# What LLVM optimises is most of the compile time, and the tests' arrays are small.
@partial(jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})
def _differentiated(layer, params, x, carry, lengths):
    def objective(params, x, carry):
        return loss(*layer.apply({"params": params}, x, carry, lengths))

    grads, (outputs, last) = jax.grad(objective, (0, 1, 2), has_aux=True)(params, x, carry)
    keys = ("d_params", "d_x", "d_carry")
    return {"outputs": outputs, "carry": last, **dict(zip(keys, grads, strict=True))}


@pytest.fixture(scope="session")
def differentiated():
    """(Recurrent, params, x, carry, lengths) -> outputs, carry, d_params, d_x, d_carry."""
    return _differentiated


@pytest.fixture(scope="session")
def case():
    """(Recurrent, x's shape) -> (params, x, carry) by a formula, nothing of them zero."""

    def make(layer, *shape, dtype=np.float32):
        x = formula("x", *shape).astype(dtype)
        # The backend changes no parameter.
        init = layer.clone(backend="scan").init
        shapes = jax.eval_shape(init, jax.random.key(0), x)["params"]
        params = {
            name: (0.5 * formula(name, *value.shape)).astype(dtype)
            for name, value in shapes.items()
        }
        leaves, tree = jax.tree.flatten(layer.initial_carry(shape[0], shape[2]))
        start = [formula(f"carry{i}", *v.shape).astype(dtype) for i, v in enumerate(leaves)]
        return params, x, jax.tree.unflatten(tree, start)

    return make


@pytest.fixture(scope="session")
def close():
    """(found, expected, share): every array off by at most this share of its largest value."""

    def check(found, expected, share=1e-5):
        def compare(path, expected, found):
            expected = np.asarray(expected, np.float64)
            np.testing.assert_allclose(
                np.asarray(found, np.float64),
                expected,
                rtol=0,
                atol=share * np.abs(expected).max(),
                err_msg=jax.tree_util.keystr(path),
            )

        jax.tree_util.tree_map_with_path(compare, expected, found)

    return check
