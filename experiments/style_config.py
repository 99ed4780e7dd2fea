"""The settings of a style transfer on the command line, and the presets they come from."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax

from experiments import config_checks
from jaxlessons import style_settings
from jaxlessons.data import images
from jaxlessons.errors import UserError
from jaxlessons.style_settings import Settings

# By preset, then for every device or for a CPU alone: what differs from `Settings`' defaults.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {
        "any": {"size": 512, "scales": 2, "evaluations": 1000},
        "cpu": {"size": 256, "evaluations": 200},
    },
    "lesson": {
        "any": {"size": 288, "content_layer": "block4_conv3", "every": 100},
        "cpu": {},
    },
}


@dataclass(frozen=True)
class Pictures:
    """What is painted, and where it goes."""

    content: Path | None = None
    """The photo: JPEG, PNG or WebP; without one, matplotlib's sample photo."""
    style: tuple[Path, ...] = ()
    """The painting, or several of them, which are mixed; without one, a painting of a flow field
    that this project generates."""
    style_weights: tuple[float, ...] = ()
    """How much of each style; equal unless given."""
    mask: Path | None = None
    """A picture: where it is white the first style goes, where it is black the second."""
    preset: Literal["quick", "lesson"] = "quick"
    """Where the other defaults come from: quick ends in minutes, lesson is fast.ai's lesson 13:
    288 px, one scale, 1000 evaluations, content of block4_conv3."""
    size: int = 512
    """The picture's longer side in pixels."""
    style_size: int | None = None
    """The styles' longer side in pixels: larger for larger strokes; unless given, each is scaled
    to cover the photo."""
    weights: Path | None = None
    """VGG16's weights: Keras' .h5 or .onnx, or PyTorch's as .safetensors or .npz; otherwise they
    are fetched once."""
    every: int = 10
    """Evaluations between the pictures of the way, in steps/ and in the GIF."""
    output: Path | None = None
    """Where to write the picture beside the run's folder; a .png."""
    runs_dir: Path = Path("runs")
    """Where run folders go."""
    name: str | None = None
    """Name of the run's folder; one is made up otherwise."""
    resume: bool = False
    """Go on with the run --name, or the last one, from where it was stopped."""


# A dataclass's fields begin with those of its last base: --help names the pictures first.
@dataclass(frozen=True)
class Config(Settings, Pictures):
    """Paint a photo in the manner of a painting."""


def defaults(model: str | None, preset: str | None) -> Config:
    """The config of a run without flags, by preset and device."""
    chosen: Any = "lesson" if preset == "lesson" else "quick"
    values = dict(PRESETS[chosen]["any"])
    if jax.default_backend() == "cpu":
        values |= PRESETS[chosen]["cpu"]
    return Config(preset=chosen, **values)


def settings(config: Config) -> Settings:
    """The part that `stylize` is to know."""
    names = [field.name for field in dataclasses.fields(Settings)]
    return Settings(**{name: getattr(config, name) for name in names})


def check(config: Config) -> None:
    """Raises UserError for a value that makes no sense."""
    style_settings.check(settings(config))
    config_checks.above_zero(config, ("size", "style_size", "every"))
    if config.mask is not None and len(config.style) != 2:
        raise UserError(
            f"--mask is for two styles, one inside and one outside, and --style names "
            f"{len(config.style)}: name two."
        )
    config_checks.png("output", config.output)
    if config.output is not None:
        config_checks.writable("output", config.output)
    most = math.isqrt(images.MAX_PIXELS)
    for name, size in (("size", config.size), ("style_size", config.style_size)):
        if size is not None and size > most:
            raise UserError(f"{config_checks.flag(name)} is {size}: it must be {most} or less.")


def as_metadata(config: Config) -> dict[str, Any]:
    """The config as a picture keeps it: paths become text."""
    return dict(json.loads(json.dumps(dataclasses.asdict(config), default=str)))
