"""The settings of the speedrun: a recipe for each accuracy aimed at, and their checks."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import jax

from experiments import config_checks
from jaxlessons.errors import UserError

Target = Literal["94", "95", "96", "few"]
Optimizer = Literal["nesterov", "muon"]


@dataclass(frozen=True)
class Config:
    """What a speedrun is made of; each field is a flag, and its default is that of --target."""

    target: Target = "94"
    """The accuracy in per cent whose recipe is taken; few: the few parameters that reach 94."""
    optimizer: Optimizer = "nesterov"
    """What trains the convolutions: Nesterov's momentum or Muon."""
    seeds: int = 25
    """Trainings, with seeds 0, 1, ..."""
    widths: tuple[int, int, int] = (64, 256, 256)
    """Features of the three groups."""
    residual: bool = False
    """Three convolutions in each group instead of two, with a residual around the last two."""
    epochs: float = 9.9
    """Length of each training."""
    batch_size: int = 1024
    """Images a step."""
    lr: float = 11.5
    """The highest rate of SGD, per 1024 images and as if there were no momentum."""
    bias_scale: float = 64.0
    """The rate of batch norm's biases, in multiples of --lr."""
    muon_lr: float = 0.24
    """The highest rate of Muon, for the convolutions; SGD is left the head and the biases."""
    momentum: float = 0.85
    """SGD's."""
    muon_momentum: float = 0.6
    """Muon's."""
    weight_decay: float = 0.0153
    """SGD's, per 1024 images, as if there were no momentum; the rate does not change it."""
    warmup: float = 0.23
    """Share of the steps in which the rate rises in a line; it falls in one in the others."""
    start: float = 0.2
    """The first rate, as a share of the highest."""
    end: float = 0.07
    """The last rate, as a share of the highest."""
    whitening_epochs: float = 3.0
    """Epochs after which the bias of the whitening is frozen, as its filters always are."""
    lookahead: bool = True
    """Every 5 steps go on from an average of the weights so far, whose share grows."""
    label_smoothing: float = 0.2
    """Share of each label that is spread over all classes."""
    translate: int = 2
    """Pixels that a training image is moved by, at most."""
    cutout: int = 0
    """Side of the square that is covered in each training image."""
    norm_momentum: float = 0.6
    """Share of its old statistics that batch norm keeps a step."""
    compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """The type that layers compute in; parameters are float32."""
    validation: int = 0
    """Training images kept back, whose accuracy is then told instead of the test images'."""
    warm_up: bool = True
    """Train once before the clock runs, since a device's first run is slow."""
    peak_size: int = 8192
    """Rows of the matrices whose products measure the device's peak."""
    data_dir: Path | None = None
    """Folder with CIFAR-10; otherwise JAXLESSONS_DATA, otherwise it is downloaded once."""
    runs_dir: Path = Path("runs")
    """Where run folders go."""
    name: str | None = None
    """Name of the run's folder; one is made up otherwise."""


# What a CPU has time for, whatever is aimed at: minutes instead of days.
CPU: dict[str, Any] = {
    "widths": (16, 32, 32),
    "epochs": 3.0,
    "seeds": 1,
    "compute_dtype": "float32",
    "warm_up": False,
    "peak_size": 1024,
}
# Jordan's recipes; that of "few" is a place to start a search from, on validation images.
TARGETS: dict[str, dict[str, Any]] = {
    "94": {},
    "95": {"widths": (128, 384, 384), "epochs": 15.0, "lr": 10.0},
    "96": {
        "widths": (128, 512, 512),
        "residual": True,
        "epochs": 31.0,
        "lr": 9.0,
        "weight_decay": 0.012,
        "warmup": 0.1,
        "end": 0.0,
        "translate": 4,
        "cutout": 12,
        "norm_momentum": 0.9,
    },
    "few": {
        "widths": (32, 64, 128),
        "residual": True,
        "epochs": 60.0,
        "lr": 9.0,
        "weight_decay": 0.012,
        "warmup": 0.1,
        "end": 0.0,
        "norm_momentum": 0.9,
    },
}
# With gradients summed over a batch, the head's rate is 0.67 and the biases' 0.053.
MUON = {
    "batch_size": 2000,
    "lr": 5260.0,
    "bias_scale": 0.0791,
    "weight_decay": 0.0157,
    "warmup": 0.0,
    "end": 0.0,
    "lookahead": False,
}
# (target, optimizer) -> Jordan's mean accuracy in per cent, and over how many trainings.
PUBLISHED = {
    ("94", "muon"): (94.01, 200),
    ("94", "nesterov"): (94.01, 1000),
    ("95", "nesterov"): (95.01, 200),
    ("96", "nesterov"): (96.01, 400),
}


def defaults(target: Target, optimizer: Optimizer | None = None) -> Config:
    """The recipe; by default with the optimizer that is fastest by what was published."""
    chosen = optimizer or ("muon" if target == "94" else "nesterov")
    changes = dict(TARGETS[target])
    if chosen == "muon":
        changes |= MUON | ({"epochs": 8.0} if target == "94" else {})
    return Config(target=target, optimizer=chosen, **changes)


# What may differ from a recipe that is still the one that was published.
FREE = ("seeds", "compute_dtype", "warm_up", "peak_size", "data_dir", "runs_dir", "name")


def published(config: Config) -> tuple[float, int] | None:
    """(mean accuracy in per cent, over how many trainings) where this recipe was published."""
    recipe = defaults(config.target, config.optimizer)
    if dataclasses.replace(recipe, **{name: getattr(config, name) for name in FREE}) != config:
        return None
    return PUBLISHED.get((config.target, config.optimizer))


def changed(config: Mapping[str, Any]) -> list[str]:
    """In words, the widths and epochs of a saved config that are not its recipe's."""
    recipe = defaults(config["target"], config["optimizer"])
    found = []
    if tuple(config["widths"]) != recipe.widths:
        found.append("widths " + " ".join(map(str, config["widths"])))
    if config["epochs"] != recipe.epochs:
        found.append(f"{config['epochs']:g} epochs")
    return found


def asked_for(argv: Sequence[str]) -> Config:
    """The defaults, on this device, of the --target and --optimizer among the arguments.

    Whether these are any is for tyro to judge.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--target", nargs="?")
    parser.add_argument("--optimizer", nargs="?")
    early = parser.parse_known_args(list(argv))[0]
    target = early.target if early.target in get_args(Target) else "94"
    optimizer = early.optimizer if early.optimizer in get_args(Optimizer) else None
    if jax.default_backend() != "cpu":
        return defaults(target, optimizer)  # type: ignore[arg-type]
    # With Muon some of such short trainings of narrow networks end ten points below others.
    recipe = defaults(target, optimizer or "nesterov")  # type: ignore[arg-type]
    return dataclasses.replace(recipe, **CPU)


def check(config: Config) -> None:
    """Raises UserError, naming the flag, for a value that makes no sense."""
    config_checks.above_zero(config, ("seeds", "epochs", "batch_size", "lr", "bias_scale"))
    config_checks.above_zero(config, ("muon_lr", "peak_size"))
    below = {
        "momentum": 1.0,
        "muon_momentum": 1.0,
        "norm_momentum": 1.0,
        "warmup": 1.0,
        "label_smoothing": 1.0,
        "weight_decay": math.inf,
        "start": math.inf,
        "end": math.inf,
        "whitening_epochs": math.inf,
        "translate": 32,
        "cutout": 33,
        "validation": math.inf,
    }
    config_checks.from_zero(config, below)
    if min(config.widths) < 1:
        raise UserError(f"--widths is {config.widths}: each must be 1 or more.")
