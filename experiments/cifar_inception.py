"""Networks of Inception modules on CIFAR-10, or on 28x28 grey images.

    python -m experiments.cifar_inception                 # on a CPU: quick, 3 epochs of inception
    python -m experiments.cifar_inception --dataset mnist    # what the tutorial trains it on
    python -m experiments.cifar_inception --model googlenet --preset lesson

inception is PyTorch zero to all's network of lesson 10, with its 9 epochs as its lesson; googlenet
and inception_resnet go through the 41 epochs of lesson 7's ResNets. `quick` gives these two a
quarter and a half of their channels, so that a CPU takes minutes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from experiments import cifar, cifar_config, cifar_resnet, command_line, config_checks
from jaxlessons.models import inception

NETWORKS: dict[str, Any] = {
    "inception": inception.TutorialInceptionNet,
    "googlenet": inception.GoogLeNet,
    "inception_resnet": inception.InceptionResnet,
}
LESSONS = {
    "inception": cifar_resnet.TUTORIAL,
    "googlenet": cifar_resnet.LESSON,
    "inception_resnet": cifar_resnet.LESSON,
}
# What they have of their own in the lesson's preset, and in the quick one.
WHOLE: dict[str, dict[str, Any]] = {
    "inception": cifar_resnet.TUTORIAL_SETTINGS,
    "googlenet": {"norm": "before", "weight_decay": 1e-4, "dropout": 0.4},
    "inception_resnet": {"norm": "before", "weight_decay": 1e-4, "dropout": 0.2},
}
SHORT: dict[str, dict[str, Any]] = {
    "inception": {"lr": 0.01},
    "googlenet": {"lr": 0.05, "norm": "before", "width": 0.25},
    "inception_resnet": {"lr": 0.05, "norm": "before", "width": 0.5},
}


@dataclass(frozen=True)
class Config(cifar_config.Config):
    """Train a network of Inception modules."""

    model: Literal["inception", "googlenet", "inception_resnet"] = "inception"
    width: float = 1.0
    """Share of its channels that googlenet or inception_resnet has."""


def defaults(model: str | None, preset: str | None) -> Config:
    """The config of a model and a preset; on a CPU the preset is `quick` unless named."""
    chosen: Any = model if model in NETWORKS else "inception"
    lesson = cifar_config.lesson(Config(model=chosen), LESSONS[chosen])
    if cifar_config.choose(preset) == "lesson":
        return dataclasses.replace(lesson, **WHOLE[chosen])
    short = {"epochs": 3.0, "batch_size": 64, "augment": ("flip",)}
    return cifar_config.quick(lesson, **short, **SHORT[chosen])


def main() -> None:
    """Parses the command line and trains."""
    config = command_line.parse(
        "cifar_inception", defaults, __doc__, parallel=True, fit=cifar_config.fit
    )
    config_checks.above_zero(config, ("width",))
    cifar.train(config, "cifar_inception", NETWORKS, LESSONS)


if __name__ == "__main__":
    command_line.run(main)
