"""The three splits of an image set, on the device."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxlessons.data.cifar10 import ImageSet
from jaxlessons.devices import SINGLE, Layout
from jaxlessons.errors import UserError
from jaxlessons.training import Examples


class Splits(NamedTuple):
    """Training, validation (None when nothing is kept back) and test examples."""

    train: Examples
    validation: Examples | None
    test: Examples


def split(images: ImageSet, validation: int, layout: Layout = SINGLE) -> Splits:
    """Moves the images to the device, with `validation` of the training ones set apart.

    layout: where there are several devices, the images to train on stay on the host, and each
    device has all of the others.

    Which ones doesn't depend on a run's seed, so that all runs are compared on the same.
    """
    count = len(images.train_labels)
    if validation >= count:
        raise UserError(f"--validation is {validation}: there are {count:,} training images.")
    order = np.random.RandomState(0).permutation(count)
    kept, rest = np.sort(order[:validation]), np.sort(order[validation:])

    def whole(images: np.ndarray, labels: np.ndarray) -> Examples:
        return Examples(*map(layout.replicate, (images, labels)))

    pixels, labels = images.train_images, images.train_labels
    train: Any = (pixels[rest], labels[rest])
    train = whole(*train) if layout.mesh is None else Examples(*train)
    test = whole(images.test_images, images.test_labels)
    return Splits(train, whole(pixels[kept], labels[kept]) if validation else None, test)
