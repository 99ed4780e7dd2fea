"""The settings of a character model, and what they mean: presets, phases, network."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp

from experiments import config_checks
from experiments.device_config import Devices
from jaxlessons import schedules
from jaxlessons.errors import UserError
from jaxlessons.models.char import StatefulCharRNN
from jaxlessons.models.rnn import Backend, CellName
from jaxlessons.schedules import Phase

Preset = Literal["quick", "lesson", "lesson_long"]


@dataclass(frozen=True)
class Training:
    """How a character model is trained, and how it writes."""

    cell: CellName = "lstm"
    """Kind of recurrent layer."""
    preset: Preset = "lesson"
    """quick: a few minutes on a CPU; lesson: its network, schedule and text (as lower case);
    lesson_long: with the LSTM's 63 more epochs."""
    text: str | None = None
    """nietzsche, tinyshakespeare, timemachine or stdlib, or a UTF-8 file, or a folder of them;
    otherwise nietzsche, or stdlib where that is not to be had."""
    lower: bool = True
    """Lower-case the text."""
    min_frequency: int = 3
    """Characters seen less often in the training text become one unknown symbol."""
    clean: bool = False
    """Keep the letters a to z and spaces only, as d2l does with timemachine."""
    validation: float | None = None
    """Share of the text, at its end, to validate on; otherwise the text's usual."""
    embedding_size: int = 42
    """Numbers a character becomes."""
    features: int = 256
    """Hidden units a layer."""
    layers: int = 1
    """Recurrent layers."""
    dropout: float = 0.0
    """Dropout between the layers."""
    output_dropout: float = 0.0
    """Dropout ahead of the last, linear layer."""
    recurrent_init: Literal["uniform", "orthogonal", "identity"] = "uniform"
    """How the recurrent weights start."""
    forget_bias: float | None = None
    """Start of the LSTM's forget gate's bias; otherwise random around 0."""
    backend: Backend = "auto"
    """How the layers are computed; see jaxlessons.models.rnn.Recurrent."""
    batching: Literal["streams", "jittered", "sequential", "random"] = "streams"
    """Parallel streams through the text; the same in windows of random length; the same from a
    random offset on; or windows from anywhere, without a state that is kept."""
    batch_size: int = 64
    """Streams, or windows a step."""
    bptt: int = 8
    """Characters a step, through which the gradient goes back."""
    schedule: Literal["steps", "sgdr", "one_cycle", "cosine", "constant"] = "constant"
    """Of the learning rate: a fall to a tenth; constant and then --cycles; or one curve over all
    epochs."""
    epochs: float = 8.0
    """Passes through the text; with sgdr, those ahead of the cycles."""
    drop_at: float = 0.5
    """With steps: the share of the epochs after which the rate falls to a tenth."""
    cycles: tuple[int, ...] = ()
    """With sgdr: runs of so many cycles, of 1, 2, 4, ... epochs."""
    lr: float = 1e-3
    """The highest learning rate."""
    optimizer: Literal["adam", "adamw", "sgd", "nesterov", "rmsprop", "lion", "lamb"] = "adam"
    """How a gradient becomes a step."""
    weight_decay: float = 0.0
    """In the gradient (L2), as PyTorch's Adam has it; with adamw beside it."""
    group_weight_decay: dict[str, float] = field(default_factory=dict)
    """Another weight decay for the parameters whose path matches: embedding 0 recurrent 1e-4."""
    clip_norm: float | None = None
    """Scale the gradient down to this norm where it is longer."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """The type that products are computed in; parameters are float32."""
    steps_per_call: int | None = None
    """Steps in one call to the device; otherwise an epoch, and on a CPU 50."""
    seed: int = 0
    """Start of all randomness: parameters, windows, dropout, and what --sample draws."""
    data_dir: Path | None = None
    """Folder that holds NAME.txt of a named text; otherwise JAXLESSONS_DATA, otherwise it is
    downloaded once."""
    runs_dir: Path = Path("runs")
    """Where run folders go."""
    name: str | None = None
    """Name of the run's folder; one is made up otherwise."""
    resume: bool = False
    """Go on with the run --name, or the last one, from its latest checkpoint."""
    keep: int = 3
    """Checkpoints kept beside the best one."""
    sample: str | None = None
    """Write what follows this, by the run --name, the last one, or --checkpoint, and stop."""
    checkpoint: Path | None = None
    """For --sample: a checkpoint's folder, or the one that checkpoints are in."""
    length: int = 400
    """For --sample: characters to write."""
    samples: int = 1
    """For --sample: how many texts."""
    temperature: float = 0.8
    """For --sample: below 1 the likely characters get likelier."""
    top_k: int | None = None
    """For --sample: draw from the k likeliest characters only."""
    top_p: float | None = None
    """For --sample: draw from the likeliest characters that together have this probability."""
    greedy: bool = False
    """For --sample: always the likeliest character."""
    beams: int = 0
    """For --sample: search for the likeliest text, with so many kept at each character."""


