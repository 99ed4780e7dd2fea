"""Labelled images in two splits, and what a network must know of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxlessons.errors import UserError

CLASS_COUNT = 10  # of CIFAR-10, MNIST and Fashion-MNIST


class Arrays(NamedTuple):
    """Images `[n, height, width, channel]` uint8 and labels `[n]` int32 of both splits."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


@dataclass(frozen=True)
class ImageSet:
    """Images `[n, height, width, channel]` uint8 and labels `[n]` int32, for training and test.

    name: "CIFAR-10", "MNIST", "shapes", ... source: a sentence on where it came from. mean, std: of
    each channel over the training images, with pixels in 0..1.
    """

    name: str
    source: str
    classes: tuple[str, ...]
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    mean: tuple[float, ...]
    std: tuple[float, ...]


def check_labels(labels: np.ndarray, name: str, data: str = "CIFAR-10") -> np.ndarray:
    """`labels` as int32; raises UserError, naming `name`, unless all of them are 0 to 9."""
    outside = np.flatnonzero((labels < 0) | (labels >= CLASS_COUNT))
    if len(outside):
        raise UserError(
            f"{name} has the label {labels[outside[0]]} at record {outside[0]:,} where {data}'s "
            "are 0 to 9: it is altered or another data set; get it again."
        )
    return labels.astype(np.int32)


def statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, with pixels in 0..1."""
    levels = np.arange(256) / 255
    mean, std = [], []
    for channel in range(images.shape[-1]):
        # Counting levels needs no floating-point copy of the images.
        blocks = np.array_split(images[..., channel], 1 + len(images) // 5000)
        counts = sum(np.bincount(block.ravel(), minlength=256) for block in blocks)
        mean.append(float(np.average(levels, weights=counts)))
        std.append(float(np.average((levels - mean[-1]) ** 2, weights=counts) ** 0.5))
    return tuple(mean), tuple(std)
