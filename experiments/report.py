"""The end of a CIFAR run: the test images, looked at once, the figures and result.json."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments import bias, cifar_config
from experiments.cifar_config import Config
from experiments.cifar_setup import Setup, averaged_variables, evaluate_splits
from experiments.image_journal import ImageJournal
from experiments.run_directory import RunDirectory
from experiments.splits import Splits
from jaxlessons import checkpoint, devices, metrics, plotting, schedules, training, tta
from jaxlessons.data import augment
from jaxlessons.errors import UserError
from jaxlessons.training import TrainState

SHOWN = 32  # images in predictions.png


def finish(journal: ImageJournal, setup: Setup, state: TrainState, config: Config) -> None:
    """Evaluates the network, and what --swa-start, --ema, --snapshots and --tta make of it."""
    run, images, splits = journal.run, journal.images, journal.splits
    test, logits = training.evaluate(setup.eval_step, state.variables, splits.test)
    probabilities = np.asarray(jax.nn.softmax(logits))
    extras = {
        "averaged": evaluate_average(run, setup, state, splits),
        "snapshots": evaluate_snapshots(run, setup, state, config, splits),
        "tta": evaluate_tta(setup, state, config, splits),
    }
    if not devices.is_main():
        return
    records = run.metrics()
    shares = bias.measure(probabilities, images.test_labels, images.classes)
    found: dict[str, Any] = {
        "data_source": images.source,
        "test_examples": len(images.test_labels),
        "test_accuracy": test["accuracy"],
        "test_loss": test["loss"],
        "validation_accuracy": records[-1].get("validation_accuracy") if records else None,
        **shares,
        **extras,
    }
    title = f"{config.model} on {images.name}"
    figures = draw(
        journal, records, probabilities, f"{title}, test accuracy {test['accuracy']:.1%}"
    )
    for name, figure in figures.items():
        plotting.save_figure(figure, run.path / name)
    # Last: a run with a result is finished, and one that is stopped before draws once more.
    journal.write_result(state, found, config)
    print(
        f"{title}: test accuracy {test['accuracy']:.2%}, loss {test['loss']:.4f}, over "
        f"{found['test_examples']:,} images. Everything is in {run.path}."
    )
    print(bias.table(shares))
    for name in ("averaged", "snapshots", "tta"):
        if found[name] is not None:
            print(_line(name, found[name]))


def draw(
    journal: ImageJournal, records: list[dict[str, Any]], probabilities: np.ndarray, title: str
) -> dict[str, Any]:
    """The figures by the names of their files."""
    images, labels = journal.images.test_images, journal.images.test_labels
    classes, shown = journal.images.classes, slice(0, SHOWN)
    guesses = np.argmax(probabilities, axis=-1)
    matrix = metrics.confusion_matrix(guesses, labels, len(classes))
    return {
        "curves.png": plotting.plot_curves(records, journal.rates, journal.per_epoch, title),
        "predictions.png": plotting.plot_predictions(
            images[shown], labels[shown], probabilities[shown], classes, title
        ),
        "confusion.png": plotting.plot_confusion(matrix, classes, title),
        "reliability.png": bias.draw(probabilities, labels, title),
    }


def evaluate_average(
    run: RunDirectory, setup: Setup, state: TrainState, splits: Splits
) -> dict[str, Any] | None:
    """The averaged network, saved with batch statistics of its own in averaged/."""
    variables = averaged_variables(setup, state, splits.train.inputs)
    if variables is None or state.average is None:
        return None
    checkpoint.save(run.averaged, variables, step=int(state.step))
    networks = {"networks": int(state.average.count)}
    return networks | evaluate_splits(setup, variables, splits)


def snapshot_steps(config: Config, setup: Setup) -> list[int]:
    """The steps at which --snapshots wants the network kept; UserError when cycles are too few."""
    if not config.snapshots:
        return []
    ends = [min(e, setup.total_steps) for e in schedules.cycle_ends(setup.phases, setup.per_epoch)]
    if len(ends) < config.snapshots:
        raise UserError(
            f"--snapshots is {config.snapshots}: the schedule {config.schedule} of {config.model} "
            f"has {len(ends)} cycles, take as many at most."
        )
    return ends[-config.snapshots :]


def evaluate_snapshots(
    run: RunDirectory, setup: Setup, state: TrainState, config: Config, splits: Splits
) -> dict[str, Any] | None:
    """The ensemble of the networks kept in snapshots/."""
    steps = snapshot_steps(config, setup)
    if not steps:
        return None
    members = []
    for step in steps:
        variables = checkpoint.restore(run.snapshots, state.variables, step)
        _, logits = training.evaluate(setup.eval_step, variables, splits.test)
        members.append(np.asarray(jax.nn.softmax(logits)))
    return {"networks": len(steps)} | _scores(tta.ensemble(members), splits)


def evaluate_tta(
    setup: Setup, state: TrainState, config: Config, splits: Splits
) -> dict[str, Any] | None:
    """The mean prediction over the plain test images and augmented ones."""
    change, views = tta_views(config)
    if not views:
        return None
    probabilities = tta.predict(
        setup.eval_step,
        state.variables,
        splits.test.inputs,
        jax.random.fold_in(state.key, 0x77A),
        augment=change,
        views=views,
    )
    return {"views": views} | _scores(probabilities, splits)


def tta_views(config: Config) -> tuple[Callable[[jax.Array, jax.Array], jax.Array], int]:
    """The views that fit how the network was trained: random flips and crops, or the mirror image.

    Without crops there is one other view only, so one is taken; without flips too there is none.
    """
    flips = any(name in cifar_config.FLIPS for name in config.augment)
    if "crop" not in config.augment:
        return (lambda key, images: images[:, :, ::-1]), min(config.tta, 1) if flips else 0

    def flip_and_crop(key: jax.Array, images: jax.Array) -> jax.Array:
        flip_key, crop_key = jax.random.split(key)
        images = augment.random_flip(flip_key, images) if flips else images
        return augment.random_crop(crop_key, images, pad=4)

    return flip_and_crop, config.tta


def _scores(probabilities: np.ndarray, splits: Splits) -> dict[str, float]:
    labels = np.asarray(splits.test.labels)
    return {
        "test_accuracy": metrics.accuracy(probabilities, labels),
        "test_loss": metrics.log_loss(probabilities, labels),
    }


def _line(name: str, found: dict[str, Any]) -> str:
    what = {
        "averaged": "averaged over {networks} sets of parameters",
        "snapshots": "an ensemble of {networks} snapshots",
        "tta": "averaged over the image and {views} augmented",
    }[name].format(**found)
    return f"{what}: test accuracy {found['test_accuracy']:.2%}, log loss {found['test_loss']:.4f}"
