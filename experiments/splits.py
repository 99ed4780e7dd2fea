"""The three splits of an image set, on the device."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxlessons.data.cifar10 import ImageSet
from jaxlessons.errors import UserError
from jaxlessons.training import Examples


class Splits(NamedTuple):
    """Training, validation (None when nothing is kept back) and test examples."""

    train: Examples
    validation: Examples | None
    test: Examples


def split(images: ImageSet, validation: int) -> Splits:
    """Moves the images to the device, with `validation` of the training ones set apart.

    Which ones doesn't depend on a run's seed, so that all runs are compared on the same.
    """
    count = len(images.train_labels)
    if validation >= count:
        raise UserError(f"--validation is {validation}: there are {count:,} training images.")
    order = np.random.RandomState(0).permutation(count)
    kept, rest = np.sort(order[:validation]), np.sort(order[validation:])

    def rows(index: np.ndarray) -> Examples:
        return Examples(
            jnp.asarray(images.train_images[index]), jnp.asarray(images.train_labels[index])
        )

    test = Examples(jnp.asarray(images.test_images), jnp.asarray(images.test_labels))
    return Splits(rows(rest), rows(kept) if validation else None, test)
