"""The settings of a fast style transfer, and the network, the losses and the phases they mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp

from experiments import config_checks
from jaxlessons import schedules, style_settings
from jaxlessons.errors import UserError
from jaxlessons.models.image_transform import ImageTransform
from jaxlessons.schedules import Phase
from jaxlessons.style_objective import smallest_side
from jaxlessons.style_settings import Settings

# What differs from the fields' defaults, which are a CPU's: the paper's network and crops.
ACCELERATOR: dict[str, Any] = {
    "crop": 256,
    "batch_size": 8,
    "photos": 20_000,
    "validation": 64,
    "steps": 5000,
    "channels": (32, 64, 128),
    "residual_blocks": 5,
    "style_size": 512,
}


@dataclass(frozen=True)
class Config:
    """Train a network that paints any photo in one style, or paint with a trained one (--paint)."""

    data_dir: Path | None = None
    """Folder of photos, searched with all its subfolders for .jpg, .jpeg, .png and .webp;
    otherwise JAXLESSONS_PHOTOS."""
    style: Path | None = None
    """The painting: JPEG, PNG or WebP; without one, a painting of a flow field that this project
    generates."""
    style_size: int = 256
    """The painting's longer side in pixels: the larger it is, the larger the strokes."""
    weights: Path | None = None
    """VGG16's weights: Keras' .h5 or .onnx, or PyTorch's as .safetensors or .npz; otherwise they
    are fetched once."""
    photos: int = 300
    """The most photos to train on; of a larger folder so many are drawn."""
    validation: int = 8
    """Photos kept back: the losses on them, and one of them painted, are shown every epoch."""
    crop: int = 128
    """Height and width in pixels of what the network trains on."""
    batch_size: int = 4
    """Photos a step."""
    steps: int = 300
    """Length of training."""
    channels: tuple[int, int, int] = (16, 32, 64)
    """The network's channels at the full size, a half and a quarter of it; the paper's are 32, 64
    and 128."""
    residual_blocks: int = 3
    """Blocks of two convolutions at the quarter size; the paper has 5."""
    lr: float = 1e-3
    """Adam's highest rate, of one cycle."""
    clip_norm: float | None = None
    """Scale gradients down to this global norm."""
    content_layer: str = "block3_conv3"
    """VGG16's layer whose features are the content, block1_conv1 to block5_pool."""
    style_layers: tuple[str, ...] = ("block1_conv2", "block2_conv2", "block3_conv3")
    """The layers whose Gram matrices are the style. The paper has block4_conv3 too, whose loss is
    less than a thousandth of these."""
    content_weight: float = 1.0
    """Of the content loss."""
    style_weight: float = 5.0
    """Of the style loss, summed over its layers; 0 for a network that copies its photo."""
    tv_weight: float = 1e5
    """Of the total variation, which smooths."""
    normalization: Literal["lesson", "gatys"] = "lesson"
    """How Gram matrices and their loss are scaled: by height * width * channels and as a mean, as
    the lesson and d2l do, or as Gatys et al. (2015) do."""
    pool: Literal["max", "avg"] = "max"
    """VGG16's pooling."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """The type that both networks compute in; the losses and the parameters are float32."""
    seed: int = 0
    """Start of all randomness: the network, the order, the crops."""
    runs_dir: Path = Path("runs")
    """Where run folders go."""
    name: str | None = None
    """Name of the run's folder; one is made up otherwise."""
    resume: bool = False
    """Go on with the run --name, or the last one, from its latest checkpoint."""
    keep: int = 1
    """Checkpoints kept beside the best one."""
    paint: Path | None = None
    """Paint this photo by the run --name, the last one, or --checkpoint, and stop."""
    output: Path | None = None
    """For --paint: the .png to write; otherwise PHOTO-painted.png in the current folder."""
    size: int | None = None
    """For --paint: the picture's longer side in pixels; otherwise the photo's own size."""
    checkpoint: Path | None = None
    """For --paint: a checkpoint's folder, or the one that checkpoints are in."""


def defaults(model: str | None, preset: str | None) -> Config:
    """The config of a run without flags, by device."""
    return Config() if jax.default_backend() == "cpu" else Config(**ACCELERATOR)


def settings(config: Config) -> Settings:
    """The losses' part."""
    return Settings(
        content_layer=config.content_layer,
        style_layers=config.style_layers,
        content_weight=config.content_weight,
        style_weight=config.style_weight,
        tv_weight=config.tv_weight,
        normalization=config.normalization,
        pool=config.pool,
        compute_dtype=config.compute_dtype,
    )


def check(config: Config) -> None:
    """Raises UserError, naming the flag, for a value that makes no sense."""
    style_settings.check(settings(config))
    counts = ("style_size", "photos", "validation", "crop", "batch_size", "steps", "keep", "size")
    config_checks.above_zero(config, (*counts, "lr", "clip_norm"))
    config_checks.from_zero(config, {"residual_blocks": 1e3, "seed": 2.0**32})
    if min(config.channels) < 1:
        raise UserError(f"--channels is {config.channels}: each must be 1 or more.")
    least = max(2, smallest_side(settings(config)))
    if config.crop < least:
        raise UserError(f"--crop is {config.crop}: with these layers it must be {least} or more.")
    config_checks.png("output", config.output)


def network_fields(config: Config) -> dict[str, Any]:
    """What a checkpoint says of its network, for `make_network`."""
    return {"channels": list(config.channels), "residual_blocks": config.residual_blocks}


def make_network(fields: dict[str, Any], dtype: str = "float32") -> ImageTransform:
    """The network of `network_fields`."""
    channels, blocks = tuple(fields["channels"]), int(fields["residual_blocks"])
    return ImageTransform(channels, blocks, jnp.dtype(dtype))


def phases(config: Config, per_epoch: int) -> list[Phase]:
    """One cycle over all steps."""
    return schedules.one_cycle(config.lr, config.steps / per_epoch, optimizer="adam")
