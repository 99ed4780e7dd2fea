"""Writes checkpoint/, which later versions must be able to read.

    python tests/stored/make_checkpoint.py /tmp/checkpoint     # and then moved here

It holds the name of the folder that it was written to. Made once, at version 0.1 with
orbax-checkpoint 0.12.8; making it anew would defeat its purpose.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlessons import averaging, checkpoint, training
from jaxlessons.models.convnet import ConvBnNet

FOLDER = Path(__file__).with_name("checkpoint")
ABOUT = {"vocabulary": ["a", "b", "é"], "layers": [2, 3]}


def state():
    """A training state whose every number follows from its place in it."""
    optimizer, averager = optax.adam(1e-3), averaging.ema(0.9)
    images = jnp.zeros((1, 8, 8, 3))
    module = ConvBnNet((2, 3))
    fresh = training.create_state(module, optimizer, jax.random.key(7), images, averager)
    leaves, tree = jax.tree.flatten(fresh.replace(key=None, carry=(jnp.zeros((2, 3)),)))
    filled = [
        jnp.asarray(np.arange(leaf.size).reshape(leaf.shape) + 100 * number, leaf.dtype)
        for number, leaf in enumerate(leaves)
    ]
    made = jax.tree.unflatten(tree, filled)
    return made.replace(key=jax.random.key(7), step=jnp.int32(40))


if __name__ == "__main__":
    checkpoint.save(sys.argv[1], state(), metrics={"accuracy": 0.5}, best="accuracy", about=ABOUT)
