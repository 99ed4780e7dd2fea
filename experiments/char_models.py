"""The lesson's road to a recurrent network: each of its character models, trained on a text.

    python -m experiments.char_models --model three

three reads 3 characters and predicts the fourth; loop, concat and rnn read 8 and predict the ninth;
sequence reads 8 and predicts what follows each, from recurrent weights that start at the identity.
Text, sizes and rates are the lesson's (fast.ai 2018, lesson 6). But it validated on a random fifth
of the examples, which share their characters with others trained on; here it is the text's end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments import command_line, config_checks
from experiments.provenance import provenance
from experiments.run_directory import RunDirectory
from experiments.stopping import Stopped, handling
from jaxlessons import loop, optim, schedules, training
from jaxlessons.data import text as texts
from jaxlessons.data.vocabulary import Vocabulary
from jaxlessons.errors import UserError
from jaxlessons.models import char
from jaxlessons.training import Examples

LENGTH = 40  # characters to go on for after each prompt
THREE, EIGHT = ("y. ", "ppl", " th", "and"), ("for thos", "part of ", "queens a")


class Lesson(NamedTuple):
    """A model, how many characters it reads, from one start to the next, (epochs, rate) in turn."""

    model: Callable[..., Any]
    window: int
    stride: int
    rates: tuple[tuple[float, float], ...]
    prompts: tuple[str, ...] = EIGHT


LESSONS = {
    "three": Lesson(char.ThreeCharModel, 3, 3, ((1, 1e-2), (1, 1e-3)), THREE),
    "loop": Lesson(char.CharLoopModel, 8, 1, ((1, 1e-2), (1, 1e-3))),
    "concat": Lesson(char.CharLoopConcatModel, 8, 1, ((1, 1e-3), (1, 1e-4))),
    "rnn": Lesson(char.CharRNN, 8, 1, ((4, 1e-3), (2, 1e-4))),
    "sequence": Lesson(char.CharSequenceRNN, 8, 8, ((4, 1e-2), (4, 1e-3))),
}


@dataclass(frozen=True)
class Config:
    """Train one of the lesson's character models, and let it guess."""

    model: Literal["three", "loop", "concat", "rnn", "sequence"] = "sequence"
    """Which one."""
    text: str | None = None
    """A name, file or folder as for char_rnn; otherwise nietzsche."""
    epochs: float | None = None
    """Passes through the text in all, divided as the lesson's; otherwise as many as those."""
    batch_size: int = 512
    """Examples a step."""
    features: int = 256
    """Hidden units."""
    seed: int = 0
    """Start of all randomness."""
    data_dir: Path | None = None
    """As for char_rnn."""
    runs_dir: Path = Path("runs")
    """Where run folders go."""


def examples(tokens: np.ndarray, name: str) -> Examples:
    """Windows `[n, window]` and what follows: `[n]`, or for sequence the same window one on."""
    lesson = LESSONS[name]
    starts = np.arange(0, len(tokens) - lesson.window, lesson.stride)[:, None]
    if not len(starts):
        raise UserError(f"{len(tokens)} characters are too few for {name}: name a longer --text.")
    inputs = tokens[starts + np.arange(lesson.window)]
    last = tokens[starts[:, 0] + lesson.window]
    labels = np.column_stack([inputs[:, 1:], last]) if name == "sequence" else last
    return Examples(jnp.asarray(inputs), jnp.asarray(labels))


def go_on(predict: Callable[[Any], jax.Array], vocabulary: Vocabulary, prompt: str) -> str:
    """The lesson's get_next_n: the likeliest character each time, from as many as the prompt's."""
    tokens = vocabulary.encode(prompt)
    for _ in range(LENGTH):
        logits = np.asarray(predict(tokens[None, -len(prompt) :])).reshape(-1, len(vocabulary))
        tokens = np.append(tokens, np.int32(logits[-1].argmax()))
    return vocabulary.decode(tokens[len(prompt) :])


def train(config: Config) -> None:
    """Trains, guesses, and writes down what is worth it."""
    loaded = texts.load(config.text, config.data_dir)
    vocabulary = Vocabulary.build(loaded.train, unknown=True)
    tokens = map(vocabulary.encode, (loaded.train, loaded.validation))
    splits = [examples(own, config.model) for own in tokens]
    per_epoch = training.steps_per_epoch(len(splits[0].labels), config.batch_size)
    print(f"Text: {loaded.source}; {len(splits[0].labels):,} examples, {len(vocabulary)} symbols.")
    lesson = LESSONS[config.model]
    share = (config.epochs or 0) / sum(epochs for epochs, _ in lesson.rates) or 1
    phases = [schedules.Phase(share * n, lr, optimizer="adam") for n, lr in lesson.rates]
    start = {"recurrent_init": "identity"} if config.model == "sequence" else {}
    model = lesson.model(len(vocabulary), features=config.features, **start)
    optimizer, key = optim.phased_optimizer(phases, per_epoch), jax.random.key(config.seed)
    eval_step, history = training.make_eval_step(model.apply), list[dict[str, float]]()

    def on_epoch(end: loop.EpochEnd) -> None:
        means, _ = training.evaluate(eval_step, end.state.variables, splits[1], config.batch_size)
        loss, validation = end.metrics["loss"], means["loss"]
        history.append({"loss": loss, "validation_loss": validation})
        print(f"epoch {end.epoch}: loss {loss:.4f}, validation {validation:.4f}", flush=True)

    run = RunDirectory.new(config.runs_dir, "char_models", None, config.model)
    state = training.fit(
        training.create_state(model, optimizer, key, splits[0].inputs[:1]),
        training.make_train_step(model.apply, optimizer),
        splits[0],
        batch_size=config.batch_size,
        total_steps=schedules.total_steps(phases, per_epoch),
        on_epoch=on_epoch,
    )
    predict = partial(jax.jit(model.apply), state.variables)
    known = [prompt for prompt in lesson.prompts if vocabulary.missing(prompt) is None]
    prompts = known or [loaded.validation[: lesson.window]]
    written = {prompt: go_on(predict, vocabulary, prompt) for prompt in prompts}
    for prompt, following in written.items():
        print(f"{prompt!r} -> {following[0]!r}, and on: {prompt + following!r}")
    found = {**history[-1], "epochs": history, "written": written, "text": loaded.name}
    result = {"experiment": "char_models", "model": config.model, **found, **provenance()}
    run.write_json("result.json", {**result, "config": dataclasses.asdict(config)})


def stop(number: int, _frame: Any) -> None:
    """What Ctrl-C and SIGTERM do here."""
    raise Stopped(number, "\nStopped: the training was too short to keep anything of it.")


def main() -> None:
    """Trains the model asked for."""
    config = tyro.cli(Config, prog="python -m experiments.char_models", description=__doc__)
    config_checks.above_zero(config, ("epochs", "batch_size", "features"))
    config_checks.from_zero(config, {"seed": 2.0**32})
    with handling(stop):
        train(config)


if __name__ == "__main__":
    command_line.run(main)
