"""The settings that the CIFAR-10 experiments share, and what follows from them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp

from experiments import config_checks
from experiments.device_config import Devices
from experiments.image_data import Dataset
from jaxlessons import losses, schedules
from jaxlessons.data import augment
from jaxlessons.data.cifar10 import ImageSet
from jaxlessons.errors import UserError
from jaxlessons.schedules import Phase
from jaxlessons.training import Augment, Examples, Place

Augmentation = Literal["flip", "alternating_flip", "crop", "translate", "cutout", "mixup"]
FLIPS = ("flip", "alternating_flip")

C = TypeVar("C", bound="Config")


@dataclass(frozen=True)
class Training:
    """How a network is trained."""

    model: str = ""
    """The network."""
    preset: Literal["lesson", "quick"] = "lesson"
    """Which defaults: the lesson's recipe, or one that a CPU finishes in minutes."""
    schedule: Literal["lesson", "one_cycle", "flat_cosine", "cosine", "constant"] = "lesson"
    """The learning rate's course: "lesson" is the lesson's list of fits for this network."""
    epochs: float = 1.0
    """Length of training; the lesson's fits are stretched to it."""
    lr: float = 0.1
    """The highest learning rate; the lesson's rates are scaled to it."""
    batch_size: int = 256
    """Images a step."""
    optimizer: Literal["sgd", "nesterov", "adam", "adamw", "rmsprop", "lamb", "lion"] = "sgd"
    """The rule that makes a step of a gradient."""
    momentum: float = 0.9
    """SGD's momentum, Adam's beta1."""
    weight_decay: float = 0.0
    """Its strength."""
    decoupled: bool = False
    """Weight decay beside the step, as always with adamw; the lesson has it in the gradient."""
    clip_norm: float | None = None
    """Scale gradients down to this global norm."""
    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes."""
    dropout: float = 0.0
    """Share of the features dropped before the last layer, in the networks with batch norm."""
    norm: Literal["after", "before", "pre", "none"] = "after"
    """Batch norm after the ReLU (the lesson), before it, before a ReLU ahead of the convolution
    (pre-activation), or none."""
    augment: tuple[Augmentation, ...] = ("flip", "crop")
    """Random changes to the training images, in this order."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """The type that layers compute in; parameters are float32."""
    swa_start: float | None = None
    """Average the parameters from this epoch on, with equal weights (SWA)."""
    swa_every: float = 1.0
    """Epochs from one set of parameters that goes into the average to the next."""
    ema: float | None = None
    """Keep an exponential average of the parameters with this decay a step."""
    tta: int = 0
    """Augmented views of each test image that predictions are averaged over at the end: flipped
    and cropped at random as in --augment; with neither there are none."""
    snapshots: int = 0
    """Average the predictions of the networks at the ends of this many last cycles."""
    validation: int = 5000
    """Training images kept back to choose by; 0 trains on all of them, as the lesson did."""
    seed: int = 0
    """Start of all randomness: parameters, order, augmentation, dropout."""
    dataset: Dataset = "cifar10"
    """The images: 32x32 in colour, or MNIST's and Fashion-MNIST's, 28x28 and grey."""
    data_dir: Path | None = None
    """Folder with the data (CIFAR-10's binary or python batches or their archive, MNIST's idx
    files, or a TFDS copy); otherwise JAXLESSONS_DATA, otherwise they are downloaded once."""
    runs_dir: Path = Path("runs")
    """Where run folders go."""
    name: str | None = None
    """Name of the run's folder; one is made up otherwise."""
    resume: bool = False
    """Go on with the run --name, or the last one, from its latest checkpoint."""
    keep: int = 3
    """Checkpoints kept beside the best one."""
    lr_find: bool = False
    """Sweep the learning rate over a mock training, print what it suggests, draw it and stop."""
    summary: bool = False
    """Print the layer table and stop."""


# A dataclass's fields begin with those of its last base.
@dataclass(frozen=True)
class Config(Devices, Training):
    """What a run is made of; each field is a flag."""


def check(config: Config) -> None:
    """Raises UserError, naming the flag, for a value that makes no sense."""
    config_checks.above_zero(
        config, ("epochs", "lr", "batch_size", "keep", "clip_norm", "swa_every")
    )
    config_checks.from_zero(
        config,
        {
            "momentum": 1.0,
            "label_smoothing": 1.0,
            "dropout": 1.0,
            "weight_decay": math.inf,
            "tta": math.inf,
            "snapshots": math.inf,
            "validation": math.inf,
            "seed": 2.0**32,
        },
    )
    _check_averages(config)
    if config.dataset == "shapes" and config.data_dir is not None:
        raise UserError("--dataset shapes is made by a formula: leave out --data-dir.")
    if len(set(config.augment)) < len(config.augment):
        raise UserError(f"--augment names {' '.join(config.augment)}: each can be there once.")


