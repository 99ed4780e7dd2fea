"""Fast style transfer: a network that paints any photo in one style, in one pass.

    python -m experiments.fast_style --data-dir PHOTOS --style painting.jpg     # train
    python -m experiments.fast_style --paint photo.jpg --output painted.png     # paint

Johnson, Alahi and Fei-Fei (2016): a feed-forward network learns from a folder of photos, of any
kind, to lower the losses by which experiments.style_transfer paints one picture (content and style
as VGG16 sees them). To paint it takes the network alone. Without --style the style is a painting
that this project generates.
"""

from __future__ import annotations

import time
from functools import partial

from experiments import (
    command_line,
    fast_style_about,
    fast_style_config,
    fast_style_paint,
    fast_style_report,
    fast_style_setup,
)
from experiments.fast_style_config import Config
from experiments.fast_style_journal import FastStyleJournal
from experiments.run_directory import RunDirectory
from jaxlessons import style_training, weights

EXPERIMENT = "fast_style"


def train(config: Config) -> None:
    """The whole run."""
    started = time.perf_counter()
    photos = fast_style_setup.load_photos(config)
    style, style_source = fast_style_setup.load_style(config)
    trained = weights.vgg16(config.weights)
    print(f"Photos: {photos.source}. Style: {style_source}.")
    print(f"VGG16's weights: {trained.source}.")
    setup = fast_style_setup.set_up(config, photos, trained, style)
    regions = setup.train.regions
    about = fast_style_about.describe(config, style_source, trained.source, regions)
    state = setup.create_state(config.seed)

    default = "generated" if config.style is None else config.style.stem
    run = RunDirectory.open(config, EXPERIMENT, photos.name, default)
    if config.resume:
        run.write_config(config, photos.name)
        if finished := run.result():
            print(f"{run.path} is finished: loss {finished['validation_loss']:.4g}.")
            return
        state = run.restore(state, partial(fast_style_about.check_same, run.checkpoints, about))

    journal = FastStyleJournal(EXPERIMENT, run, config, photos, setup, about)
    with journal.training(int(state.step), started) as stop:
        state = style_training.fit(
            state,
            setup.train_step,
            setup.train,
            batch_size=config.batch_size,
            total_steps=config.steps,
            on_steps=journal.on_steps,
            on_epoch=journal.on_epoch,
            should_stop=stop,
        )
        if stop():
            stop.leave(journal.stopped(state))
    fast_style_report.finish(journal, state, style)


def main() -> None:
    """Parses the command line, then trains or paints."""
    config = command_line.parse(EXPERIMENT, fast_style_config.defaults, __doc__)
    fast_style_config.check(config)
    if config.paint is None:
        train(config)
    else:
        fast_style_paint.paint(config, EXPERIMENT)


if __name__ == "__main__":
    command_line.run(main)
