"""What a CIFAR run says while it trains, and what it saves on the way."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from experiments.cifar_setup import Setup
from experiments.run_directory import RunDirectory
from experiments.splits import Splits
from jaxlessons import checkpoint, metrics, schedules, training
from jaxlessons.data.cifar10 import ImageSet
from jaxlessons.errors import UserError
from jaxlessons.loop import EpochEnd
from jaxlessons.metrics import Sums
from jaxlessons.training import TrainState
from jaxlessons.watch import NonFiniteError


class Journal:
    """Callbacks for `training.fit`: a progress bar, a line an epoch, checkpoints, and the end."""

    def __init__(
        self,
        experiment: str,
        run: RunDirectory,
        images: ImageSet,
        splits: Splits,
        setup: Setup,
        keep: int,
    ) -> None:
        self.experiment, self.run, self.images, self.splits = experiment, run, images, splits
        self.eval_step, self.keep = setup.eval_step, keep
        self.per_epoch, self.total_steps = setup.per_epoch, setup.total_steps
        rate = schedules.lr_schedule(setup.phases, setup.per_epoch)
        self.rates = np.asarray(rate(np.arange(setup.total_steps)))
        self.best = "accuracy" if splits.validation is not None else None
        self.epoch_began = time.perf_counter()
        self.seconds_to_first_step: float | None = None
        self.bar: Any = None
        self.since_epoch = metrics.Mean()

    @contextlib.contextmanager
    def progress(self, step: int, started: float) -> Iterator[None]:
        """The bar, from `step` on; started: `time.perf_counter()` when the run began."""
        self.started, self.epoch_began = started, time.perf_counter()
        name, total = self.images.name, self.total_steps
        with tqdm(total=total, initial=step, desc=name, unit="step", dynamic_ncols=True) as bar:
            self.bar = bar
            yield

    def on_steps(self, step: int, sums: Sums) -> None:
        """Moves the bar on."""
        if self.seconds_to_first_step is None:
            self.seconds_to_first_step = time.perf_counter() - self.started
        self.since_epoch.update(sums)
        mean = metrics.Mean()
        mean.update(sums)
        shown = {name: f"{value:.3f}" for name, value in mean.result().items()}
        epoch = f"{step / self.per_epoch:.1f}/{self.total_steps / self.per_epoch:.3g}"
        lr = f"{self.rates[step - 1]:.1e}"
        self.bar.set_postfix(epoch=epoch, lr=lr, **shown, refresh=False)
        self.bar.update(step - self.bar.n)

    def on_epoch(self, end: EpochEnd) -> None:
        """Evaluates on the validation images, then writes the record and the checkpoint."""
        validation: dict[str, float] | None = None
        record = self._record(end.state)
        if self.splits.validation is not None:
            validation, _ = training.evaluate(
                self.eval_step, end.state.variables, self.splits.validation
            )
            record |= {f"validation_{name}": value for name, value in validation.items()}
        self.run.append_metrics(record)
        checkpoint.save(
            self.run.checkpoints, end.state, metrics=validation, keep=self.keep, best=self.best
        )
        tqdm.write(_line(record))
        self.epoch_began, self.since_epoch = time.perf_counter(), metrics.Mean()

    def _record(self, state: TrainState) -> dict[str, Any]:
        """The means over the steps since the last record, so that records add up to the run."""
        step = int(state.step)
        means = self.since_epoch.result()
        return {
            "epoch": step / self.per_epoch,
            "step": step,
            **{f"train_{name}": value for name, value in means.items()},
            "lr": float(self.rates[step - 1]),
            "seconds": round(time.perf_counter() - self.epoch_began, 2),
            "data": self.images.name,
        }

    def stopped(self, state: TrainState) -> str:
        """Saves, where training stopped; the sentence that says how to go on."""
        if int(state.step) not in checkpoint.all_steps(self.run.checkpoints):
            self.run.append_metrics(self._record(state))
            checkpoint.save(self.run.checkpoints, state, keep=self.keep, best=self.best)
        step, total = int(state.step), self.total_steps
        return f"Stopped at step {step} of {total} and saved: go on by {self.resume_command()}"

    def resume_command(self) -> str:
        """What to type to go on from the latest checkpoint."""
        words = ["python", "-m", f"experiments.{self.experiment}", "--resume"]
        words += ["--name", self.run.path.name]
        runs_dir = self.run.path.parents[1]
        return shlex.join(
            words + ([] if runs_dir == Path("runs") else ["--runs-dir", str(runs_dir)])
        )

    def after_nan(self, error: NonFiniteError) -> UserError:
        """The error, with the way back to the last good checkpoint where there is one."""
        step = checkpoint.latest_step(self.run.checkpoints)
        kept = "No checkpoint is before it" if step is None else f"That of step {step} is kept"
        lower = f"{self.resume_command()} --lr LOWER"
        return UserError(f"{error} {kept}: go on by {lower}")


def _line(record: dict[str, Any]) -> str:
    parts = [f"epoch {record['epoch']:g}"]
    for split in ("train", "validation"):
        if f"{split}_loss" in record:
            loss, accuracy = record[f"{split}_loss"], record[f"{split}_accuracy"]
            parts.append(f"{split}: loss {loss:.4f}, accuracy {accuracy:.2%}")
    return f"{record['data']} " + " | ".join([*parts, f"{record['seconds']:.0f} s"])
