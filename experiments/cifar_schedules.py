"""The same network and budget under each schedule of lesson 13, on CIFAR-10, over several seeds.

    python -m experiments.cifar_schedules

Beside the lesson's stand a constant rate, `flat_cosine`, `cyclical` and a 1cycle without Adam. All
have the same highest rate; it was not chosen for each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from experiments import command_line, comparison, lr_schedules
from experiments.comparison import Variant
from jaxlessons.models.resnet import SmallResnet
from jaxlessons.schedules import Phase, cyclical, flat_cosine, one_cycle


@dataclass(frozen=True)
class Config(comparison.Config):
    """Compare schedules."""


def variants(config: Config) -> dict[str, Variant]:
    """Each schedule as phases of Nesterov's SGD, with the trials' weight decay."""
    trial = comparison.trial_config(config)
    same: dict[str, Any] = {"optimizer": trial.optimizer}
    named = {
        "constant": [Phase(config.epochs, config.lr, **same)],
        **lr_schedules.schedules(config.lr, config.epochs, optimizer=trial.optimizer),
        "flat_cosine": flat_cosine(config.lr, config.epochs, **same),
        "cyclical": cyclical(config.lr, 2, config.epochs / 2, **same),
        "1cycle": one_cycle(config.lr, config.epochs, **same),
    }
    decay = partial(comparison.with_weight_decay, decay=trial.weight_decay)
    return {
        name: Variant(trial, SmallResnet(), [decay(p) for p in phases])
        for name, phases in named.items()
    }


def main() -> None:
    """Trains every variant with every seed, then the table and the figure."""
    comparison.main("cifar_schedules", Config, variants, __doc__)


if __name__ == "__main__":
    command_line.run(main)
