"""What a character model's config becomes before it is trained: text, network, jitted steps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments import char_config, device_config
from experiments.char_config import Config
from jaxlessons import checkpoint, optim, schedules, sequence_training
from jaxlessons.data import text, windows
from jaxlessons.data.vocabulary import Vocabulary
from jaxlessons.devices import SINGLE, Layout
from jaxlessons.errors import UserError
from jaxlessons.models.char import StatefulCharRNN
from jaxlessons.schedules import Phase
from jaxlessons.sequence_training import SequenceStep
from jaxlessons.training import TrainState

EVALUATION_WIDTH = 64  # characters a step; the carried state makes any width give one figure


class Corpus(NamedTuple):
    """A text in two splits, as characters and as tokens on the device.

    validation is empty when nothing is kept back. digest: SHA-256 of both.
    """

    name: str
    source: str
    vocabulary: Vocabulary
    train_text: str
    validation_text: str
    train: jax.Array
    validation: jax.Array
    digest: str


def load_corpus(config: Config) -> Corpus:
    """The text that the config names. Its vocabulary is that of the training split."""
    loaded = text.load(
        config.text, config.data_dir, validation=config.validation, clean=config.clean
    )
    vocabulary = Vocabulary.build(loaded.train, config.min_frequency, config.lower, unknown=True)
    return Corpus(
        loaded.name,
        loaded.source,
        vocabulary,
        loaded.train,
        loaded.validation,
        jnp.asarray(vocabulary.encode(loaded.train)),
        jnp.asarray(vocabulary.encode(loaded.validation)),
        hashlib.sha256((loaded.train + "\0" + loaded.validation).encode()).hexdigest(),
    )


class Setup(NamedTuple):
    """All that training needs but the state. evaluate: variables -> means over the validation
    split, None without one. about: what each checkpoint says of itself."""

    model: StatefulCharRNN
    phases: Sequence[Phase]
    per_epoch: int
    total_steps: int
    cycle_ends: Sequence[int]
    optimizer: optax.GradientTransformation
    carried: bool
    train_step: SequenceStep
    windows: Callable[[jax.Array], Any]
    evaluate: Callable[[Any], dict[str, float] | None]
    about: dict[str, Any]
    layout: Layout

    def create_state(self, seed: int, batch_size: int) -> TrainState:
        """A fresh state."""
        state = sequence_training.create_state(
            self.model, self.optimizer, jax.random.key(seed), batch_size, carried=self.carried
        )
        return self.layout.place(state)


def set_up(config: Config, corpus: Corpus, layout: Layout = SINGLE) -> Setup:
    """The network, and the steps that train it through the config's phases on the devices."""
    layout.check_batch(config.batch_size)
    scheme = windows.SCHEMES[config.batching]
    make_windows = partial(scheme.windows, len(corpus.train), config.batch_size, config.bptt)
    per_epoch = len(jax.eval_shape(make_windows, jax.random.key(0)).starts)
    phases = char_config.phases(config)
    optimizer = optim.phased_optimizer(
        phases, per_epoch, char_config.groups(config), clip_norm=config.clip_norm
    )
    settings = char_config.model_settings(config, len(corpus.vocabulary))
    shareable = device_config.shareable(config.cell, layout, config.backend)
    model = char_config.make_model(settings | shareable)
    train_step = sequence_training.make_train_step(
        model.apply,
        optimizer,
        partial(windows.gather, width=scheme.width(config.bptt)),
        ragged=config.batching == "jittered",
        layout=layout,
    )
    return Setup(
        model,
        phases,
        per_epoch,
        schedules.total_steps(phases, per_epoch),
        schedules.cycle_ends(phases, per_epoch) if config.schedule == "sgdr" else [],
        optimizer,
        scheme.carried,
        train_step,
        make_windows,
        _make_evaluate(model, corpus.validation, config.batch_size, layout),
        {
            "model": settings,
            "vocabulary": corpus.vocabulary.to_json(),
            "text": corpus.name,
            "text_sha256": corpus.digest,
        },
        layout,
    )


def _make_evaluate(
    model: StatefulCharRNN, tokens: jax.Array, batch_size: int, layout: Layout
) -> Callable[[Any], dict[str, float] | None]:
    """Over the whole split in `batch_size` streams (fewer, when it is short), state carried."""
    if len(tokens) < 2:
        return lambda variables: None
    streams = min(batch_size, max(1, len(tokens) // EVALUATION_WIDTH))
    whole = windows.whole(len(tokens), streams, EVALUATION_WIDTH)
    evaluate = sequence_training.make_evaluate(
        model.apply, partial(windows.gather, width=EVALUATION_WIDTH), layout
    )
    placed = layout.replicate(tokens)
    return lambda variables: evaluate(variables, placed, whole)


def check_same_text(directory: Any, corpus: Corpus, step: int) -> None:
    """UserError when the checkpoint of `step` in `directory` is of another vocabulary or text."""
    about = checkpoint.read_about(directory, step)
    then = Vocabulary.from_json(about.get("vocabulary"))
    if difference := then.difference(corpus.vocabulary):
        raise UserError(
            f"The checkpoint in {directory} has another vocabulary than the text {corpus.name} now "
            f"(first there, second here: {difference}): go on with the text that it was trained "
            "on, or start a new run without --resume."
        )
    if about.get("text_sha256") != corpus.digest:
        raise UserError(
            f"The text {corpus.name} is not the one that the checkpoint in {directory} was trained "
            "on, though its symbols are the same: go on with that one, or start a new run without "
            "--resume."
        )
