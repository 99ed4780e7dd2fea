"""What a CIFAR-10 config becomes before it is trained: network, phases, jitted steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import optax

from experiments import cifar_config
from experiments.cifar_config import Config
from experiments.splits import Splits
from jaxlessons import averaging, optim, training
from jaxlessons.averaging import Averager
from jaxlessons.data import augment
from jaxlessons.data.cifar10 import ImageSet
from jaxlessons.devices import SINGLE, Layout
from jaxlessons.schedules import Phase
from jaxlessons.training import EvalStep, TrainState, TrainStep


class Setup(NamedTuple):
    """All that training needs but the state. prepare: raw images -> the network's."""

    module: Any
    phases: Sequence[Phase]
    per_epoch: int
    total_steps: int
    optimizer: optax.GradientTransformation
    averager: Averager | None
    train_step: TrainStep
    eval_step: EvalStep
    prepare: Callable[[jax.Array], jax.Array]
    layout: Layout = SINGLE

    def create_state(self, seed: int, images: jax.Array) -> TrainState:
        """A fresh state; images: two or so, raw."""
        key, inputs = jax.random.key(seed), self.prepare(images)
        state = training.create_state(self.module, self.optimizer, key, inputs, self.averager)
        return self.layout.place(state)


def set_up(
    config: Config,
    module: Any,
    phases: Sequence[Phase],
    images: ImageSet,
    splits: Splits,
    layout: Layout = SINGLE,
) -> Setup:
    """The steps that train `module` through `phases` with the config's other settings.

    layout: the devices that `splits` are on.
    """
    layout.check_batch(config.batch_size)
    per_epoch = training.steps_per_epoch(len(splits.train.labels), config.batch_size)
    # The phases, each rounded to whole steps, may add up to a few more or less.
    total_steps = max(1, round(config.epochs * per_epoch))
    optimizer = optim.phased_optimizer(phases, per_epoch, clip_norm=config.clip_norm)
    averager = make_averager(config, per_epoch)
    prepare = partial(augment.normalize, mean=images.mean, std=images.std)
    train_step = training.make_train_step(
        module.apply,
        optimizer,
        loss=cifar_config.loss(config),
        augment=cifar_config.make_augment(config, images),
        averager=averager,
        layout=layout,
    )
    eval_step = training.make_eval_step(module.apply, prepare=prepare, layout=layout)
    return Setup(
        module,
        phases,
        per_epoch,
        total_steps,
        optimizer,
        averager,
        train_step,
        eval_step,
        prepare,
        layout,
    )


def make_averager(config: Config, per_epoch: int) -> Averager | None:
    """The average that --swa-start or --ema asks for."""
    if config.ema is not None:
        return averaging.ema(config.ema)
    if config.swa_start is None:
        return None
    every = max(1, round(config.swa_every * per_epoch))
    return averaging.swa(round(config.swa_start * per_epoch), every)


def evaluate_splits(setup: Setup, variables: Mapping[str, Any], splits: Splits) -> dict[str, float]:
    """validation_accuracy and validation_loss, where images were kept back, and those of test."""
    found: dict[str, float] = {}
    for name, split in (("validation", splits.validation), ("test", splits.test)):
        if split is not None:
            means, _ = training.evaluate(setup.eval_step, variables, split)
            found |= {f"{name}_accuracy": means["accuracy"], f"{name}_loss": means["loss"]}
    return found


def averaged_variables(
    setup: Setup, state: TrainState, train_images: jax.Array
) -> dict[str, Any] | None:
    """The averaged network with batch statistics of its own; None when nothing was averaged."""
    if state.average is None or int(state.average.count) == 0:
        return None
    variables = {"params": state.average.params, "batch_stats": state.batch_stats}
    batch_stats = averaging.recalibrate_batch_stats(
        setup.module.apply, variables, train_images, prepare=setup.prepare
    )
    return {"params": state.average.params, "batch_stats": batch_stats}
