"""What a checkpoint of a fast style transfer says of itself: its network, and its style."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np

from experiments import fast_style_config
from experiments.fast_style_config import Config
from jaxlessons import checkpoint
from jaxlessons.errors import UserError
from jaxlessons.models.image_transform import ImageTransform
from jaxlessons.style_training import Regions

# By how much, of its largest number, a style's Gram matrix may differ between devices.
TOLERANCE = 0.02


def describe(config: Config, style: str, weights: str, regions: Regions) -> dict[str, Any]:
    """JSON for the checkpoint. style, weights: where the painting and VGG16's weights are from.

    The Gram matrices are in base64, of float32, little-endian, row by row.
    """
    grams = {layer: gram for region in regions for layer, gram in region.grams.items()}
    return {
        "image_transform": fast_style_config.network_fields(config),
        "style": {
            "source": style,
            "grams": {layer: encode(np.asarray(gram)) for layer, gram in grams.items()},
        },
        "weights": weights,
    }


def network(folder: Path, step: int) -> tuple[ImageTransform, str]:
    """(the network that a checkpoint's parameters are for, its style's source).

    Raises UserError for a checkpoint of another kind.
    """
    about = checkpoint.read_about(folder, step)
    if "image_transform" not in about:
        raise UserError(
            f"{folder / str(step)} is no fast style transfer's: name another --checkpoint."
        )
    return fast_style_config.make_network(about["image_transform"]), about["style"]["source"]


def check_same(folder: Path, now: dict[str, Any], step: int) -> None:
    """Raises UserError when the checkpoint of `step` was trained for another style than `now`'s."""
    then = checkpoint.read_about(folder, step)
    old, new = then["style"]["grams"], now["style"]["grams"]
    if not all(_close(decode(old[layer]), decode(new[layer])) for layer in new):
        raise UserError(
            f"{folder.parent} was begun with the style {then['style']['source']} as seen by "
            f"{then['weights']}; {now['style']['source']} as seen by {now['weights']} is another: "
            "give it the former, or start a new run."
        )


def encode(gram: np.ndarray) -> str:
    """`[channel, channel]` as text."""
    return base64.b64encode(gram.astype("<f4").tobytes()).decode("ascii")


def decode(text: str) -> np.ndarray:
    """What `encode` was given, as float32 `[channel, channel]`."""
    numbers = np.frombuffer(base64.b64decode(text), "<f4")
    return numbers.reshape(round(len(numbers) ** 0.5), -1)


def _close(old: np.ndarray, new: np.ndarray) -> bool:
    return bool(np.abs(old - new).max() <= TOLERANCE * np.abs(old).max())
