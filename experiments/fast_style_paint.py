"""A photo painted by a trained network; all that it takes is a checkpoint."""

from __future__ import annotations

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments import config_checks, fast_style_about
from experiments.fast_style_config import Config
from experiments.fast_style_setup import make_paint
from experiments.run_directory import RunDirectory
from jaxlessons import checkpoint
from jaxlessons.data import images
from jaxlessons.errors import UserError


def paint(config: Config, experiment: str) -> None:
    """Paints config.paint into a PNG and says how long it took."""
    assert config.paint is not None
    photo = images.read(config.paint, config.size)
    output = config.output or Path(f"{config.paint.stem}-painted.png")
    config_checks.writable("output", output)
    folder, step = find(config, experiment)
    network, style = fast_style_about.network(folder, step)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    params = checkpoint.restore(folder, shapes["params"], step, part="params")

    began = time.perf_counter()
    compiled = make_paint(network).lower(params, photo[None]).compile()
    ready = time.perf_counter()
    picture = np.asarray(compiled(params, photo[None]))[0]
    done = time.perf_counter()
    images.write_png(output, picture, {"photo": config.paint.name, "style": style, "step": step})
    height, width = picture.shape[:2]
    print(
        f"{output}: {config.paint.name} in the manner of {style}, {width} x {height}, painted in "
        f"{done - ready:.3g} s (after {ready - began:.3g} s of compiling) on "
        f"{jax.devices()[0].platform}."
    )


def find(config: Config, experiment: str) -> tuple[Path, int]:
    """(the folder with checkpoints, the step): of --checkpoint, or the latest of a run."""
    if config.checkpoint is None:
        try:
            folder = RunDirectory.existing(config.runs_dir, experiment, config.name).checkpoints
        except UserError as error:
            raise UserError(
                f"There is no trained network in {config.runs_dir / experiment}: train one by "
                f"python -m experiments.{experiment}, or name a --checkpoint."
            ) from error
    else:
        folder = config.checkpoint
        if folder.name.isdigit() and int(folder.name) in checkpoint.all_steps(folder.parent):
            return folder.parent, int(folder.name)
        if (folder / "checkpoints").is_dir():
            folder = folder / "checkpoints"
    step = checkpoint.latest_step(folder)
    if step is None:
        raise UserError(f"{folder} holds no checkpoint: name another by --checkpoint or --name.")
    return folder, step
