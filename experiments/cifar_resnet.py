"""The top of the CIFAR-10 ladder: the lesson's two residual networks, and one for a CPU.

    python -m experiments.cifar_resnet                    # on a CPU: quick, 3 epochs of fast
    python -m experiments.cifar_resnet --preset lesson    # 41 epochs of resnet2

The lesson (fast.ai 2018, lesson 7) reached 82.2 % with resnet and 84.9 % with resnet2, the
latter averaged over augmented copies of the test images. `fast` is not the lesson's: in the time
that resnet2 takes for one epoch on a CPU, it has done three and knows more (see the README).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from experiments import cifar, cifar_config, command_line
from jaxlessons.models import resnet
from jaxlessons.schedules import Phase, sgdr

NETWORKS: dict[str, Any] = {
    "resnet": resnet.Resnet,
    "resnet2": resnet.Resnet2,
    "fast": resnet.FastResnet,
    "small": resnet.SmallResnet,
}

# fit(1e-2, 2), then cycles of 1, 2 and 4 epochs, then eight cycles of 4: 41 epochs.
LESSON = [
    Phase(2, 1e-2),
    *sgdr(1e-2, 3, cycle_length=1, cycle_mult=2, optimizer="sgd"),
    *sgdr(1e-2, 8, cycle_length=4, optimizer="sgd"),
]
LESSONS = dict.fromkeys(NETWORKS, LESSON)
WEIGHT_DECAY = {"resnet": 1e-5, "resnet2": 1e-6, "fast": 1e-6, "small": 1e-6}
DROPOUT = {"resnet": 0.0, "resnet2": 0.2, "fast": 0.0, "small": 0.0}


@dataclass(frozen=True)
class Config(cifar_config.Config):
    """Train one of the residual CIFAR-10 networks."""

    model: Literal["resnet", "resnet2", "fast", "small"] = "resnet2"
    tta: int = 4


def defaults(model: str | None, preset: str | None) -> Config:
    """The config of a model and a preset; on a CPU the preset is `quick` unless named."""
    preset = cifar_config.choose(preset)
    usual = "resnet2" if preset == "lesson" else "fast"
    chosen: Any = model if model in NETWORKS else usual
    config = Config(model=chosen, weight_decay=WEIGHT_DECAY[chosen], dropout=DROPOUT[chosen])
    config = cifar_config.lesson(config, LESSON)
    if preset == "lesson":
        return config
    # So short a training gains from small batches, and has no use for many different crops.
    short = {"epochs": 3.0, "lr": 0.05, "batch_size": 64, "dropout": 0.0, "augment": ("flip",)}
    return cifar_config.quick(config, **short)


def main() -> None:
    """Parses the command line and trains."""
    config = command_line.parse("cifar_resnet", defaults, __doc__, parallel=True)
    cifar.train(config, "cifar_resnet", NETWORKS, LESSONS)


if __name__ == "__main__":
    command_line.run(main)
