"""What tests of training on a text share: a text, two models, and a state and a step of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlessons import sequence_training
from jaxlessons.data import windows
from jaxlessons.models.char import StatefulCharRNN
from jaxlessons.sequence_training import Window

VOCABULARY, BATCH, BPTT = 6, 3, 8
TOKENS = np.random.RandomState(0).randint(0, VOCABULARY, 196).astype(np.int32)
MODEL = StatefulCharRNN(
    VOCABULARY, embedding_size=4, features=5, cell="lstm", output_dropout=0.3, backend="scan"
)
PLAIN = MODEL.clone(cell="rnn", output_dropout=0.0)

# Compiling is nearly all that these tests do.
quick = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class Setup:
    """A model's state and step on TOKENS, by one of the schemes of data.windows."""

    def __init__(self, scheme="streams", model=MODEL, optimizer=None, tokens=TOKENS, batch=BATCH):
        self.scheme, self.model, self.batch = windows.SCHEMES[scheme], model, batch
        self.optimizer = optimizer or optax.sgd(0.5, momentum=0.9)
        self.tokens = jnp.asarray(tokens)
        self.windows = partial(self.scheme.windows, len(tokens), batch, BPTT)
        self.per_epoch = len(self.windows(jax.random.key(0)).starts)
        self.step = sequence_training.make_train_step(
            model.apply,
            self.optimizer,
            partial(windows.gather, width=self.scheme.width(BPTT)),
            ragged=scheme == "jittered",
        )

    def state(self, seed=0):
        return sequence_training.create_state(
            self.model,
            self.optimizer,
            jax.random.key(seed),
            self.batch,
            carried=self.scheme.carried,
        )

    def fit(self, state, total_steps, made=None, **settings):
        """made: a list that gets (key, the windows made with it) for each epoch."""

        def recorded(key):
            own = self.windows(key)
            if made is not None:
                made.append((jax.random.key_data(key).tolist(), Window(*map(np.asarray, own))))
            return own

        return sequence_training.fit(
            state,
            self.step,
            self.tokens,
            recorded,
            steps_per_epoch=self.per_epoch,
            total_steps=total_steps,
            **settings,
        )


def numbers(tree):
    """Every array as numpy's: training consumes a state, and a key can't be compared."""

    def plain(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.array(jax.random.key_data(leaf) if is_key else leaf)

    return jax.tree.map(plain, tree)


def assert_close(found, expected, **tolerance):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, **(tolerance or {"rtol": 0, "atol": 0}))


def losses(logits, targets):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)[..., 0]
