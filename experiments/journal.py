"""What a CIFAR run says while it trains, and what it leaves in its folder."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from experiments.run_directory import RunDirectory, provenance
from experiments.splits import Splits
from jaxlessons import checkpoint, metrics, plotting, schedules, training
from jaxlessons.data.cifar10 import ImageSet
from jaxlessons.errors import UserError
from jaxlessons.metrics import Sums
from jaxlessons.schedules import Phase
from jaxlessons.training import EpochEnd, EvalStep, TrainState
from jaxlessons.watch import NonFiniteError

SHOWN = 32  # images in predictions.png


class Journal:
    """Callbacks for `training.fit`: a progress bar, a line an epoch, checkpoints, and the end."""

    def __init__(
        self,
        experiment: str,
        run: RunDirectory,
        images: ImageSet,
        splits: Splits,
        eval_step: EvalStep,
        phases: Sequence[Phase],
        per_epoch: int,
        total_steps: int,
        keep: int,
    ) -> None:
        self.experiment, self.run, self.images, self.splits = experiment, run, images, splits
        self.eval_step, self.per_epoch, self.keep = eval_step, per_epoch, keep
        self.total_steps = total_steps
        self.rates = np.asarray(schedules.lr_schedule(phases, per_epoch)(np.arange(total_steps)))
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
            validation, _ = self._evaluate(end.state, self.splits.validation)
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

    def finish(self, state: TrainState, config: Any) -> None:
        """The figures and result.json; the test images are looked at here, once."""
        test, logits = self._evaluate(state, self.splits.test)
        probabilities = np.asarray(jax.nn.softmax(logits))
        records = self.run.metrics()
        title = f"{config.model} on {self.images.name}"
        figures = self._figures(records, probabilities, title, test["accuracy"])
        for name, figure in figures.items():
            plotting.save_figure(figure, self.run.path / name)
        result = {
            "experiment": self.experiment,
            "data": self.images.name,
            "data_source": self.images.source,
            "test_examples": len(self.images.test_labels),
            "test_accuracy": test["accuracy"],
            "test_loss": test["loss"],
            "validation_accuracy": records[-1].get("validation_accuracy") if records else None,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
            "epochs": int(state.step) / self.per_epoch,
            "steps": int(state.step),
            "train_seconds": round(sum(record["seconds"] for record in records), 1),
            "seconds_to_first_step": self.seconds_to_first_step,
            **provenance(),
            "command": self.run.command(),
            "config": dataclasses.asdict(config),
        }
        self.run.write_json("result.json", result)
        print(
            f"{title}: test accuracy {test['accuracy']:.2%}, loss {test['loss']:.4f}, over "
            f"{result['test_examples']:,} images. Everything is in {self.run.path}."
        )

    def _figures(
        self, records: list[dict[str, Any]], probabilities: np.ndarray, title: str, accuracy: float
    ) -> dict[str, Any]:
        images, labels = self.images.test_images, self.images.test_labels
        matrix = metrics.confusion_matrix(
            np.argmax(probabilities, axis=-1), labels, len(self.images.classes)
        )
        title = f"{title}, test accuracy {accuracy:.1%}"
        classes, shown = self.images.classes, slice(0, SHOWN)
        return {
            "curves.png": plotting.plot_curves(records, self.rates, self.per_epoch, title),
            "predictions.png": plotting.plot_predictions(
                images[shown], labels[shown], probabilities[shown], classes, title
            ),
            "confusion.png": plotting.plot_confusion(matrix, classes, title),
        }

    def _evaluate(
        self, state: TrainState, split: training.Examples
    ) -> tuple[dict[str, float], np.ndarray]:
        return training.evaluate(self.eval_step, state.variables, split)


def _line(record: dict[str, Any]) -> str:
    parts = [f"epoch {record['epoch']:g}"]
    for split in ("train", "validation"):
        if f"{split}_loss" in record:
            loss, accuracy = record[f"{split}_loss"], record[f"{split}_accuracy"]
            parts.append(f"{split}: loss {loss:.4f}, accuracy {accuracy:.2%}")
    return f"{record['data']} " + " | ".join([*parts, f"{record['seconds']:.0f} s"])
