"""A photo painted by a trained network; all that it takes is a checkpoint."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np

from experiments import config_checks, fast_style_about
from experiments.fast_style_config import Config
from experiments.fast_style_setup import make_paint
from experiments.trained import find_checkpoint
from jaxlessons import checkpoint
from jaxlessons.data import images
from jaxlessons.files import expanded


def paint(config: Config, experiment: str) -> None:
    """Paints config.paint into a PNG and says how long it took."""
    assert config.paint is not None
    photo = images.read(config.paint, config.size)
    output = expanded(config.output or f"{config.paint.stem}-painted.png")
    config_checks.writable("output", output)
    folder, step = find_checkpoint(config.checkpoint, config.runs_dir, experiment, config.name)
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
