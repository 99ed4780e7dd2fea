"""Trains one rung of the CIFAR-10 ladder, from the data to the figures of a finished run."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from experiments import cifar_config, command_line
from experiments.cifar_config import Config
from experiments.journal import Journal
from experiments.run_directory import RunDirectory
from experiments.splits import split
from jaxlessons import checkpoint, optim, summary, training
from jaxlessons.data import augment, cifar10
from jaxlessons.schedules import Phase
from jaxlessons.watch import NonFiniteError


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
        print_summary(cifar_config.network(config, networks, len(cifar10.CLASSES)))
        return

    images = cifar10.load(config.data_dir)
    print(f"Data: {images.name} ({images.source}).")
    if config.preset == "quick":
        whole = "resnet2" if config.model == "fast" else config.model
        lesson = f"python -m experiments.{experiment} --model {whole} --preset lesson"
        print(f"Preset quick: {config.epochs:g} epochs of {config.model}; the lesson's: {lesson}")
    splits = split(images, config.validation)
    normalize = partial(augment.normalize, mean=images.mean, std=images.std)

    module = cifar_config.network(config, networks, len(images.classes))
    phases = cifar_config.phases(config, lessons[config.model])
    per_epoch = training.steps_per_epoch(len(splits.train.labels), config.batch_size)
    # The phases, each rounded to whole steps, may add up to a few more or less.
    total_steps = max(1, round(config.epochs * per_epoch))
    optimizer = optim.phased_optimizer(phases, per_epoch, clip_norm=config.clip_norm)
    train_step = training.make_train_step(
        module.apply,
        optimizer,
        loss=cifar_config.loss(config),
        augment=cifar_config.make_augment(config, images),
    )
    eval_step = training.make_eval_step(module.apply, prepare=normalize)

    key = jax.random.key(config.seed)
    state = training.create_state(module, optimizer, key, normalize(splits.train.inputs[:2]))
    run = open_run(config, experiment, images.name)
    if config.resume:
        if finished := run.result():
            print(f"{run.path} is finished: test accuracy {finished['test_accuracy']:.2%}.")
            return
        if checkpoint.latest_step(run.checkpoints) is not None:
            state = checkpoint.restore(run.checkpoints, state)
        run.forget_metrics_after(int(state.step))

    journal = Journal(
        experiment, run, images, splits, eval_step, phases, per_epoch, total_steps, config.keep
    )
    stop = command_line.Stop()
    with stop.listening(), journal.progress(int(state.step), started):
        try:
            state = training.fit(
                state,
                train_step,
                splits.train,
                batch_size=config.batch_size,
                total_steps=total_steps,
                on_steps=journal.on_steps,
                on_epoch=journal.on_epoch,
                should_stop=stop,
            )
        except NonFiniteError as error:
            raise journal.after_nan(error) from error
        if stop():
            print(journal.stopped(state), file=sys.stderr)
            sys.exit(128 + stop.signal)
    journal.finish(state, config)


def open_run(config: Config, experiment: str, data: str) -> RunDirectory:
    """The run's folder: the old one with --resume, else a new one with its config.json."""
    if config.resume:
        run = RunDirectory.existing(config.runs_dir, experiment, config.name)
        run.check_data(data)
    else:
        default = f"{config.model}-{config.preset}"
        run = RunDirectory.new(config.runs_dir, experiment, config.name, default)
    run.write_config(dataclasses.replace(config, name=run.path.name), data)
    return run


def print_summary(module: Any) -> None:
    """The layer table of --summary."""
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    print(summary.format_table(summary.layer_table(module, image)))
