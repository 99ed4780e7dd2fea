"""What a style transfer says while it paints, and what it saves on the way."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from experiments.run_directory import RunDirectory
from experiments.style_config import Config, as_metadata
from jaxlessons import checkpoint
from jaxlessons.data import images
from jaxlessons.stylize import Progress

# Seconds between checkpoints, so that a crash costs at most these.
SAVED_EVERY = 30.0


class StyleJournal:
    """The callback of `stylize`: a progress bar, a line of metrics.jsonl an evaluation, a picture
    every `config.every` of them, and checkpoints."""

    def __init__(self, experiment: str, run: RunDirectory, config: Config, started: float) -> None:
        self.experiment, self.run, self.config, self.started = experiment, run, config, started
        self.steps = run.path / "steps"
        self.seconds_to_first_step: float | None = None
        self.last: Progress | None = None
        self.bar: Any = None
        self.saved = self.called = started

    @contextlib.contextmanager
    def progress(self, done: int) -> Iterator[None]:
        """The bar, from `done` evaluations on."""
        total = self.config.evaluations
        with tqdm(total=total, initial=done, unit="evaluation", dynamic_ncols=True) as self.bar:
            yield

    def on_call(self, progress: Progress) -> None:
        """Moves the bar on, and writes what is due."""
        if self.seconds_to_first_step is None:
            self.seconds_to_first_step = time.perf_counter() - self.started
        calls = len(progress.record["value"])
        before, now = progress.done - calls, time.perf_counter()
        seconds, self.called = round((now - self.called) / calls, 4), now
        for step, values in enumerate(zip(*progress.record.values(), strict=True), before + 1):
            record = dict(zip(progress.record, (value.item() for value in values), strict=True))
            self.run.append_metrics({"step": step, **record, "seconds": seconds})
        shown = {name: f"{progress.record[name][-1]:.4g}" for name in ("content", "style")}
        self.bar.set_postfix(loss=f"{progress.record['value'][-1]:.4g}", **shown, refresh=False)
        self.bar.update(progress.done - self.bar.n)
        self.last = progress
        last = progress.done == self.config.evaluations
        if last or _due(before, progress.done, self.config.every):
            images.write_png(self.steps / f"{progress.done:06d}.png", progress.picture(), {})
        if now - self.saved > SAVED_EVERY:
            self.save(progress)
            self.saved = now

    def save(self, progress: Progress) -> None:
        """The checkpoint from which --resume goes on."""
        checkpoint.save(self.run.checkpoints, progress.descent, step=progress.done, keep=1)

    def stopped(self, picture: np.ndarray) -> str:
        """Saves where the painting stopped; the sentence that says how to go on."""
        if self.last is not None:
            self.save(self.last)
        images.write_png(self.run.path / "picture.png", picture, as_metadata(self.config))
        done = len(self.run.metrics())
        return f"Stopped after {done} evaluations and saved: go on by {self.run.resume_command()}"

    def frames(self) -> list[np.ndarray]:
        """The pictures of the way, all at the last one's size."""
        found = [images.read(path) for path in sorted(self.steps.glob("*.png"))]
        return [images.resize(frame, *found[-1].shape[:2]) for frame in found]


def _due(before: int, done: int, every: int) -> bool:
    """Whether a multiple of `every` was reached since."""
    return done // every > before // every
