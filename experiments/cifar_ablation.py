"""What each part of a small residual network does: one part switched at a time, on CIFAR-10.

    python -m experiments.cifar_ablation

The base is SmallResnet as the lesson orders its layers, convolution -> ReLU -> batch norm, with
flips and weight decay. Every variant has the same budget in epochs and the same seeds; the
settings were chosen for none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from experiments import command_line, comparison
from experiments.comparison import Variant
from jaxlessons.models.resnet import SmallResnet
from jaxlessons.schedules import one_cycle


@dataclass(frozen=True)
class Config(comparison.Config):
    """Switch one part at a time."""


# name -> (fields of the network, settings of the training) that differ from the base.
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "base: conv, ReLU, batch norm": ({}, {}),
    "batch norm before the ReLU": ({"norm": "before"}, {}),
    "pre-activation": ({"norm": "pre"}, {}),
    "no batch norm": ({"norm": "none"}, {}),
    "no residual connections": ({"residual": False}, {}),
    "5x5 stem": ({"stem_size": 5}, {}),
    "7x7 stem": ({"stem_size": 7}, {}),
    "dropout 0.2": ({"dropout": 0.2}, {}),
    "no augmentation": ({}, {"augment": ()}),
    "flips and crops": ({}, {"augment": ("flip", "crop")}),
    "no weight decay": ({}, {"weight_decay": 0.0}),
}


def variants(config: Config) -> dict[str, Variant]:
    """The base and what differs from it, each trained with one cycle of Nesterov's SGD."""
    found = {}
    for name, (fields, settings) in CHANGES.items():
        trial = comparison.trial_config(config, **settings)
        phases = [
            comparison.with_weight_decay(phase, trial.weight_decay)
            for phase in one_cycle(
                config.lr, config.epochs, start_div=5, momentum=0.9, optimizer=trial.optimizer
            )
        ]
        found[name] = Variant(trial, SmallResnet(**fields), phases)
    return found


def main() -> None:
    """Trains every variant with every seed, then the table and the figure."""
    comparison.main("cifar_ablation", Config, variants, __doc__)


if __name__ == "__main__":
    command_line.run(main)
