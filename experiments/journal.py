"""What a run says while it trains, and what it saves on the way."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
import optax
from tqdm import tqdm

from experiments import memory
from experiments.run_directory import RunDirectory
from experiments.stopping import Stop
from jaxlessons import checkpoint, devices, metrics, schedules
from jaxlessons.errors import UserError
from jaxlessons.loop import EpochEnd
from jaxlessons.metrics import Sums
from jaxlessons.schedules import Phase
from jaxlessons.training import TrainState
from jaxlessons.watch import NonFiniteError


class Journal:
    """Callbacks for a training loop: a progress bar, a line an epoch, checkpoints, and the end.

    data: the name of what is trained on. phases: of the rate, over `total_steps` of which
    `per_epoch` make an epoch; `rates` is that of each step. keep: checkpoints kept beside the one
    with the best `validation_<best>`. about: what each checkpoint says of itself.
    """

    def __init__(
        self,
        experiment: str,
        run: RunDirectory,
        data: str,
        phases: Sequence[Phase],
        per_epoch: int,
        total_steps: int,
        *,
        keep: int,
        best: str | None,
        mode: checkpoint.Mode = "max",
        about: dict[str, Any] | None = None,
    ) -> None:
        self.experiment, self.run, self.data = experiment, run, data
        self.per_epoch, self.total_steps = per_epoch, total_steps
        self.rates = np.asarray(schedules.lr_schedule(phases, per_epoch)(np.arange(total_steps)))
        self.saving: dict[str, Any] = {"keep": keep, "best": best, "mode": mode, "about": about}
        self.epoch_began = time.perf_counter()
        self.seconds_to_first_step: float | None = None
        self.bar: Any = None
        self.since_epoch = metrics.Mean()

    def validate(self, state: TrainState) -> dict[str, float] | None:
        """The means over the validation split; None without one."""
        raise NotImplementedError

    def details(self, state: TrainState) -> dict[str, Any]:
        """What else goes into an epoch's record."""
        return {}

    def line(self, record: dict[str, Any]) -> str:
        """An epoch's record, to be read."""
        parts = [f"epoch {record['epoch']:g}"]
        for split in ("train", "validation"):
            if f"{split}_loss" in record:
                loss, accuracy = record[f"{split}_loss"], record[f"{split}_accuracy"]
                parts.append(f"{split}: loss {loss:.4f}, accuracy {accuracy:.2%}")
        return f"{record['data']} " + " | ".join([*parts, f"{record['seconds']:.0f} s"])

    @contextlib.contextmanager
    def training(self, step: int, started: float) -> Iterator[Stop]:
        """The bar, from `step` on, and whether the user asked to stop meanwhile.

        started: `time.perf_counter()` when the run began. A NonFiniteError becomes the UserError
        that tells of the way back.
        """
        self.started, self.epoch_began = started, time.perf_counter()
        stop, name, total = Stop(), self.data, self.total_steps
        bar = tqdm(
            total=total,
            initial=step,
            desc=name,
            unit="step",
            dynamic_ncols=True,
            disable=not devices.is_main(),
        )
        with stop.listening(), bar as self.bar:
            try:
                yield stop
            except NonFiniteError as error:
                raise self._after_nan(error) from error

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
        """Evaluates on the validation split, then writes the record and the checkpoint.

        What that and the first epoch's compilation leave free goes back to the system.
        """
        record, validation = self._record(end.state), self.validate(end.state)
        record |= {f"validation_{name}": value for name, value in (validation or {}).items()}
        record |= self.details(end.state)
        self.run.append_metrics(record)
        checkpoint.save(self.run.checkpoints, end.state, metrics=validation, **self.saving)
        if devices.is_main():
            tqdm.write(self.line(record))
        memory.give_back()
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
            "data": self.data,
        }

    def write_result(self, state: TrainState, found: dict[str, Any], config: Any) -> dict[str, Any]:
        """result.json: `found` between what the run is and how long it took; all of it returned."""
        # One of several processes can't remove alone what all would remove together.
        if jax.process_count() == 1:
            keep, best, mode = (self.saving[name] for name in ("keep", "best", "mode"))
            checkpoint.prune(self.run.checkpoints, keep=keep, best=best, mode=mode)
        step = int(state.step)
        found = {
            "experiment": self.experiment,
            "data": self.data,
            **found,
            "parameters": optax.tree.size(state.params),
            "epochs": step / self.per_epoch,
            "steps": step,
            "train_seconds": self.run.train_seconds(),
            "seconds_to_first_step": self.seconds_to_first_step,
        }
        self.run.write_result(found, config)
        return found

    def stopped(self, state: TrainState) -> str:
        """Saves, where training stopped; the sentence that says how to go on."""
        if int(state.step) not in checkpoint.all_steps(self.run.checkpoints):
            self.run.append_metrics(self._record(state))
            checkpoint.save(self.run.checkpoints, state, **self.saving)
        step, total = int(state.step), self.total_steps
        return f"Stopped at step {step} of {total} and saved: go on by {self.run.resume_command()}"

    def _after_nan(self, error: NonFiniteError) -> UserError:
        """The error, with the way back to the last good checkpoint where there is one."""
        step = checkpoint.latest_step(self.run.checkpoints)
        kept = "No checkpoint is before it" if step is None else f"That of step {step} is kept"
        lower = f"{self.run.resume_command()} --lr LOWER"
        return UserError(f"{error} {kept}: go on by {lower}")
