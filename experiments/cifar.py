"""Trains one rung of the CIFAR-10 ladder, from the data to the figures of a finished run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from experiments import (
    cifar_config,
    cifar_lr_find,
    cifar_setup,
    device_config,
    image_data,
    report,
)
from experiments.cifar_config import Config
from experiments.image_journal import ImageJournal
from experiments.run_directory import RunDirectory
from experiments.splits import split
from jaxlessons import checkpoint, summary, training
from jaxlessons.data import cifar10
from jaxlessons.devices import Layout
from jaxlessons.schedules import Phase


def train(
    config: Config,
    experiment: str,
    networks: Mapping[str, Any],
    lessons: Mapping[str, Sequence[Phase]],
) -> None:
    """The whole run. networks, lessons: by --model, the module's class and the lesson's phases."""
    started = time.perf_counter()
    cifar_config.check(config)
    if config.summary:
        shape = image_data.SHAPES[config.dataset]
        print_summary(cifar_config.network(config, networks, len(cifar10.CLASSES)), shape)
        return

    images = image_data.load(config.dataset, config.data_dir)
    print(f"Data: {images.name} ({images.source}).")
    if config.preset == "quick":
        lesson = _lesson(config, experiment)
        print(f"Preset quick: {config.epochs:g} epochs of {config.model}; the lesson's: {lesson}")
    layout = _layout(config)
    splits = split(images, config.validation, layout)
    module = cifar_config.network(config, networks, len(images.classes))
    phases = cifar_config.phases(config, lessons[config.model])
    setup = cifar_setup.set_up(config, module, phases, images, splits, layout)
    state = setup.create_state(config.seed, splits.train.inputs[:2])
    if config.lr_find:
        cifar_lr_find.find(config, experiment, setup, state, splits, images)
        return

    ends = report.snapshot_steps(config, setup)
    default = f"{config.model}-{config.preset}"
    run = RunDirectory.open(config, experiment, images.name, default)
    if config.resume:
        run.write_config(config, images.name)
        if finished := run.result():
            print(f"{run.path} is finished: test accuracy {finished['test_accuracy']:.2%}.")
            return
        state = run.restore(state)

    journal = ImageJournal(experiment, run, images, splits, setup, config.keep)
    with journal.training(int(state.step), started) as stop:
        for end in [*ends, setup.total_steps]:
            state = training.fit(
                state,
                setup.train_step,
                splits.train,
                batch_size=config.batch_size,
                total_steps=end,
                on_steps=journal.on_steps,
                on_epoch=journal.on_epoch,
                should_stop=stop,
                layout=layout,
            )
            if int(state.step) == end and end in ends:
                checkpoint.save(run.snapshots, state.variables, step=end, keep=None)
            if stop():
                stop.leave(journal.stopped(state))
    report.finish(journal, setup, state, config)


def _lesson(config: Config, experiment: str) -> str:
    """The command that trains as the lesson did, which on a CPU takes most of an hour."""
    whole = "resnet2" if config.model == "fast" else config.model
    command = f"python -m experiments.{experiment} --model {whole} --preset lesson"
    dataset = "" if config.dataset == "cifar10" else f" --dataset {config.dataset}"
    return command + dataset


def _layout(config: Config) -> Layout:
    """The devices asked for, or those that are best for the network."""
    # The one without convolutions is done before several devices have begun.
    count = 1 if config.model == "simple" else device_config.usual(config.batch_size)
    layout = device_config.layout(config, count)
    if config.devices is None and layout.count > 1:
        print(
            f"This CPU plays {layout.count} devices, which share each batch: --devices 1 for one."
        )
    return layout


def print_summary(module: Any, shape: tuple[int, int, int]) -> None:
    """The layer table of --summary, for images of this height, width and channels."""
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    print(summary.format_table(summary.layer_table(module, image)))
