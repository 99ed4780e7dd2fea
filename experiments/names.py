"""Where a surname is from: a recurrent network that reads it letter by letter, from both ends.

    python -m experiments.names                                  # train; on a CPU, minutes
    python -m experiments.names --predict "Yamamoto" "O'Neill"   # ask the trained network
    python -m experiments.names --cell mingru                    # or qrnn, lstm, rnn, minlstm
    python -m experiments.names --train-file names.csv           # any file of name,label

The exercise of the PyTorch tutorial's lesson on recurrent classifiers (PyTorchZeroToAll, 2017):
18 countries, 2 GRU layers of 100 units in each direction, batches of 256. The tutorial trains by
Adam at 1e-3, by which this network overfits. The default departs from that: dropout 0.3, 3 % of the
letters unknown, and one cycle of the rate up to 3e-3; --preset tutorial has the tutorial's own.
"""

from __future__ import annotations

import sys
import time
from functools import partial

import optax

from experiments import (
    command_line,
    device_config,
    names_config,
    names_predict,
    names_report,
    names_setup,
)
from experiments.names_config import Config
from experiments.names_journal import NamesJournal
from experiments.run_directory import RunDirectory
from jaxlessons import training
from jaxlessons.errors import UserError

EXPERIMENT = "names"


def train(config: Config) -> None:
    """The whole run."""
    started = time.perf_counter()
    layout = device_config.layout(config)
    data = names_setup.load_data(config, layout)
    found, validation = data.name_set, data.splits.validation
    print(
        f"Names: {found.source}; {len(data.lengths):,} to train on, "
        f"{0 if validation is None else len(validation.labels):,} to validate on and "
        f"{len(found.test_labels):,} to test on, of {len(found.classes)} labels, in "
        f"{len(data.vocabulary) - 1} letters."
    )
    setup = names_setup.set_up(config, data, layout)
    state = setup.create_state(config.seed, data.splits.train.inputs[:2])
    print(
        f"Preset {config.preset}: {config.layers} x {config.features} {config.cell}, "
        f"{optax.tree.size(state.params):,} parameters, "
        f"{setup.total_steps / setup.per_epoch:g} epochs."
    )

    run = RunDirectory.open(config, EXPERIMENT, found.name, f"{config.cell}-{config.preset}")
    if config.resume:
        run.write_config(config, found.name)
        if finished := run.result():
            print(f"{run.path} is finished: test accuracy {finished['test_accuracy']:.2%}.")
            return
        state = run.restore(state, partial(names_setup.check_same_data, run.checkpoints, data))

    journal = NamesJournal(EXPERIMENT, run, config, data, setup)
    with journal.training(int(state.step), started) as stop:
        state = training.fit(
            state,
            setup.train_step,
            data.splits.train,
            batch_size=config.batch_size,
            total_steps=setup.total_steps,
            on_steps=journal.on_steps,
            on_epoch=journal.on_epoch,
            should_stop=stop,
            order=setup.order,
            layout=layout,
        )
        if stop():
            stop.leave(journal.stopped(state))
    names_report.finish(journal, state)


def main() -> None:
    """Parses the command line, then trains or answers."""
    config = command_line.parse(
        EXPERIMENT, names_config.defaults, __doc__, choice="cell", parallel=True
    )
    names_config.check(config)
    if config.predict:
        names_predict.tell(config, EXPERIMENT)
    elif "--predict" in sys.argv:
        raise UserError("--predict names nobody: give one name or more behind it.")
    else:
        train(config)


if __name__ == "__main__":
    command_line.run(main)
