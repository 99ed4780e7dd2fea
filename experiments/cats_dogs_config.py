"""The settings of the cats-and-dogs experiment, and the phases and rates that follow from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experiments import config_checks
from jaxlessons.errors import UserError
from jaxlessons.schedules import Phase

BLOCKS = ("none", "block5", "block4", "block3", "block2", "block1")


@dataclass(frozen=True)
class Config:
    """Train the lesson's head on a pretrained VGG16, then its upper layers, and draw heat maps."""

    data_dir: Path | None = None
    """Folder with train/CLASS/*.jpg and valid/CLASS/*.jpg; otherwise JAXLESSONS_PHOTOS."""
    weights: Path | None = None
    """VGG16's weights: Keras' .h5 or .onnx, or PyTorch's as .safetensors or .npz; otherwise they
    are fetched once."""
    size: int = 128
    """Height and width of the photos in pixels."""
    last: Literal["block5_pool", "block5_conv3"] = "block5_conv3"
    """The trunk's last layer; block5_conv3 gives heat maps of twice the detail."""
    views: int = 1
    """Views of each training photo: the first is the photo, others are flipped, turned, zoomed and
    lit at random. The frozen layers see each view once (the lesson's precompute=True)."""
    epochs: float = 4.0
    """Length of the first stage, in which only the head is trained."""
    lr: float = 1e-3
    """The head's rate in the first stage; it falls to 0 along a cosine, as in the second."""
    unfreeze: Literal["none", "block5", "block4", "block3", "block2", "block1"] = "block5"
    """The lowest block trained in the second stage: block1 is the whole trunk, none leaves the
    second stage out."""
    fine_epochs: float = 2.0
    """Length of the second stage."""
    fine_lr: float = 1e-4
    """The head's rate in the second stage."""
    rate_ratio: float = 0.3
    """A block's rate over that of the layers above it."""
    batch_size: int = 32
    """Photos a step."""
    optimizer: Literal["sgd", "nesterov", "adam", "adamw"] = "adam"
    """The rule that makes a step of a gradient."""
    weight_decay: float = 0.0
    """Its strength, beside the step."""
    dropout: float = 0.0
    """Share of the features dropped before the head."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """The type that layers compute in; parameters are float32."""
    zoom: float = 0.75
    """Side of the hottest region over the photo's: it is enlarged and classified again."""
    validation: int = 200
    """Training photos kept back to choose by; those in valid/ are looked at once, at the end."""
    seed: int = 0
    """Start of all randomness: the head, the order, the views, dropout."""
    runs_dir: Path = Path("runs")
    """Where run folders go."""
    name: str | None = None
    """Name of the run's folder; one is made up otherwise."""
    resume: bool = False
    """Go on with the run --name, or the last one, from its latest checkpoint."""
    keep: int = 1
    """Checkpoints kept beside the best one."""


def check(config: Config) -> None:
    """Raises UserError, naming the flag, for a value that makes no sense."""
    above = ("size", "views", "epochs", "lr", "fine_epochs", "fine_lr", "rate_ratio")
    config_checks.above_zero(config, (*above, "batch_size", "keep"))
    unbounded = dict.fromkeys(("weight_decay", "validation"), math.inf)
    config_checks.from_zero(config, {**unbounded, "dropout": 1.0, "seed": 2.0**32})
    if not 0 < config.zoom <= 1:
        raise UserError(f"--zoom is {config.zoom}: it must be above 0 and at most 1.")
    smallest = 32 if config.last == "block5_pool" else 16
    if config.size < smallest:
        raise UserError(f"--size is {config.size}: {config.last} needs {smallest} or more.")


def first_layer(config: Config) -> str:
    """The lowest layer that is ever trained; the frozen layers are those below it.

    With --unfreeze none it is block5's too, whose rate is then 0.
    """
    block = "block5" if config.unfreeze == "none" else config.unfreeze
    return f"{block}_conv1"


def phases(config: Config) -> list[Phase]:
    """The head's: one a stage."""
    stages = [(config.epochs, config.lr)]
    if config.unfreeze != "none":
        stages.append((config.fine_epochs, config.fine_lr))
    return [Phase(epochs, lr, "cosine", **_optimizer(config)) for epochs, lr in stages]


def groups(config: Config) -> dict[str, Any]:
    """The trunk's rates by block: 0 in the first stage, then the less the lower the block is."""
    if config.unfreeze == "none":
        return {"trunk": 0}
    rates, lr = {}, config.fine_lr
    for block in BLOCKS[1 : BLOCKS.index(config.unfreeze) + 1]:
        lr *= config.rate_ratio
        rates[f"trunk/{block}_"] = [
            Phase(config.epochs, 0.0, **_optimizer(config)),
            Phase(config.fine_epochs, lr, "cosine", **_optimizer(config)),
        ]
    return rates


def _optimizer(config: Config) -> dict[str, Any]:
    return {"optimizer": config.optimizer, "weight_decay": config.weight_decay}
