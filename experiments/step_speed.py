"""Images a second in training of each CIFAR-10 network, and what makes it that many.

    python -m experiments.step_speed --models resnet2 fast

For each network a whole training step is timed on one device with `models.conv.Conv`, with flax's
plain `nn.Conv` instead, and on several devices, which a CPU plays: each in a process of its own,
turn by turn, since a shared machine's speed drifts: trust the ratios. The result is printed and
written to runs/step_speed/<name>/result.json.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from experiments import (
    cifar_cnn,
    cifar_inception,
    cifar_resnet,
    command_line,
    config_checks,
    device_config,
    measuring,
    one_batch,
)
from experiments.provenance import provenance
from experiments.run_directory import RunDirectory
from jaxlessons import devices, training
from jaxlessons.data import augment, cifar10
from jaxlessons.errors import UserError
from jaxlessons.models import conv
from jaxlessons.training import Examples, Place

NETWORKS = {**cifar_cnn.NETWORKS, **cifar_resnet.NETWORKS, **cifar_inception.NETWORKS}


@dataclass(frozen=True)
class Config:
    """Time training steps."""

    models: tuple[str, ...] = ("simple", "conv2", "bn", "deep_bn", "resnet", "resnet2", "fast")
    """Names of networks, as in cifar_cnn, cifar_resnet and cifar_inception."""
    batch_size: int = 256
    """Images a step."""
    rounds: int = 5
    """Turns; the median counts."""
    steps: int = 3
    """Steps a turn."""
    devices: int = field(default_factory=device_config.cores)
    """How many there are where there are several; by default one a core."""
    runs_dir: Path = Path("runs")
    """Where run folders go."""


def prepare(_key: jax.Array, batch: Examples, _place: Place) -> Examples:
    """Bytes to what a network takes, as in a run's step."""
    return batch._replace(inputs=augment.normalize(batch.inputs, cifar10.MEAN, cifar10.STD))


def stepper(
    name: str, batch_size: int, steps: int, count: int = 1, plain: bool = False
) -> Callable[[], None]:
    """A function that takes some training steps of a network, to be made in a process of its own.

    count: of devices. plain: with lax's convolution alone.
    """
    device_config.start(count, None, None, None)
    layout = devices.layout(count)
    images = np.zeros((batch_size, 32, 32, 3), np.uint8)
    model, optimizer = NETWORKS[name](), optax.sgd(0.01, momentum=0.9)
    train_step = training.make_train_step(model.apply, optimizer, augment=prepare, layout=layout)
    once = one_batch.repeated(train_step, images, np.arange(batch_size) % 10, layout)
    # Which convolution it is gets decided while the step is traced, that is at its first call.
    patch = mock.patch.object(conv, "_is_plain", return_value=False)
    with patch if plain else contextlib.nullcontext():
        first = jnp.zeros((1, *images.shape[1:]))
        state = training.create_state(model, optimizer, jax.random.key(0), first)
        states = [once(layout.place(state))[0]]

    def take() -> None:
        for _ in range(steps):
            states[0], sums = once(states[0])
            jax.block_until_ready(sums)

    return take


def compare(name: str, config: Config) -> dict[str, Any]:
    """One network's images a second in each way, and the ratios."""
    ways: dict[str, dict[str, Any]] = {"one": {}, "plain": {"plain": True}}
    if config.devices > 1:
        ways["several"] = {"count": config.devices}
    makes = {
        way: partial(
            measuring.keeping_memory,
            partial(stepper, name, config.batch_size, config.steps, **words),
        )
        for way, words in ways.items()
    }
    with measuring.apart(makes) as calls:
        seconds = measuring.take_turns(calls, config.rounds, pause=0.1)
    speeds = {
        way: config.batch_size * config.steps / statistics.median(times)
        for way, times in seconds.items()
    }
    faster = measuring.ratio(seconds["one"], seconds["plain"])
    text = (
        f"{name:8} {speeds['one']:8,.0f} images/s, {faster.median:.2f} times as fast as nn.Conv's "
        f"{speeds['plain']:,.0f}"
    )
    found = {"model": name, "images_per_second": speeds, "times_plain_conv": faster}
    if config.devices > 1:
        gain = measuring.ratio(seconds["several"], seconds["one"])
        text += (
            f"; on {config.devices} devices {speeds['several']:,.0f}, {gain.median:.2f} times as "
            f"fast ({gain.low:.2f} to {gain.high:.2f})"
        )
        found["times_one_device"] = gain
    print(text, flush=True)
    return found


def main() -> None:
    """Times every network asked for."""
    config = tyro.cli(Config, prog="python -m experiments.step_speed", description=__doc__)
    for name in config.models:
        if name not in NETWORKS:
            raise UserError(f"--models has {name!r}: it must be of {', '.join(NETWORKS)}.")
    for name in ("batch_size", "rounds", "steps", "devices"):
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
