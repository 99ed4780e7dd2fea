"""The image sets that --dataset names."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from jaxlessons.data import cifar10, mnist
from jaxlessons.data.image_set import ImageSet

Dataset = Literal["cifar10", "mnist", "fashion_mnist", "shapes"]
COLOUR = (32, 32, 3)
# An image's height, width and channels.
SHAPES = {"cifar10": COLOUR, "mnist": mnist.SHAPE, "fashion_mnist": mnist.SHAPE, "shapes": COLOUR}


def load(dataset: Dataset, data_dir: Path | None) -> ImageSet:
    """The set from its folder or the network; with neither, one that is made by a formula."""
    match dataset:
        case "cifar10":
            return cifar10.load(data_dir)
        case "shapes":
            return cifar10.shapes()
        case _:
            return mnist.load(dataset, data_dir)
