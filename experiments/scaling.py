"""What training on many devices costs: bytes between them a step, counted, and what that means.

    python -m experiments.scaling                 # eight simulated CPU devices

The step of each workload is compiled for the devices and its collectives are read from the
program; nothing is run. The times for more devices are on paper: after a step's computation the
bytes go around a ring, and each collective waits for 2 log2(n) messages, as along a tree; nothing
is overlapped, and each device keeps its batch (weak scaling).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from experiments import command_line, config_checks, device_config
from jaxlessons import collectives, devices, optim, sequence_training, training
from jaxlessons.collectives import Traffic
from jaxlessons.data import augment, windows
from jaxlessons.devices import Layout
from jaxlessons.models.char import StatefulCharRNN
from jaxlessons.models.resnet import Resnet2
from jaxlessons.schedules import Phase
from jaxlessons.training import Examples, Place

SIZES = (8, 64, 512)
HEAD = "| step | parameters | a device computes | collectives | bytes a step |"
PAPER = " {n} devices: ms, share of time |"


@dataclass(frozen=True)
class Config:
    """Count what a training step sends between devices."""

    devices: int = 8
    """Devices to compile for; a CPU plays as many."""
    shard_optimizer: bool = False
    """Share the optimizer's state out among them."""
    batch_size: int = 256
    """Images, or streams of text, of each device."""
    tflops: float = 100.0
    """On paper: what a device computes, in 10^12 operations a second."""
    bandwidth: float = 50.0
    """On paper: gigabytes a second that leave each device."""
    latency: float = 5.0
    """On paper: microseconds a message."""


class Counted(NamedTuple):
    """A compiled step. flops: of one device."""

    name: str
    parameters: int
    flops: float
    traffic: dict[str, Traffic]


def resnet2(layout: Layout, batch_size: int) -> Counted:
    """The lesson's network on 32 x 32 images: SGD with momentum, flips and crops."""
    module = Resnet2(num_classes=10)
    optimizer = optim.phased_optimizer([Phase(1, 0.1)], 10)
    prepare = partial(augment.normalize, mean=(0.5,) * 3, std=(0.25,) * 3)

    def change(key: jax.Array, batch: Examples, place: Place) -> Examples:
        flip, crop = jax.random.split(key)
        inputs = augment.random_crop(crop, augment.random_flip(flip, batch.inputs), pad=4)
        return batch._replace(inputs=prepare(inputs))

    total = batch_size * layout.count
    images, labels = np.zeros((1, 32, 32, 3), np.uint8), np.zeros(1, np.int32)
    rows = np.zeros((1, total), np.int32)
    taken = (layout.take_steps(array, rows)[0] for array in (images, labels))
    step = training.make_train_step(module.apply, optimizer, augment=change, layout=layout)
    raw = prepare(jnp.zeros((2, 32, 32, 3)))
    state = training.create_state(module, optimizer, jax.random.key(0), raw)
    place: Any = Place(rows, np.zeros(1, np.int32))  # type: ignore[arg-type]
    return _counted(
        f"Resnet2, {batch_size} images a device", step, state, Examples(*taken), place, layout
    )


def lstm(layout: Layout, batch_size: int) -> Counted:
    """The lesson's language model: 2 x 512 units, 8 characters a step, Adam."""
    model = StatefulCharRNN(56, features=512, layers=2, dropout=0.5)
    optimizer = optim.phased_optimizer([Phase(1, 1e-3, optimizer="adam")], 10)
    gather = partial(windows.gather, width=8)
    step = sequence_training.make_train_step(model.apply, optimizer, gather, layout=layout)
    total = batch_size * layout.count
    state = sequence_training.create_state(model, optimizer, jax.random.key(0), total)
    tokens = layout.replicate(np.zeros(total * 16 + 1, np.int32))
    window = jax.tree.map(np.asarray, windows.streams(len(tokens), total, 8))
    name = f"LSTM 2 x 512, {batch_size} streams of 8 a device"
    return _counted(name, step, state, tokens, window, layout)


def _counted(name: str, step: Any, state: Any, data: Any, inputs: Any, layout: Layout) -> Counted:
    first = jax.tree.map(lambda leaf: leaf[:1], inputs)
    own = jax.tree.map(lambda leaf: leaf[0], layout.share_steps(first))
    compiled = step.lower(layout.place(state), data, own).compile()
    parameters = optax.tree.size(state.params)
    flops = float(compiled.cost_analysis()["flops"])
    return Counted(name, parameters, flops, collectives.traffic(compiled))


WORKLOADS: tuple[Callable[[Layout, int], Counted], ...] = (resnet2, lstm)


def row(counted: Counted, config: Config) -> str:
    """A line of the table."""
    operations = ", ".join(f"{t.operations} {kind}" for kind, t in counted.traffic.items())
    size = sum(t.bytes for t in counted.traffic.values())
    messages = sum(t.operations for t in counted.traffic.values())
    cells = [
        counted.name,
        f"{counted.parameters:,}",
        f"{counted.flops / 1e9:.1f} GFLOP",
        operations,
        f"{size / 1e6:.2f} MB",
    ]
    compute = counted.flops / (config.tflops * 1e12)
    for n in SIZES:
        ring = collectives.ring_seconds(size, n, config.bandwidth * 1e9)
        ring += messages * config.latency * 1e-6 * 2 * float(np.log2(n))
        cells.append(f"{1e3 * ring:.2f}, {ring / (ring + compute):.0%}")
    return "| " + " | ".join(cells) + " |"


def table(rows: list[str]) -> str:
    """The rows under their head."""
    head = HEAD + "".join(PAPER.format(n=n) for n in SIZES)
    return "\n".join([head, "|" + "---|" * (head.count("|") - 1), *rows])


def main() -> None:
    """Parses the command line, compiles and counts."""
    config = tyro.cli(Config, prog="python -m experiments.scaling", description=__doc__)
    config_checks.above_zero(config, ("batch_size", "tflops", "bandwidth"))
    device_config.start(config.devices, None, None, None)
    layout = devices.layout(config.devices, config.shard_optimizer)
    print(table([row(make(layout, config.batch_size), config) for make in WORKLOADS]))


if __name__ == "__main__":
    command_line.run(main)
