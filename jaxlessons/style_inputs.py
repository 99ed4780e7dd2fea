"""What goes into a style transfer: pictures as floats, of the right sizes, colours and number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from scipy import ndimage  # type: ignore[import-untyped]

from jaxlessons.data import color, images
from jaxlessons.errors import UserError
from jaxlessons.models.vgg import MEAN
from jaxlessons.style_objective import smallest_side
from jaxlessons.style_settings import Settings

# The network's mean pixel, which `preprocess` makes 0.
GREY = np.array(MEAN[::-1], np.float32) / np.float32(255)


class Inputs(NamedTuple):
    """Pictures float32 `[height, width, 3]`, 0 to 1, at the finest scale.

    content: what is painted; colors: what gives the colours, where these are the content's.
    weights, masks: one for each style; masks `[height, width]`.
    """

    content: np.ndarray
    colors: np.ndarray
    styles: tuple[np.ndarray, ...]
    weights: tuple[float, ...]
    masks: tuple[np.ndarray, ...] | None


def prepare(
    settings: Settings,
    content: np.ndarray,
    styles: Sequence[np.ndarray],
    weights: Sequence[float] | None,
    masks: Sequence[np.ndarray] | None,
    style_size: int | None,
) -> Inputs:
    """The inputs of `stylize` checked, the styles fitted to the content and recoloured."""
    own = as_float(content, "content")
    given = [as_float(style, f"style {i}") for i, style in enumerate(styles, 1)]
    shares = _check_weights(settings, len(given), weights)
    _check_masks(own.shape[:2], len(given), masks)
    fitted = [_fit(style, own, style_size) for style in given]
    _check_sizes(settings, own, fitted)
    if settings.color == "luminance":
        fitted = [color.match_luminance(style, own) for style in fitted]
    if settings.color == "histogram":
        fitted = [color.match_colors(style, own) for style in fitted]
    return Inputs(
        color.to_grey(own).astype(np.float32) if settings.color == "luminance" else own,
        own,
        tuple(np.clip(style, 0, 1).astype(np.float32) for style in fitted),
        shares,
        None if masks is None else tuple(np.asarray(mask, np.float32) for mask in masks),
    )


def at_scale(inputs: Inputs, halvings: int) -> Inputs:
    """The inputs at 1/2, 1/4, ... of their size, to the nearest pixel."""
    if not halvings:
        return inputs

    def smaller(picture: np.ndarray) -> np.ndarray:
        size = scaled(picture.shape[:2], halvings)
        if picture.ndim == 3:
            return images.resize(picture, *size)
        return np.asarray(jax.image.resize(picture, size, "linear"))

    masks = None if inputs.masks is None else tuple(map(smaller, inputs.masks))
    return inputs._replace(
        content=smaller(inputs.content),
        colors=smaller(inputs.colors),
        styles=tuple(map(smaller, inputs.styles)),
        masks=masks,
    )


def scaled(size: tuple[int, ...], halvings: int) -> tuple[int, ...]:
    """(height, width) halved so many times, to the nearest pixel, at least 1."""
    return tuple(max(1, round(side / 2**halvings)) for side in size)


def start(settings: Settings, inputs: Inputs) -> np.ndarray:
    """The picture to begin with, float32 `[height, width, 3]`.

    The lesson's noise: uniform, its 8x8 median, halved in contrast about the network's mean.
    """
    content = inputs.content
    if settings.init == "content":
        return content
    random = np.random.default_rng(settings.seed)
    noise: np.ndarray = random.uniform(0, 1, content.shape).astype(np.float32)
    noise = ndimage.median_filter(noise, (8, 8, 1))
    if settings.color == "luminance":
        noise = color.to_grey(noise).astype(np.float32)
    noise = GREY + (noise - GREY) / 2
    share = 1.0 if settings.init == "noise" else settings.blend
    return np.asarray(share * noise + (1 - share) * content, np.float32)


def as_float(picture: np.ndarray, what: str = "picture") -> np.ndarray:
    """uint8, or float from 0 to 1, `[height, width, 3]` -> float32; UserError for other arrays."""
    array = np.asarray(picture)
    if array.ndim != 3 or array.shape[-1] != 3 or 0 in array.shape:
        raise UserError(
            f"The {what} has the shape {array.shape}: it must be [height, width, 3], RGB."
        )
    if array.dtype == np.uint8:
        return array.astype(np.float32) / np.float32(255)
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind != "f" or not (low >= 0 and high <= 1):
        raise UserError(
            f"The {what} holds {array.dtype} from {low:g} to {high:g}: it must be uint8, or float "
            "from 0 to 1."
        )
    return array.astype(np.float32)


def _fit(style: np.ndarray, content: np.ndarray, style_size: int | None) -> np.ndarray:
    """The style at its own size, or as large as to cover the content."""
    if style_size is None:
        return images.scale_match(style, *content.shape[:2])
    return images.resize(style, *images.fitted(style, style_size))


def _check_weights(
    settings: Settings, styles: int, weights: Sequence[float] | None
) -> tuple[float, ...]:
    if not styles and settings.style_weight:
        raise UserError("There is no style: give one or more, or set style_weight to 0.")
    if weights is None:
        return (1.0,) * styles
    if len(weights) != styles:
        raise UserError(f"There are {len(weights)} weights for {styles} styles: give one for each.")
    if not all(0 <= w < math.inf for w in weights) or (styles and sum(weights) <= 0):
        raise UserError(f"The styles' weights are {list(weights)}: none may be below 0, nor all 0.")
    return tuple(map(float, weights))


def _check_masks(size: tuple[int, ...], styles: int, masks: Sequence[np.ndarray] | None) -> None:
    if masks is None:
        return
    if len(masks) != styles:
        raise UserError(f"There are {len(masks)} masks for {styles} styles: give one for each.")
    for number, mask in enumerate(masks, 1):
        if np.shape(mask) != tuple(size):
            raise UserError(
                f"Mask {number} is {np.shape(mask)}, the content {tuple(size)}: they must agree."
            )
        low, high = np.min(mask), np.max(mask)
        if not 0 <= low <= high <= 1 or high == 0:
            raise UserError(
                f"Mask {number} holds {low:g} to {high:g}: it must hold 0 to 1, and not 0 alone."
            )


def _check_sizes(settings: Settings, content: np.ndarray, styles: Sequence[np.ndarray]) -> None:
    # A single row of pixels has no total variation.
    least = max(2, smallest_side(settings)) * 2 ** (settings.scales - 1)
    for what, picture in (("content", content), *(("style", style) for style in styles)):
        height, width = picture.shape[:2]
        if min(height, width) < least:
            raise UserError(
                f"The {what} is {width} x {height} pixels: with these layers and {settings.scales} "
                f"scales each side must have {least} or more; take a larger size or fewer scales."
            )
