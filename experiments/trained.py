"""Where a trained network's checkpoint is, for what works with that alone."""

from __future__ import annotations

from pathlib import Path

from experiments.run_directory import RunDirectory
from jaxlessons import checkpoint
from jaxlessons.errors import UserError
from jaxlessons.files import expanded


def find_checkpoint(
    given: Path | None,
    runs_dir: Path,
    experiment: str,
    name: str | None,
    best: str | None = None,
    mode: checkpoint.Mode = "min",
) -> tuple[Path, int]:
    """(the folder with checkpoints, the step): of `given`, or of a run, its latest.

    given: --checkpoint, a run, the folder of its checkpoints or one of them. name: of the run, the
    last one unless given. best: a metric; the checkpoint where it is lowest (mode "max": highest)
    goes before the latest.

    Raises:
      UserError: where there is no checkpoint.
    """
    if given is None:
        try:
            folder = RunDirectory.existing(runs_dir, experiment, name).checkpoints
        except UserError as error:
            raise UserError(
                f"There is no trained network in {runs_dir / experiment}: train one by "
                f"python -m experiments.{experiment}, or name a --checkpoint."
            ) from error
    else:
        folder = expanded(given)
        if folder.name.isdigit() and int(folder.name) in checkpoint.all_steps(folder.parent):
            return folder.parent, int(folder.name)
        if (folder / "checkpoints").is_dir():
            folder = folder / "checkpoints"
    step = None if best is None else checkpoint.best_step(folder, best, mode)
    step = checkpoint.latest_good_step(folder) if step is None else step
    if step is None:
        raise UserError(f"{folder} holds no checkpoint: name another by --checkpoint or --name.")
    return folder, step
