"""A recurrent network that learns a text character by character, and then writes.

    python -m experiments.char_rnn                                # train; on a CPU, minutes
    python -m experiments.char_rnn --sample "these" --length 400  # write with the trained network
    python -m experiments.char_rnn --preset lesson --cell gru     # the lesson's RNN, GRU or LSTM

The lesson (fast.ai 2018, lessons 6 and 7) trains on Nietzsche and reaches 1.486 nats a character
with its RNN, 1.369 with its GRU, and 1.315 and then 1.252 with its LSTM of 2 x 512 units.
"""

from __future__ import annotations

import time
from functools import partial

import optax

from experiments import (
    char_config,
    char_report,
    char_sample,
    char_setup,
    command_line,
    device_config,
)
from experiments.char_config import Config
from experiments.char_journal import CharJournal
from experiments.run_directory import RunDirectory
from jaxlessons import checkpoint, sequence_training

EXPERIMENT = "char_rnn"


def train(config: Config) -> None:
    """The whole run."""
    started = time.perf_counter()
    corpus = char_setup.load_corpus(config)
    print(
        f"Text: {corpus.source}; {len(corpus.train):,} characters to train on and "
        f"{len(corpus.validation):,} to validate on, {len(corpus.vocabulary)} symbols."
    )
    layout = device_config.layout(config)
    setup = char_setup.set_up(config, corpus, layout)
    tokens = layout.replicate(corpus.train)
    state = setup.create_state(config.seed, config.batch_size)
    print(
        f"Preset {config.preset}: {config.layers} x {config.features} {config.cell}, "
        f"{optax.tree.size(state.params):,} parameters, "
        f"{setup.total_steps / setup.per_epoch:g} epochs."
    )

    run = RunDirectory.open(config, EXPERIMENT, corpus.name, f"{config.cell}-{config.preset}")
    if config.resume:
        run.write_config(config, corpus.name)
        if finished := run.result():
            print(f"{run.path} is finished: {finished['best_validation_loss']} nats a character.")
            return
        state = run.restore(state, partial(char_setup.check_same_text, run.checkpoints, corpus))

    journal = CharJournal(EXPERIMENT, run, config, corpus, setup)
    with journal.training(int(state.step), started) as stop:
        for end in sorted({*setup.cycle_ends, setup.total_steps}):
            state = sequence_training.fit(
                state,
                setup.train_step,
                tokens,
                setup.windows,
                steps_per_epoch=setup.per_epoch,
                total_steps=end,
                steps_per_call=config.steps_per_call,
                on_steps=journal.on_steps,
                on_epoch=journal.on_epoch,
                should_stop=stop,
                layout=layout,
            )
            if int(state.step) == end and end in setup.cycle_ends:
                # The lesson saves its LSTM at the end of each cycle of the rate.
                params = {"params": state.params}
                checkpoint.save(run.snapshots, params, step=end, keep=None, about=setup.about)
            if stop():
                stop.leave(journal.stopped(state))
    char_report.finish(journal, state)


def main() -> None:
    """Parses the command line, then trains or writes."""
    config = command_line.parse(
        EXPERIMENT, char_config.defaults, __doc__, choice="cell", parallel=True
    )
    char_config.check(config)
    if config.sample is None:
        train(config)
    else:
        char_sample.write(config, EXPERIMENT)


if __name__ == "__main__":
    command_line.run(main)
