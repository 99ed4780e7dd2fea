"""What the tests of the character models share: sizes, tokens, and parameters that tell."""

import functools

import jax
import numpy as np

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
