"""Cats and dogs: a head of class maps on a pretrained VGG16, and the heat maps that it gives.

    python -m experiments.cats_dogs --data-dir dogscats

The folder holds train/CLASS/*.jpg and valid/CLASS/*.jpg, of any classes. As in fast.ai's lesson 7
(2018), the network's dense layers give way to one convolution with an output channel a class and
global average pooling. First this head is trained alone, then the trunk's upper layers with it, at
lower rates. Then the photos in valid/ are classified, once; the class's channel is the heat map
(heatmaps.png); and the hottest region is enlarged and classified again (zoom.png).
"""

from __future__ import annotations

import time

from experiments import cats_dogs_config, cats_dogs_report, cats_dogs_setup, command_line
from experiments.cats_dogs_config import Config
from experiments.cats_dogs_setup import Stage
from experiments.image_journal import ImageJournal
from experiments.run_directory import RunDirectory
from experiments.splits import split
from experiments.stopping import Stop
from jaxlessons import training, weights
from jaxlessons.training import TrainState

EXPERIMENT = "cats_dogs"


def train(config: Config) -> None:
    """The whole run."""
    started = time.perf_counter()
    cats_dogs_config.check(config)
    images = cats_dogs_setup.load_photos(config)
    splits = split(images, config.validation)
    training.steps_per_epoch(len(splits.train.labels), config.batch_size)
    trained = weights.vgg16(config.weights)
    print(f"Data: {images.name} ({images.source}), {', '.join(images.classes)}.")
    print(f"VGG16's weights: {trained.source}.")

    run = open_run(config, images.name, trained.source)
    if config.resume and (finished := run.result()):
        print(f"{run.path} is finished: test accuracy {finished['test_accuracy']:.2%}.")
        return
    network = cats_dogs_setup.make_network(config, len(images.classes), trained)
    stages = cats_dogs_setup.make_stages(config, network, splits)
    state = cats_dogs_setup.create_state(config, network, stages[0].setup)
    if config.resume:
        state = run.restore(state)

    for stage in stages:
        if int(state.step) >= stage.end:
            continue
        part = splits._replace(validation=stage.validation())
        journal = ImageJournal(EXPERIMENT, run, images, part, stage.setup, config.keep)
        with journal.training(int(state.step), started) as stop:
            state = train_stage(config, stage, state, journal, stop)
            if stop():
                stop.leave(journal.stopped(state))
    cats_dogs_report.finish(config, run, images, network, state, trained.source, started)


def train_stage(
    config: Config, stage: Stage, state: TrainState, journal: ImageJournal, stop: Stop
) -> TrainState:
    """Trains to the stage's end, an epoch at a time, each on the view whose turn it is."""
    per_epoch = stage.setup.per_epoch
    while int(state.step) < stage.end and not stop():
        epoch = int(state.step) // per_epoch
        state = training.fit(
            state,
            stage.setup.train_step,
            stage.train(epoch % config.views),
            batch_size=config.batch_size,
            total_steps=min((epoch + 1) * per_epoch, stage.end),
            on_steps=journal.on_steps,
            on_epoch=journal.on_epoch,
            should_stop=stop,
        )
    return state


def open_run(config: Config, data: str, source: str) -> RunDirectory:
    """The run's folder, begun with the same weights where it is an old one."""
    run = RunDirectory.open(config, EXPERIMENT, data, f"vgg16-{config.unfreeze}")
    if config.resume:
        cats_dogs_report.check_source(run, source)
        run.write_config(config, data)
    else:
        run.write_json(cats_dogs_report.SOURCE_FILE, {"source": source})
    return run


def defaults(model: str | None, preset: str | None) -> Config:
    """The config of a run without flags; there is one model and one preset."""
    return Config()


def main() -> None:
    """Parses the command line and trains."""
    train(command_line.parse(EXPERIMENT, defaults, __doc__))


if __name__ == "__main__":
    command_line.run(main)
