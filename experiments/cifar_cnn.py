"""The first five rungs of the CIFAR-10 ladder: one hidden layer, convolutions, batch norm.

    python -m experiments.cifar_cnn --model simple --preset lesson
    python -m experiments.cifar_cnn --model bn

The lesson (fast.ai 2018, lesson 7) reached 46.9 % (simple), 59.9 % (conv), 68.1 % (bn) and, in 4
epochs, 64.6 % (deep_bn). On a CPU the default preset is `quick`, a minute or two a rung and 5 for
deep_bn; `--preset lesson` takes seconds for simple, a few minutes for conv, conv2 and bn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from experiments import cifar, cifar_config, command_line
from jaxlessons.models import convnet
from jaxlessons.schedules import Phase, sgdr

NETWORKS: dict[str, Any] = {
    "simple": convnet.SimpleNet,
    "conv": convnet.ConvNet,
    "conv2": convnet.ConvNet2,
    "bn": convnet.ConvBnNet,
    "deep_bn": convnet.ConvBnNet2,
}

# The lesson's fits: fit(lr, 2), then cycles of one epoch from the second rate down to 0.
LESSONS: dict[str, list[Phase]] = {
    "simple": [Phase(2, 1e-2), *sgdr(1e-2, 2, optimizer="sgd")],
    "conv": [Phase(2, 1e-1), *sgdr(1e-1, 4, optimizer="sgd")],
    "conv2": [Phase(2, 1e-1), *sgdr(1e-1, 2, optimizer="sgd")],
    "bn": [Phase(2, 3e-2), *sgdr(1e-1, 4, optimizer="sgd")],
    "deep_bn": [Phase(2, 1e-2), *sgdr(1e-2, 2, optimizer="sgd")],
}

QUICK_LR = {"simple": 0.02, "conv": 0.1, "conv2": 0.1, "bn": 0.3, "deep_bn": 0.3}


@dataclass(frozen=True)
class Config(cifar_config.Config):
    """Train one of the first five CIFAR-10 networks."""

    model: Literal["simple", "conv", "conv2", "bn", "deep_bn"] = "bn"


def defaults(model: str | None, preset: str | None) -> Config:
    """The config of a model and a preset; on a CPU the preset is `quick` unless named."""
    chosen: Any = model if model in NETWORKS else "bn"
    lesson = cifar_config.lesson(Config(model=chosen), LESSONS[chosen])
    if cifar_config.choose(preset) == "lesson":
        return lesson
    return cifar_config.quick(lesson, epochs=3.0, lr=QUICK_LR[chosen])


def main() -> None:
    """Parses the command line and trains."""
    config = command_line.parse("cifar_cnn", defaults, __doc__, parallel=True, fit=cifar_config.fit)
    cifar.train(config, "cifar_cnn", NETWORKS, LESSONS)


if __name__ == "__main__":
    command_line.run(main)
