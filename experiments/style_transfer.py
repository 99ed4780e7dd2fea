"""Style transfer: a photo in the manner of a painting, by the pixels' own gradient descent.

    python -m experiments.style_transfer --content photo.jpg --style painting.jpg
    python -m experiments.style_transfer     # a demonstration, of pictures that are always there

Gatys, Ecker and Bethge (2015), as fast.ai's lesson 13 (2018) has it: VGG16 looks at the picture,
and L-BFGS changes the pixels until the network sees the photo's content and the painting's style.
"""

from __future__ import annotations

import time

import jax

from experiments import command_line, style_config, style_report
from experiments.run_directory import RunDirectory
from experiments.stopping import Stop
from experiments.style_config import Config
from experiments.style_journal import StyleJournal
from experiments.style_pictures import Pictures, load_pictures
from jaxlessons import checkpoint, weights
from jaxlessons.data import images
from jaxlessons.minimize import Descent
from jaxlessons.stylize import saved_shape, stylize

EXPERIMENT = "style_transfer"


def paint(config: Config) -> None:
    """The whole run."""
    started = time.perf_counter()
    style_config.check(config)
    pictures = load_pictures(config)
    trained = weights.vgg16(config.weights)
    print(f"Content: {pictures.content_source}; style: {pictures.style_source}.")
    print(f"VGG16's weights: {trained.source}.")

    run = RunDirectory.open(config, EXPERIMENT, pictures.name, pictures.default_name)
    if config.resume and run.result():
        print(f"{run.path} is finished: its picture is {run.path / 'picture.png'}.")
        style_report.write_output(config, images.read(run.path / "picture.png"))
        return
    begun = restore(config, run, pictures) if config.resume else None
    run.forget_metrics_after(begun[0] if begun else 0)

    stop = Stop()
    journal = StyleJournal(EXPERIMENT, run, config, started)
    with stop.listening(), journal.progress(begun[0] if begun else 0):
        made = stylize(
            pictures.content,
            pictures.styles,
            trained.params,
            style_config.settings(config),
            mean=trained.mean,
            weights=config.style_weights or None,
            masks=pictures.masks,
            style_size=config.style_size,
            per_call=None if jax.default_backend() == "cpu" else min(config.every, 10),
            begun=begun,
            on_call=journal.on_call,
            should_stop=stop,
        )
        if stop():
            stop.leave(journal.stopped(made.picture))
    style_report.finish(journal, pictures, made, trained.source)


def restore(config: Config, run: RunDirectory, pictures: Pictures) -> tuple[int, Descent] | None:
    """(evaluations done, the descent) of a stopped run; None when it had not begun."""
    done = checkpoint.latest_good_step(run.checkpoints)
    if done is None:
        return None
    height, width = pictures.content.shape[:2]
    shape = saved_shape(style_config.settings(config), (height, width), done)
    return done, checkpoint.restore(run.checkpoints, shape, done)


def main() -> None:
    """Parses the command line and paints."""
    paint(command_line.parse(EXPERIMENT, style_config.defaults, __doc__))


if __name__ == "__main__":
    command_line.run(main)
