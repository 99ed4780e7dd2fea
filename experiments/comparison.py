"""The same CIFAR-10 training with one thing changed at a time, over several seeds.

A trial is one variant trained with one seed. Every variant sees the same budget and the same seeds;
the validation images are there to choose by, the test images are looked at once a trial. Each
finished trial is a line of runs/<experiment>/<name>/metrics.jsonl, so that --resume goes on with
the others.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import tyro
from tqdm import tqdm

from experiments import cifar_config, cifar_setup, config_checks
from experiments.cifar_setup import Setup
from experiments.comparison_rows import Row, summarize, table
from experiments.run_directory import RunDirectory
from experiments.splits import Splits, split
from jaxlessons import plotting, training
from jaxlessons.data import cifar10
from jaxlessons.errors import UserError
from jaxlessons.schedules import Phase
from jaxlessons.training import TrainState
from jaxlessons.watch import NonFiniteError

Record = dict[str, Any]
C = TypeVar("C", bound="Config")


@dataclass(frozen=True)
class Config:
    """What all trials of a comparison share; each field is a flag."""

    epochs: float = 2.0
    """Length of each training."""
    lr: float = 0.05
    """The highest learning rate."""
    batch_size: int = 64
    """Images a step."""
    seeds: int = 3
    """Trials of each variant, with seeds 0, 1, ..."""
    variants: tuple[str, ...] = ()
    """Names of the variants to train; all unless given."""
    validation: int = 5000
    """Training images kept back to choose by."""
    data_dir: Path | None = None
    """Folder with CIFAR-10; otherwise JAXLESSONS_DATA, otherwise it is downloaded once."""
    runs_dir: Path = Path("runs")
    """Where run folders go."""
    name: str | None = None
    """Name of the run's folder; one is made up otherwise."""
    resume: bool = False
    """Go on with the comparison --name, or the last one, with the trials that it lacks."""


class Variant(NamedTuple):
    """What a trial trains: its config, its network and its phases."""

    config: cifar_config.Config
    module: Any
    phases: Sequence[Phase]


# (variant's name, its setup, the trained state, splits) -> what else its record shall hold.
After = Callable[[str, Setup, TrainState, Splits], Record]


def trial_config(config: Config, **changes: Any) -> cifar_config.Config:
    """The config of a trial: a small residual network, trained with flips and weight decay."""
    settings: dict[str, Any] = {
        "model": "small",
        "epochs": config.epochs,
        "lr": config.lr,
        "batch_size": config.batch_size,
        "optimizer": "nesterov",
        "weight_decay": 5e-4,
        "augment": ("flip",),
        "validation": config.validation,
    }
    trial = cifar_config.Config(**(settings | changes))
    cifar_config.check(trial)
    return trial


def with_weight_decay(phase: Phase, decay: float) -> Phase:
    """The phase with the trials' weight decay, in the gradient as in the lessons."""
    return dataclasses.replace(phase, weight_decay=decay, decoupled=False)


def main(
    experiment: str,
    config_type: type[C],
    variants: Callable[[C], Mapping[str, Variant]],
    description: str | None,
) -> None:
    """All of a comparison's script: trains the variants of its config, then table and figure."""
    prog = f"python -m experiments.{experiment}"
    config = tyro.cli(config_type, prog=prog, description=description)
    run, records = compare(experiment, config, variants(config))
    finish(experiment, run, config, records)


def compare(
    experiment: str,
    config: Config,
    variants: Mapping[str, Variant],
    after: After = lambda name, setup, state, splits: {},
) -> tuple[RunDirectory, list[Record]]:
    """Trains what is still missing, and returns all records, in the order of `variants`."""
    wanted = _choose(config, variants)
    images = cifar10.load(config.data_dir)
    print(f"Data: {images.name} ({images.source}).")
    splits = split(images, config.validation)
    run = _open_run(experiment, config, images.name)
    done = {(r["variant"], r["seed"]) for r in run.metrics()}
    for name in wanted:
        variant = variants[name]
        left = [seed for seed in range(config.seeds) if (name, seed) not in done]
        if left:
            # One setup for all seeds: they share the compiled step.
            setup = cifar_setup.set_up(
                variant.config, variant.module, variant.phases, images, splits
            )
        for seed in left:
            record = _trial(name, variant, setup, splits, seed, after)
            run.append_metrics({"data": images.name} | record)
            tqdm.write(_line(record))
    order = {name: place for place, name in enumerate(wanted)}
    records = [r for r in run.metrics() if r["variant"] in order and r["seed"] < config.seeds]
    return run, sorted(records, key=lambda r: (order[r["variant"]], r["seed"]))


def _choose(config: Config, variants: Mapping[str, Variant]) -> list[str]:
    if config.seeds < 1:
        raise UserError(f"--seeds is {config.seeds}: it must be 1 or more.")
    for name in config.variants:
        if name not in variants:
            raise UserError(f"--variants has {name!r}: it must be of {', '.join(variants)}.")
    return [name for name in variants if not config.variants or name in config.variants]


def _open_run(experiment: str, config: Config, data: str) -> RunDirectory:
    run = RunDirectory.open(config, experiment, data, "comparison")
    begun = run.read_config(config)
    for name in ("epochs", "lr", "batch_size", "validation"):
        if getattr(begun, name) != getattr(config, name):
            raise UserError(
                f"{run.path} was begun with {config_checks.flag(name)} {getattr(begun, name)}: "
                "go on with the same, or start a new comparison without --resume."
            )
    return run


def _trial(
    name: str, variant: Variant, setup: Setup, splits: Splits, seed: int, after: After
) -> Record:
    """One training and its figures; a training that diverges has none."""
    began = time.perf_counter()
    record: Record = {"variant": name, "seed": seed, "step": setup.total_steps}
    state = setup.create_state(seed, splits.train.inputs[:2])
    with tqdm(total=setup.total_steps, desc=f"{name}, seed {seed}", unit="step") as bar:
        try:
            state = training.fit(
                state,
                setup.train_step,
                splits.train,
                batch_size=variant.config.batch_size,
                total_steps=setup.total_steps,
                on_steps=lambda step, sums: bar.update(step - bar.n),
                on_epoch=lambda end: record.update(train_loss=end.metrics["loss"]),
            )
        except NonFiniteError as error:
            return record | {"diverged": error.step}
    record["seconds"] = round(time.perf_counter() - began, 1)
    record |= cifar_setup.evaluate_splits(setup, state.variables, splits)
    return record | after(name, setup, state, splits)


def _line(record: Record) -> str:
    head = f"{record['variant']}, seed {record['seed']}:"
    if "diverged" in record:
        return f"{head} diverged at step {record['diverged']}"
    figures = (f"{k} {v:.4f}" for k, v in record.items() if k.endswith(("accuracy", "loss")))
    return f"{head} {', '.join(figures)}, {record['seconds']:.0f} s"


def finish(
    experiment: str,
    run: RunDirectory,
    config: Config,
    records: Sequence[Record],
    rows: Sequence[Row] | None = None,
) -> None:
    """Prints the table of rows (by default one a variant), draws it, and writes result.json."""
    rows = summarize(records) if rows is None else rows
    data = records[0]["data"]
    print(table(rows))
    title = f"{data}: {config.epochs:g} epochs of SmallResnet, {config.seeds} seeds"
    plotting.save_figure(plotting.plot_comparison(rows, title), run.path / "comparison.png")
    found = {
        "experiment": experiment,
        "data": data,
        "rows": [row._asdict() for row in rows],
        "trials": records,
    }
    run.write_result(found, config)
    print(f"Everything is in {run.path}.")
