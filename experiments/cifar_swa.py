"""SGD against stochastic weight averaging at equal budget, on CIFAR-10, over several seeds.

    python -m experiments.cifar_swa

SGD follows the schedule of Izmailov et al. (2018): it holds its rate for half of the epochs, lets
it fall to a hundredth in a line until nine tenths, and holds that. SWA's rate falls in a line to
`swa_lr`, which is the highest rate itself unless given, and stays there while the last parameters
are averaged. loss_line.png has the loss on the line from SWA's last iterate to its average, and
beyond. The defaults were chosen on the validation images, with another seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
import tyro

from experiments import command_line, comparison
from experiments.cifar_setup import Setup, averaged_variables, evaluate_splits
from experiments.comparison import Record, Variant
from experiments.comparison_rows import summarize
from experiments.splits import Splits
from jaxlessons import averaging, plotting, training
from jaxlessons.errors import UserError
from jaxlessons.models.resnet import SmallResnet
from jaxlessons.schedules import Phase
from jaxlessons.training import Examples, TrainState

LINE = np.linspace(-0.5, 1.5, 9).tolist()  # where on the line the loss is measured
LINE_IMAGES = 5000  # training images that stand for all of them on the line


@dataclass(frozen=True)
class Config(comparison.Config):
    """Compare SGD with SWA."""

    epochs: float = 6.0
    swa_lr: float | None = None
    """The rate while averaging; --lr unless given."""
    swa_start: float = 0.85
    """Share of the epochs after which averaging begins."""
    swa_every: float = 0.1
    """Epochs from one set of parameters that goes into the average to the next."""


def variants(config: Config) -> dict[str, Variant]:
    """The two trainings: the same network, budget and highest rate."""
    swa_lr = config.lr if config.swa_lr is None else config.swa_lr
    if not 0 < swa_lr <= config.lr:
        raise UserError(f"--swa-lr is {swa_lr}: it must be above 0, and --lr at most.")
    if not 0.5 < config.swa_start < 0.9:
        raise UserError(f"--swa-start is {config.swa_start}: it must lie between 0.5 and 0.9.")
    trial = partial(comparison.trial_config, config)
    kept = {"swa_start": config.swa_start * config.epochs, "swa_every": config.swa_every}
    half, until, rest = 0.5, config.swa_start, 1 - config.swa_start
    sgd = [(half, config.lr), (0.4, (config.lr, config.lr / 100)), (0.1, config.lr / 100)]
    swa = [(half, config.lr), (until - half, (config.lr, swa_lr)), (rest, swa_lr)]
    return {
        "sgd": Variant(trial(), SmallResnet(), _phases(config, sgd)),
        "swa": Variant(trial(**kept), SmallResnet(), _phases(config, swa)),
    }


def _phases(config: Config, shares: list[tuple[float, Any]]) -> list[Phase]:
    """(share of the epochs, rate or its two ends) -> phases, with the trials' weight decay."""
    trial = comparison.trial_config(config)
    phases = []
    for share, lr in shares:
        decay = "linear" if isinstance(lr, tuple) else "none"
        phase = Phase(share * config.epochs, lr, decay, optimizer=trial.optimizer)
        phases.append(comparison.with_weight_decay(phase, trial.weight_decay))
    return phases


def evaluate_average(name: str, setup: Setup, state: TrainState, splits: Splits) -> Record:
    """The averaged network's figures and, for the record, the losses along the line to it."""
    variables = averaged_variables(setup, state, splits.train.inputs)
    if variables is None or state.average is None:
        return {}
    figures = evaluate_splits(setup, variables, splits)
    record: Record = {"networks": int(state.average.count)}
    record |= {f"averaged_{key}": value for key, value in figures.items()}
    last, average = state.params, variables["params"]
    return record | {"line": loss_along_line(setup, last, average, state.batch_stats, splits)}


def loss_along_line(
    setup: Setup, last: Any, average: Any, batch_stats: Any, splits: Splits
) -> dict[str, list[float]]:
    """Training and validation loss at last + t (average - last), each t with its own statistics."""
    part = Examples(*(array[:LINE_IMAGES] for array in splits.train))
    losses: dict[str, list[float]] = {"train": [], "validation": []}
    for t in LINE:
        params = jax.tree.map(lambda a, b, t=t: a + t * (b - a), last, average)
        variables = {"params": params, "batch_stats": batch_stats}
        statistics = averaging.recalibrate_batch_stats(
            setup.module.apply, variables, part.inputs, prepare=setup.prepare
        )
        for name, examples in (("train", part), ("validation", splits.validation)):
            if examples is not None:
                means, _ = training.evaluate(
                    setup.eval_step, variables | {"batch_stats": statistics}, examples
                )
                losses[name].append(means["loss"])
    return losses


def main() -> None:
    """Trains both with every seed, then the table and the figures."""
    config = tyro.cli(Config, prog="python -m experiments.cifar_swa", description=__doc__)
    run, records = comparison.compare("cifar_swa", config, variants(config), after=evaluate_average)
    averaged = [row._replace(name="swa, the average") for row in summarize(records, "averaged_")]
    rows = summarize(records)
    names = {"swa": "swa, its last iterate"}
    rows = [row._replace(name=names.get(row.name, row.name)) for row in rows]
    comparison.finish("cifar_swa", run, config, records, [*rows, *averaged])
    lines = [record["line"] for record in records if "line" in record]
    if lines:
        means = {
            name: np.mean([line[name] for line in lines], axis=0).tolist()
            for name in lines[0]
            if lines[0][name]
        }
        title = f"{records[0]['data']}: from SWA's last iterate to its average, mean of seeds"
        plotting.save_figure(plotting.plot_line(LINE, means, title), run.path / "loss_line.png")


if __name__ == "__main__":
    command_line.run(main)