# A dataclass's fields begin with those of its last base.
@dataclass(frozen=True)
class Config(Devices, Training):
    """Train a character model on a text, or write text with a trained one (--sample)."""


def check(config: Config) -> None:
    """Raises UserError, naming the flag, for a value that makes no sense."""
    above = ("epochs", "lr", "batch_size", "bptt", "keep", "clip_norm", "steps_per_call")
    sizes = ("embedding_size", "features", "layers", "min_frequency", "length", "samples")
    config_checks.above_zero(config, [*above, *sizes])
    limits = {"dropout": 1.0, "output_dropout": 1.0, "seed": 2.0**32}
    config_checks.from_zero(config, {**limits, "weight_decay": math.inf, "beams": math.inf})
    for pattern, decay in config.group_weight_decay.items():
        if not 0 <= decay < math.inf:
            raise UserError(f"--group-weight-decay {pattern} is {decay}: it must be 0 or more.")
    if not 0 < config.drop_at < 1:
        raise UserError(f"--drop-at is {config.drop_at}: it must lie between 0 and 1.")
    if config.schedule == "sgdr" and (not config.cycles or min(config.cycles) < 1):
        raise UserError(f"--cycles is {config.cycles}: with sgdr name numbers from 1, such as 4.")
    if config.cycles and config.schedule != "sgdr":
        raise UserError(f"--cycles belongs to --schedule sgdr: this is {config.schedule}.")


def defaults(cell: str | None, preset: str | None) -> Config:
    """The config of a cell and a preset; on a CPU the preset is `quick` unless named."""
    preset = preset or ("quick" if jax.default_backend() == "cpu" else "lesson")
    chosen: Any = cell or "lstm"
    config = Config(cell=chosen)
    if preset == "quick":
        return dataclasses.replace(config, **QUICK)
    if chosen == "lstm":
        config = dataclasses.replace(config, **LESSON_LSTM)
        if preset == "lesson_long":
            return dataclasses.replace(config, preset="lesson_long", cycles=(4, 6))
        return config
    if chosen == "rnn":
        return dataclasses.replace(config, schedule="steps")
    return dataclasses.replace(config, schedule="steps", epochs=9.0, drop_at=6 / 9)


# What the lesson does with its LSTM; its RNN and GRU have Config's own sizes.
LESSON_LSTM: Mapping[str, Any] = {
    "features": 512,
    "layers": 2,
    "dropout": 0.5,
    "schedule": "sgdr",
    "epochs": 2.0,
    "cycles": (4,),
    "lr": 1e-2,
    "weight_decay": 1e-5,
}

QUICK: Mapping[str, Any] = {
    "preset": "quick",
    "lower": False,
    "min_frequency": 1,
    "bptt": 16,
    "schedule": "one_cycle",
    "epochs": 8.0,
    "lr": 5e-3,
    "clip_norm": 1.0,
}


def phases(config: Config, weight_decay: float | None = None) -> list[Phase]:
    """The run's phases, with the config's weight decay or another."""
    decay = config.weight_decay if weight_decay is None else weight_decay
    same: dict[str, Any] = {
        "optimizer": config.optimizer,
        "weight_decay": decay,
        "decoupled": config.optimizer == "adamw",
    }
    match config.schedule:
        case "steps":
            first = config.epochs * config.drop_at
            steps = [(first, config.lr), (config.epochs - first, config.lr / 10)]
            return [Phase(epochs, lr, **same) for epochs, lr in steps]
        case "sgdr":
            cycles = [
                phase
                for count in config.cycles
                for phase in schedules.sgdr(config.lr, count, cycle_mult=2, **same)
            ]
            return [Phase(config.epochs, config.lr, **same), *cycles]
        case "one_cycle":
            return schedules.one_cycle(config.lr, config.epochs, momentum=(0.95, 0.85), **same)
        case decay_curve:
            curve = "none" if decay_curve == "constant" else "cosine"
            return [Phase(config.epochs, config.lr, curve, **same)]


def groups(config: Config) -> dict[str, Any] | None:
    """The layer groups with a weight decay of their own."""
    own = config.group_weight_decay
    return {pattern: phases(config, decay) for pattern, decay in own.items()} or None


def model_settings(config: Config, vocabulary_size: int) -> dict[str, Any]:
    """The network, as JSON values that go into each checkpoint."""
    names = ["cell", "embedding_size", "features", "layers", "dropout", "output_dropout"]
    names += ["recurrent_init", "forget_bias", "backend"]
    settings = {name: getattr(config, name) for name in names}
    return {**settings, "vocabulary_size": vocabulary_size, "dtype": config.compute_dtype}


def make_model(settings: Mapping[str, Any]) -> StatefulCharRNN:
    """The network of `model_settings`; UserError for anything else."""
    try:
        return StatefulCharRNN(**{**settings, "dtype": jnp.dtype(settings["dtype"])})
    except (TypeError, KeyError) as error:
        raise UserError(
            f"The settings {dict(settings)} are not those of a character model ({error}): take "
            "another checkpoint."
        ) from error
