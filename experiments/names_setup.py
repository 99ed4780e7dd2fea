"""What a name classifier's config becomes before it is trained: tokens, network, jitted steps."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import device_config, names_config
from experiments.names_config import Config
from experiments.splits import Splits
from jaxlessons import buckets, checkpoint, losses, optim, schedules, training
from jaxlessons.data import names
from jaxlessons.data.names import NameSet
from jaxlessons.data.vocabulary import Vocabulary
from jaxlessons.devices import SINGLE, Layout
from jaxlessons.errors import UserError
from jaxlessons.models.names import NameClassifier
from jaxlessons.schedules import Phase
from jaxlessons.training import Augment, EvalStep, Examples, Order, Place, TrainState, TrainStep


class Data(NamedTuple):
    """Names as tokens in three splits. lengths: `[n]`, of those to train on; digest: SHA-256 of
    all names and labels."""

    name_set: NameSet
    vocabulary: Vocabulary
    splits: Splits
    lengths: np.ndarray
    digest: str


def load_data(config: Config, layout: Layout = SINGLE) -> Data:
    """The names that the config asks for. The vocabulary is that of the names trained on."""
    found = names.load(config.train_file, config.test_file, config.data_dir)
    labels = found.train_labels
    kept = names.hold_back(
        labels,
        round(config.validation * len(labels)),
        f"--validation is {config.validation:g}, which {found.name} has too few names for",
        "take a smaller share, or add names",
    )
    rest = np.setdiff1d(np.arange(len(labels)), kept)
    own = [found.train_names[row] for row in rest]
    # Each by itself: how a letter is lower-cased may depend on what stands behind it.
    letters = "".join(name.lower() if config.lower else name for name in own)
    vocabulary = Vocabulary.build(letters, lower=config.lower, unknown=True)
    kept_names = [found.train_names[row] for row in kept]
    # One width for what is evaluated, which is compiled once so. That of the names to train on is
    # their own: a long name elsewhere changes nothing about how they are trained on.
    width = max(len(name.lower()) for name in (*kept_names, *found.test_names))

    def whole(of: Sequence[str], labels: np.ndarray, width: int | None = width) -> Examples:
        return Examples(*map(layout.replicate, (names.encode(of, vocabulary, width), labels)))

    # Where there are several devices, the names to train on stay on the host.
    train: Any = (names.encode(own, vocabulary), labels[rest])
    train = train if layout.mesh else whole(own, labels[rest], None)
    splits = Splits(
        Examples(*train),
        whole(kept_names, labels[kept]) if len(kept) else None,
        whole(found.test_names, found.test_labels),
    )
    lengths = np.sum(np.asarray(train[0]) != names.PADDING, axis=1)
    return Data(found, vocabulary, splits, lengths, _digest(found))


def _digest(found: NameSet) -> str:
    content = [*found.classes, *found.train_names, *found.test_names]
    labels = [found.train_labels.tobytes(), found.test_labels.tobytes()]
    return hashlib.sha256(b"\0".join(["\0".join(content).encode(), *labels])).hexdigest()


class Setup(NamedTuple):
    """All that training needs but the state. about: what each checkpoint says of itself."""

    model: NameClassifier
    phases: Sequence[Phase]
    per_epoch: int
    total_steps: int
    optimizer: optax.GradientTransformation
    train_step: TrainStep
    eval_step: EvalStep
    order: Order
    about: dict[str, Any]
    layout: Layout

    def create_state(self, seed: int, tokens: jax.Array) -> TrainState:
        """A fresh state; tokens: of a name or two."""
        key = jax.random.key(seed)
        return self.layout.place(training.create_state(self.model, self.optimizer, key, tokens))


def set_up(config: Config, data: Data, layout: Layout = SINGLE) -> Setup:
    """The network, and the steps that train it through the config's phases on the devices."""
    layout.check_batch(config.batch_size)
    per_epoch = training.steps_per_epoch(len(data.lengths), config.batch_size)
    phases = names_config.phases(config)
    optimizer = optim.phased_optimizer(phases, per_epoch, clip_norm=config.clip_norm)
    classes = data.name_set.classes
    settings = names_config.model_settings(config, len(data.vocabulary), len(classes))
    model = names_config.make_model(settings | device_config.shareable(config.cell, layout))
    widths = buckets.bucket_widths(data.splits.train.inputs.shape[1], config.buckets)
    train_step = training.make_train_step(
        model.apply,
        optimizer,
        loss=partial(losses.cross_entropy, label_smoothing=config.label_smoothing),
        augment=make_unknown(config.unknown),
        layout=layout,
    )
    return Setup(
        model,
        phases,
        per_epoch,
        schedules.total_steps(phases, per_epoch),
        optimizer,
        buckets.in_buckets(train_step, widths),
        training.make_eval_step(model.apply, layout=layout),
        training.grouped_order(buckets.bucket_of(data.lengths, widths), config.batch_size),
        {
            "model": settings,
            "vocabulary": data.vocabulary.to_json(),
            "classes": list(classes),
            "longest": int(data.lengths.max()),
            "data": data.name_set.name,
            "data_sha256": data.digest,
        },
        layout,
    )


def make_unknown(share: float) -> Augment | None:
    """(key, batch, place) -> the batch with this share of its letters replaced by token 0.

    What stands for letters that training lacks would else never be trained.
    """

    def forget(key: jax.Array, batch: Examples, place: Place) -> Examples:
        hit = jax.random.bernoulli(key, share, batch.inputs.shape)
        return batch._replace(inputs=jnp.where(hit, jnp.minimum(batch.inputs, 0), batch.inputs))

    return forget if share else None


def check_same_data(directory: Path, data: Data, step: int) -> None:
    """UserError when the checkpoint of `step` in `directory` was trained on other names."""
    if checkpoint.read_about(directory, step).get("data_sha256") != data.digest:
        raise UserError(
            f"The names of {data.name_set.name} are not those that the checkpoint in {directory} "
            "was trained on: go on with those, or start a new run without --resume."
        )
