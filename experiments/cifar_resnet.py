"""The top of the CIFAR-10 ladder: the lesson's two residual networks, one for a CPU, and others.

    python -m experiments.cifar_resnet                    # on a CPU: quick, 3 epochs of fast
    python -m experiments.cifar_resnet --preset lesson    # 41 epochs of resnet2
    python -m experiments.cifar_resnet --model preact     # tutorial, basic, bottleneck, ...
    python -m experiments.cifar_resnet --model tutorial --dataset mnist

The lesson (fast.ai 2018, lesson 7) reached 82.2 % with resnet and 84.9 % with resnet2, the
latter averaged over augmented copies of the test images. `fast` is not the lesson's: three epochs
of it take a CPU little longer than one of resnet2, and it then knows more (see the README).
basic, bottleneck, preact and preact_bottleneck are He et al.'s blocks in a network of 20 layers, or
29 with bottlenecks; tutorial is PyTorch zero to all's network of lesson 10.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from experiments import cifar, cifar_config, command_line
from jaxlessons.models import residual, resnet
from jaxlessons.schedules import Phase, sgdr

NETWORKS: dict[str, Any] = {
    "resnet": resnet.Resnet,
    "resnet2": resnet.Resnet2,
    "fast": resnet.FastResnet,
    "small": resnet.SmallResnet,
    "tutorial": residual.TutorialResidualNet,
    "basic": residual.BlockResnet,
    "preact": residual.PreactResnet,
    "bottleneck": residual.BottleneckResnet,
    "preact_bottleneck": residual.PreactBottleneckResnet,
}

# fit(1e-2, 2), then cycles of 1, 2 and 4 epochs, then eight cycles of 4: 41 epochs.
LESSON = [
    Phase(2, 1e-2),
    *sgdr(1e-2, 3, cycle_length=1, cycle_mult=2, optimizer="sgd"),
    *sgdr(1e-2, 8, cycle_length=4, optimizer="sgd"),
]
# The tutorial's 9 epochs: no decay of the rate, no augmentation, batches of 64, half the momentum.
TUTORIAL = [Phase(9, 1e-2)]
TUTORIAL_SETTINGS: dict[str, Any] = {"momentum": 0.5, "batch_size": 64, "augment": (), "tta": 0}
LESSONS = dict.fromkeys(NETWORKS, LESSON) | {"tutorial": TUTORIAL}
WEIGHT_DECAY = {"resnet": 1e-5, "tutorial": 0.0}  # 1e-6 in all others
DROPOUT = {"resnet2": 0.2}
BLOCKS = {"basic": "before", "bottleneck": "before", "preact": "pre", "preact_bottleneck": "pre"}


@dataclass(frozen=True)
class Config(cifar_config.Config):
    """Train one of the residual CIFAR-10 networks."""

    model: Literal[
        "resnet",
        "resnet2",
        "fast",
        "small",
        "tutorial",
        "basic",
        "preact",
        "bottleneck",
        "preact_bottleneck",
    ] = "resnet2"
    tta: int = 4


def defaults(model: str | None, preset: str | None) -> Config:
    """The config of a model and a preset; on a CPU the preset is `quick` unless named."""
    preset = cifar_config.choose(preset)
    usual = "resnet2" if preset == "lesson" else "fast"
    chosen: Any = model if model in NETWORKS else usual
    settings: dict[str, Any] = {
        "weight_decay": WEIGHT_DECAY.get(chosen, 1e-6),
        "dropout": DROPOUT.get(chosen, 0.0),
        "norm": BLOCKS.get(chosen, "after"),
    }
    config = cifar_config.lesson(Config(model=chosen, **settings), LESSONS[chosen])
    if preset == "lesson":
        own = TUTORIAL_SETTINGS if chosen == "tutorial" else {}
        return dataclasses.replace(config, **own)
    # So short a training gains from small batches, and has no use for many different crops.
    short = {"epochs": 3.0, "lr": 0.05, "batch_size": 64, "dropout": 0.0, "augment": ("flip",)}
    if chosen == "tutorial":  # without batch norm it doesn't stand so high a rate
        short["lr"] = 0.01
    return cifar_config.quick(config, **short)


def main() -> None:
    """Parses the command line and trains."""
    config = command_line.parse(
        "cifar_resnet", defaults, __doc__, parallel=True, fit=cifar_config.fit
    )
    cifar.train(config, "cifar_resnet", NETWORKS, LESSONS)


if __name__ == "__main__":
    command_line.run(main)