def _check_averages(config: Config) -> None:
    if config.ema is not None and config.swa_start is not None:
        raise UserError("--ema and --swa-start are two kinds of average: leave one out.")
    if config.ema is not None and not 0 < config.ema < 1:
        raise UserError(f"--ema is {config.ema}: it must lie between 0 and 1.")
    if config.swa_start is not None and not 0 <= config.swa_start < config.epochs:
        raise UserError(
            f"--swa-start is {config.swa_start}: it must lie within the {config.epochs:g} epochs."
        )


def choose(preset: str | None) -> str:
    """The preset that a run has when none is named: the whole lesson where there is a GPU."""
    return preset or ("quick" if jax.default_backend() == "cpu" else "lesson")


def lesson(config: C, phases: Sequence[Phase]) -> C:
    """The lesson's preset: the length and the highest rate of its phases."""
    epochs = round(sum(phase.epochs for phase in phases), 6)
    return dataclasses.replace(config, epochs=epochs, lr=max_lr(phases))


def quick(config: C, **changes: Any) -> C:
    """The quick preset of a lesson's config: one cycle of SGD over few epochs."""
    settings: dict[str, Any] = {
        "preset": "quick",
        "schedule": "one_cycle",
        "optimizer": "nesterov",
        "weight_decay": 5e-4,
    }
    return dataclasses.replace(config, **(settings | changes))


def fit(config: C, dataset: str | None) -> C:
    """The defaults for the data set of this name: a digit's mirror image is another sign."""
    if dataset != "mnist":
        return config
    kept = tuple(name for name in config.augment if name not in FLIPS)
    return dataclasses.replace(config, augment=kept, tta=0)


def phases(config: Config, lesson: Sequence[Phase]) -> list[Phase]:
    """The run's phases; `lesson` are those of the network's lesson, at its own rates."""
    same: dict[str, Any] = {
        "momentum": config.momentum,
        "optimizer": config.optimizer,
        "weight_decay": config.weight_decay,
        "decoupled": is_decoupled(config),
    }
    match config.schedule:
        case "lesson":
            stretch = config.epochs / sum(phase.epochs for phase in lesson)
            scale = config.lr / max_lr(lesson)
            return [
                dataclasses.replace(p, epochs=p.epochs * stretch, lr=max_lr([p]) * scale, **same)
                for p in lesson
            ]
        case "one_cycle":
            same["momentum"] = (config.momentum, config.momentum)
            return schedules.one_cycle(config.lr, config.epochs, start_div=5, **same)
        case "flat_cosine":
            return schedules.flat_cosine(config.lr, config.epochs, **same)
        case decay:
            lr_decay = "none" if decay == "constant" else "cosine"
            return [Phase(config.epochs, config.lr, lr_decay, **same)]


def is_decoupled(config: Config) -> bool:
    """Whether the run's weight decay stands beside the step, and not in the gradient."""
    return config.decoupled or config.optimizer == "adamw"


def max_lr(lesson: Sequence[Phase]) -> float:
    """The highest rate of phases whose rates are single numbers, as the lessons' are."""
    return max(float(phase.lr) for phase in lesson)  # type: ignore[arg-type]


def network(config: Config, networks: Mapping[str, Any], num_classes: int) -> Any:
    """The Flax module; a flag that it has no field for must be at its default."""
    kind = networks[config.model]
    settings = {"norm": config.norm, "dropout": config.dropout}
    settings["width"] = getattr(config, "width", 1.0)
    for name, neutral in (("norm", "after"), ("dropout", 0.0), ("width", 1.0)):
        if name not in kind.__dataclass_fields__ and settings.pop(name) != neutral:
            raise UserError(
                f"{config_checks.flag(name)} has no meaning for --model {config.model}."
            )
    dtype = jnp.dtype(config.compute_dtype)
    return kind(num_classes=num_classes, dtype=dtype, **settings)


def loss(config: Config) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Cross-entropy with the config's label smoothing."""
    return partial(losses.cross_entropy, label_smoothing=config.label_smoothing)


def make_augment(config: Config, images: ImageSet) -> Augment:
    """(key, uint8 batch, place) -> the batch changed at random, then normalised."""
    flip_key = jax.random.key(config.seed)
    grey = 255 * sum(images.mean) / len(images.mean)

    def change(name: Augmentation, key: jax.Array, batch: Examples, place: Place) -> Examples:
        inputs, labels = batch
        match name:
            case "flip":
                return Examples(augment.random_flip(key, inputs), labels)
            case "alternating_flip":
                flipped = augment.alternating_flip(flip_key, inputs, place.rows, place.epoch)
                return Examples(flipped, labels)
            case "crop":
                return Examples(augment.random_crop(key, inputs, pad=4), labels)
            case "translate":
                return Examples(augment.random_translate(key, inputs, by=4), labels)
            case "cutout":
                return Examples(augment.cutout(key, inputs, size=8, fill=grey), labels)
            case "mixup":
                return Examples(*augment.mixup(key, inputs, labels, len(images.classes)))

    def pipeline(key: jax.Array, batch: Examples, place: Place) -> Examples:
        for i, name in enumerate(config.augment):
            batch = change(name, jax.random.fold_in(key, i), batch, place)
        return batch._replace(inputs=augment.normalize(batch.inputs, images.mean, images.std))

    return pipeline
