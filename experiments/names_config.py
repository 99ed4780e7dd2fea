"""The settings of a name classifier, and what they mean: presets, phases, network."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import jax.numpy as jnp

from experiments import config_checks
from experiments.device_config import Devices
from jaxlessons import schedules
from jaxlessons.errors import UserError
from jaxlessons.models.names import NameClassifier
from jaxlessons.models.rnn import CellName
from jaxlessons.schedules import Phase

Preset = Literal["tuned", "tutorial"]


@dataclass(frozen=True)
class Training:
    """How a name classifier is trained, and what it is asked."""

    cell: CellName = "gru"
    """Kind of recurrent layer."""
    preset: Preset = "tutorial"
    """Which defaults: the tutorial's training, by Adam at 1e-3, or the tuned one, which is taken
    unless named: with dropout 0.3, 3 % unknown letters and one cycle of the rate up to 3e-3, since
    without them the network, which is the same, overfits."""
    train_file: Path | None = None
    """A CSV file, gzipped or not, of name,label, with a header or without; otherwise the
    tutorial's surnames."""
    test_file: Path | None = None
    """Another one to test on; otherwise a fifth of --train-file is kept back."""
    lower: bool = False
    """Lower-case the names."""
    embedding_size: int = 100
    """Numbers a letter becomes."""
    features: int = 100
    """Hidden units a layer and direction."""
    layers: int = 2
    """Recurrent layers."""
    bidirectional: bool = True
    """Read the names from their end too."""
    dropout: float = 0.0
    """Dropout of the embedding, between the layers and ahead of the last, linear layer."""
    unknown: float = 0.0
    """Share of the letters that training replaces, at random, by the symbol for unknown ones."""
    schedule: Literal["constant", "one_cycle", "cosine"] = "constant"
    """Of the learning rate."""
    epochs: float = 20.0
    """Passes through the names."""
    lr: float = 1e-3
    """The highest learning rate."""
    batch_size: int = 256
    """Names a step."""
    optimizer: Literal["adam", "adamw", "sgd", "nesterov", "rmsprop", "lion", "lamb"] = "adam"
    """How a gradient becomes a step."""
    weight_decay: float = 0.0
    """In the gradient (L2); with adamw beside it."""
    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes."""
    clip_norm: float | None = None
    """Scale the gradient down to this norm where it is longer."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """The type that products are computed in; parameters are float32."""
    buckets: int = 4
    """Names of like length share a batch, which is as wide as one of so many widths; 1 has them
    all as wide as the longest."""
    validation: float = 0.1
    """Share of the names to train on that is kept back to choose by; 0 trains on all of them."""
    seed: int = 0
    """Start of all randomness: parameters, order, dropout."""
    data_dir: Path | None = None
    """Folder with the tutorial's names_train.csv.gz and names_test.csv.gz; otherwise
    JAXLESSONS_DATA, otherwise they are downloaded once."""
    runs_dir: Path = Path("runs")
    """Where run folders go."""
    name: str | None = None
    """Name of the run's folder; one is made up otherwise."""
    resume: bool = False
    """Go on with the run --name, or the last one, from its latest checkpoint."""
    keep: int = 3
    """Checkpoints kept beside the best one."""
    predict: tuple[str, ...] = ()
    """Tell where these names are from, by the run --name, the last, or --checkpoint, and stop."""
    top: int = 3
    """For --predict: labels that are told of each name."""
    checkpoint: Path | None = None
    """For --predict: a checkpoint's folder, or the one that checkpoints are in."""


# A dataclass's fields begin with those of its last base.
@dataclass(frozen=True)
class Config(Devices, Training):
    """Train a network that tells where a name is from, or ask a trained one (--predict)."""


TUNED: Mapping[str, Any] = {
    "preset": "tuned",
    "dropout": 0.3,
    "unknown": 0.03,
    "schedule": "one_cycle",
    "epochs": 20.0,
    "lr": 3e-3,
}


def defaults(cell: str | None, preset: str | None) -> Config:
    """The config of a cell and a preset, which is `tuned` unless named."""
    # What is no cell is for the command line to refuse, which needs a default that is one.
    chosen: Any = {"cell": cell if cell in get_args(CellName) else "gru"}
    config = Config(**chosen)
    return config if preset == "tutorial" else dataclasses.replace(config, **TUNED)


def check(config: Config) -> None:
    """Raises UserError, naming the flag, for a value that makes no sense."""
    above = ("epochs", "lr", "batch_size", "keep", "clip_norm", "buckets", "top")
    config_checks.above_zero(config, [*above, "embedding_size", "features", "layers"])
    shares = ("dropout", "unknown", "label_smoothing", "validation")
    limits = {"weight_decay": math.inf, "seed": 2.0**32, **dict.fromkeys(shares, 1.0)}
    config_checks.from_zero(config, limits)
    if config.test_file is not None and config.train_file is None:
        raise UserError(f"--test-file is {config.test_file}: it needs a --train-file too.")


def phases(config: Config) -> list[Phase]:
    """The run's phases."""
    same: dict[str, Any] = {
        "optimizer": config.optimizer,
        "weight_decay": config.weight_decay,
        "decoupled": config.optimizer == "adamw",
    }
    if config.schedule == "one_cycle":
        return schedules.one_cycle(config.lr, config.epochs, momentum=(0.95, 0.85), **same)
    curve = "none" if config.schedule == "constant" else "cosine"
    return [Phase(config.epochs, config.lr, curve, **same)]


def model_settings(config: Config, vocabulary_size: int, classes: int) -> dict[str, Any]:
    """The network, as JSON values that go into each checkpoint."""
    names = ("cell", "embedding_size", "features", "layers", "bidirectional", "dropout")
    sizes = {"vocabulary_size": vocabulary_size, "classes": classes}
    return {n: getattr(config, n) for n in names} | sizes | {"dtype": config.compute_dtype}


def make_model(settings: Mapping[str, Any]) -> NameClassifier:
    """The network of `model_settings`; UserError for anything else."""
    try:
        return NameClassifier(**{**settings, "dtype": jnp.dtype(settings["dtype"])})
    except (TypeError, KeyError) as error:
        raise UserError(
            f"The settings {dict(settings)} are not those of a name classifier ({error}): take "
            "another checkpoint."
        ) from error
