"""The pictures that a style transfer starts from: files, or the ones that are always there."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.style_config import Config, settings
from jaxlessons import style_inputs
from jaxlessons.data import images
from jaxlessons.data.painting import flow_painting
from jaxlessons.errors import UserError
from jaxlessons.style_inputs import Inputs

# Height and width in pixels of the painting that is generated.
PAINTING = (600, 750)


class Pictures(NamedTuple):
    """content: uint8 `[height, width, 3]`; styles: likewise; masks: `[height, width]` 0 to 1 for
    each style, or None. The sources are a few words on where the pictures come from."""

    content: np.ndarray
    styles: tuple[np.ndarray, ...]
    masks: tuple[np.ndarray, ...] | None
    content_source: str
    style_source: str

    @property
    def name(self) -> str:
        """What the run is on."""
        return f"{self.content_source} + {self.style_source}"

    @property
    def default_name(self) -> str:
        """A folder's name, of the files' names."""
        words = [self.content_source, *self.style_source.split(" + ")]
        return "-".join(Path(word).stem.replace(" ", "_") for word in words)


def load_pictures(config: Config) -> Pictures:
    """Reads what the config names.

    Raises:
      UserError: for a file that can't be read as a picture, a mask of another shape, or pictures
        that `stylize` would refuse.
    """
    if config.content is None:
        content, content_source = images.sample_photo()
        content = images.resize(content, *images.fitted(content, config.size))
    else:
        content, content_source = images.read(config.content, config.size), config.content.name
    if config.style:
        styles = [images.read(path) for path in config.style]
        style_source = " + ".join(path.name for path in config.style)
    else:
        styles, style_source = [flow_painting(*PAINTING)], "generated painting"
    masks = None if config.mask is None else _masks(config.mask, content)
    pictures = Pictures(content, tuple(styles), masks, content_source, style_source)
    # `stylize` will do so again: here it is to refuse what doesn't fit before a run begins.
    prepare(config, pictures)
    return pictures


def prepare(config: Config, pictures: Pictures) -> Inputs:
    """The pictures fitted to each other, as `stylize` has them."""
    shares, size = config.style_weights or None, config.style_size
    return style_inputs.prepare(
        settings(config), pictures.content, pictures.styles, shares, pictures.masks, size
    )


def _masks(path: Path, content: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """White counts as 1, for the first style; the second has what is left."""
    mask = images.read(path)
    height, width = content.shape[:2]
    if abs(mask.shape[1] / mask.shape[0] - width / height) > 0.02 * width / height:
        raise UserError(
            f"{path} is {mask.shape[1]} x {mask.shape[0]} pixels, and the photo {width} x "
            f"{height}: a mask must have the photo's proportions."
        )
    inside = images.resize(mask, height, width).mean(axis=-1).astype(np.float32) / 255
    return inside, 1 - inside
