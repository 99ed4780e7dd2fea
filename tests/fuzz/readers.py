"""All readers that are fuzzed, made small, for a process that does nothing else."""

from __future__ import annotations

from pathlib import Path

import readers_data
import readers_pictures
import readers_runs
import readers_weights
from reader import Reader


def make(folder: Path, names: list[str]) -> list[Reader]:
    """Patches the library, so that valid files are small; `folder` is for what makes the seeds."""
    made = [*readers_data.make(), *readers_pictures.make(), *readers_weights.make(folder)]
    if any(name.startswith("tfds") for name in names):
        made += readers_data.tfds(folder)
    return made + readers_runs.make()
