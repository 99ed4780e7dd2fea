"""What --lr-find does: a sweep of the learning rate, what it suggests, and its picture."""

from __future__ import annotations

import jax
import optax

from experiments import cifar_config
from experiments.cifar_config import Config
from experiments.cifar_setup import Setup
from experiments.run_directory import RunDirectory
from experiments.splits import Splits
from jaxlessons import lr_find, optimizers, plotting
from jaxlessons.data.cifar10 import ImageSet
from jaxlessons.training import TrainState


def find(
    config: Config,
    experiment: str,
    setup: Setup,
    state: TrainState,
    splits: Splits,
    images: ImageSet,
) -> None:
    """Sweeps the rate with the config's optimizer, batch size and augmentation."""
    factory = optimizers.OPTIMIZERS[config.optimizer]
    beta2 = optimizers.default_beta2(factory)

    def optimizer(lr: jax.Array) -> optax.GradientTransformation:
        return optimizers.make(factory, lr, config.momentum, beta2, config.weight_decay)

    sweep = lr_find.lr_find(
        state,
        splits.train,
        setup.module.apply,
        optimizer=optimizer,
        batch_size=config.batch_size,
        loss=cifar_config.loss(config),
        augment=cifar_config.make_augment(config, images),
    )
    run = RunDirectory.new(config.runs_dir, experiment, config.name, f"{config.model}-lr-find")
    title = f"{config.model} on {images.name}, {config.optimizer}, batch size {config.batch_size}"
    picture = run.path / "lr_find.png"
    plotting.save_figure(plotting.plot_lr_find(sweep, title), picture)
    print(f"{sweep.describe()} The curve is in {picture}.")
