"""Images a second in training of each CIFAR-10 network, and what our convolution gains.

    python -m experiments.step_speed --models resnet2 fast

For each network a whole training step is timed with `models.conv.Conv` and with flax's plain
`nn.Conv`, turn by turn in one process, since a shared machine's speed drifts: trust the ratio.
The result is printed and written to runs/step_speed/<name>/result.json.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import optax
import tyro

from experiments import cifar_cnn, cifar_inception, cifar_resnet, command_line, config_checks
from experiments.provenance import provenance
from experiments.run_directory import RunDirectory
from jaxlessons import training
from jaxlessons.errors import UserError
from jaxlessons.models import conv
from jaxlessons.training import Examples, Place

NETWORKS = {**cifar_cnn.NETWORKS, **cifar_resnet.NETWORKS, **cifar_inception.NETWORKS}


@dataclass(frozen=True)
class Config:
    """Time training steps."""

    models: tuple[str, ...] = ("conv2", "bn", "deep_bn", "resnet", "resnet2", "fast")
    """Names of networks, as in cifar_cnn, cifar_resnet and cifar_inception."""
    batch_size: int = 256
    """Images a step."""
    rounds: int = 5
    """Turns; the median counts."""
    steps: int = 3
    """Steps a turn."""
    runs_dir: Path = Path("runs")
    """Where run folders go."""


def stepper(model: Any, batch_size: int, plain: bool) -> Callable[[], None]:
    """A function that takes one training step of `model`; plain: with lax's convolution alone."""
    images = jnp.zeros((batch_size, 32, 32, 3))
    split = Examples(images, jnp.arange(batch_size) % 10)
    place = Place(jnp.arange(batch_size), jnp.int32(0))
    optimizer = optax.sgd(0.01, momentum=0.9)
    step = training.make_train_step(model.apply, optimizer)
    # Which convolution it is gets decided while the step is traced, that is at its first call.
    patch = mock.patch.object(conv, "_is_plain", return_value=False)
    with patch if plain else contextlib.nullcontext():
        state = training.create_state(model, optimizer, jax.random.key(0), images[:1])
        states = [step(state, split, place)[0]]

    def take() -> None:
        states[0], sums = step(states[0], split, place)
        jax.block_until_ready(sums)

    return take


def seconds(take: Callable[[], None], steps: int) -> float:
    """Mean seconds of `steps` steps in a row."""
    began = time.perf_counter()
    for _ in range(steps):
        take()
    return (time.perf_counter() - began) / steps


def compare(name: str, config: Config) -> dict[str, Any]:
    """One network's images a second both ways, and the ratio."""
    ours, plain = (stepper(NETWORKS[name](), config.batch_size, plain) for plain in (False, True))
    pairs = [
        (seconds(ours, config.steps), seconds(plain, config.steps)) for _ in range(config.rounds)
    ]
    fast, slow = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    print(
        f"{name:8} {config.batch_size / fast:8,.0f} images/s, nn.Conv "
        f"{config.batch_size / slow:8,.0f}: {ratio:.2f} times as fast"
    )
    return {
        "model": name,
        "images_per_second": round(config.batch_size / fast, 1),
        "images_per_second_plain_conv": round(config.batch_size / slow, 1),
        "ratio": round(ratio, 3),
    }


def main() -> None:
    """Times every network asked for."""
    config = tyro.cli(Config, prog="python -m experiments.step_speed", description=__doc__)
    for name in config.models:
        if name not in NETWORKS:
            raise UserError(f"--models has {name!r}: it must be of {', '.join(NETWORKS)}.")
    for name in ("batch_size", "rounds", "steps"):
        if getattr(config, name) < 1:
            flag = config_checks.flag(name)
            raise UserError(f"{flag} is {getattr(config, name)}: it must be 1 or more.")
    rows = [compare(name, config) for name in config.models]
    run = RunDirectory.new(config.runs_dir, "step_speed", None, jax.default_backend())
    run.write_json(
        "result.json",
        {"rows": rows, **provenance(), "config": dataclasses.asdict(config)},
    )


if __name__ == "__main__":
    command_line.run(main)
