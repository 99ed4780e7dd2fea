"""What --lr-find does: a sweep of the learning rate, what it suggests, and its picture."""

from __future__ import annotations

from functools import partial
from typing import Any

import optax

from experiments import cifar_config
from experiments.cifar_config import Config
from experiments.cifar_setup import Setup
from experiments.run_directory import RunDirectory
from experiments.splits import Splits
from jaxlessons import devices, lr_find, optimizers, plotting
from jaxlessons.data.cifar10 import ImageSet
from jaxlessons.training import TrainState


def optimizer_at(config: Config, lr: Any) -> optax.GradientTransformation:
    """The optimizer that the run has at the rate `lr`, which may be traced."""
    factory = optimizers.OPTIMIZERS[config.optimizer]
    beta2 = optimizers.default_beta2(factory)
    # The run's order: the clipped gradient, then the decay that goes with it, then the step.
    before: list[optax.GradientTransformation] = []
    beside = config.weight_decay
    if config.clip_norm is not None:
        before.append(optax.clip_by_global_norm(config.clip_norm))
    if not cifar_config.is_decoupled(config):
        before.append(optax.add_decayed_weights(config.weight_decay))
        beside = 0.0
    return optax.chain(*before, optimizers.make(factory, lr, config.momentum, beta2, beside))


def find(
    config: Config,
    experiment: str,
    setup: Setup,
    state: TrainState,
    splits: Splits,
    images: ImageSet,
) -> None:
    """Sweeps the rate with the run's optimizer, batch size and augmentation."""
    sweep = lr_find.lr_find(
        state,
        splits.train,
        setup.module.apply,
        optimizer=partial(optimizer_at, config),
        batch_size=config.batch_size,
        loss=cifar_config.loss(config),
        augment=cifar_config.make_augment(config, images),
        layout=setup.layout,
    )
    if not devices.is_main():
        return
    run = RunDirectory.new(config.runs_dir, experiment, config.name, f"{config.model}-lr-find")
    title = f"{config.model} on {images.name}, {config.optimizer}, batch size {config.batch_size}"
    picture = run.path / "lr_find.png"
    plotting.save_figure(plotting.plot_lr_find(sweep, title), picture)
    print(f"{sweep.describe()} The curve is in {picture}.")
