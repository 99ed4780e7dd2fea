"""What the cats-and-dogs experiment trains on: the frozen layers' outputs, and its two stages."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments import cats_dogs_config
from experiments.cats_dogs_config import Config
from experiments.cifar_setup import Setup
from experiments.splits import Splits
from jaxlessons import optim, training
from jaxlessons.data import photo_augment, photos
from jaxlessons.data.cifar10 import ImageSet
from jaxlessons.errors import UserError
from jaxlessons.files import expanded
from jaxlessons.models import vgg
from jaxlessons.training import Examples, TrainState
from jaxlessons.weights import Weights

PHOTOS_VARIABLE = "JAXLESSONS_PHOTOS"
BATCH = 32  # photos that the frozen layers see at a time
VIEW_STREAM = 0x71E3  # keeps the views' keys apart from those of training
KEPT_VIEWS = 4  # a view of 1,600 photos takes half a gigabyte


def load_photos(config: Config) -> ImageSet:
    """The photos as an image set whose test split is valid/."""
    given = config.data_dir or os.environ.get(PHOTOS_VARIABLE)
    if not given:
        raise UserError(
            "There are no photos to train on: give --data-dir (or JAXLESSONS_PHOTOS) a folder that "
            "holds train/CLASS/*.jpg and valid/CLASS/*.jpg, such as train/cats, train/dogs, ..."
        )
    folder = expanded(given).resolve()
    found = photos.load(folder, config.size)
    pixels = found.train.images.reshape(-1, 3) / np.float32(255)
    mean, std = (tuple(map(float, values)) for values in (pixels.mean(0), pixels.std(0)))
    return ImageSet(
        folder.name,
        f"the photos in {folder}",
        found.classes,
        found.train.images,
        found.train.labels,
        found.valid.images,
        found.valid.labels,
        mean,
        std,
    )


class Network(NamedTuple):
    """The classifier, and its parts below and above the line between frozen and trained.

    whole: photos after `prepare` -> logits. frozen: the same -> the highest frozen features, None
    where all layers are trained. top: these features -> logits. frozen_params: {} for none.
    """

    whole: vgg.VGG16Classifier
    frozen: vgg.VGG16 | None
    top: vgg.VGG16Classifier
    trunk_params: dict[str, Any]
    mean: tuple[float, ...]

    def prepare(self, images: jax.Array) -> jax.Array:
        """Photos 0..255 -> what the layers take."""
        return vgg.preprocess(images, self.mean)

    def top_params(self) -> dict[str, Any]:
        """The pretrained parameters of the trunk's layers that `top` has."""
        names = vgg.VGG16(self.top.last, self.top.first).layer_names()
        return {name: self.trunk_params[name] for name in names if name in self.trunk_params}

    def whole_params(self, params: Any) -> dict[str, Any]:
        """The classifier's parameters, from those of `top`."""
        below = self.frozen.layer_names() if self.frozen else []
        kept = {name: self.trunk_params[name] for name in below if name in self.trunk_params}
        return {"trunk": {**kept, **params["trunk"]}, "head": params["head"]}


def make_network(config: Config, classes: int, weights: Weights) -> Network:
    """The lesson's network on pretrained `weights`."""
    dtype = jnp.dtype(config.compute_dtype)
    first, layers = cats_dogs_config.first_layer(config), list(vgg.LAYERS)
    below = layers[: layers.index(first)]
    make = partial(vgg.VGG16Classifier, classes, config.last, dropout=config.dropout, dtype=dtype)
    frozen = vgg.VGG16(below[-1], dtype=dtype) if below else None
    return Network(make(), frozen, make(first=first), weights.params, weights.mean)


class Features(NamedTuple):
    """Of n photos. below: the highest frozen features; last: those that the head takes."""

    below: jax.Array
    last: jax.Array


class Views:
    """view -> `Features` of some photos, each computed when it's first asked for and kept.

    View 0 is the photos as they are; every other is `photo_augment.side_on` by a key of its own.
    """

    def __init__(self, network: Network, images: jax.Array, seed: int, name: str) -> None:
        self.images, self.name = images, name
        self.key = jax.random.fold_in(jax.random.key(seed), VIEW_STREAM)
        top = vgg.VGG16(network.top.last, network.top.first, dtype=network.top.dtype)

        @jax.jit
        def through(frozen: Any, trunk: Any, batch: jax.Array) -> Features:
            below: Any = network.prepare(batch)
            if network.frozen is not None:
                below = network.frozen.apply({"params": frozen}, below)
            last: Any = top.apply({"params": trunk}, below)
            return Features(below, last)

        below = network.frozen.layer_names() if network.frozen else []
        frozen = {k: v for k, v in network.trunk_params.items() if k in below}
        self._through = partial(through, frozen, network.top_params())
        self._change = jax.jit(photo_augment.side_on)
        self.features = functools.lru_cache(maxsize=KEPT_VIEWS)(self._features)

    def _features(self, view: int) -> Features:
        count, found = len(self.images), []
        label = f"{self.name}, view {view + 1}"
        with tqdm(total=count, desc=label, unit="photo", dynamic_ncols=True) as bar:
            for start in range(0, count, BATCH):
                # The last batch is moved back to be as large as the others, and cut afterwards.
                place = max(0, min(start, count - BATCH))
                batch = self.images[place : place + BATCH]
                if view:
                    key = jax.random.fold_in(jax.random.fold_in(self.key, view), start)
                    batch = self._change(key, batch)
                made = jax.tree.map(lambda x, cut=start - place: x[cut:], self._through(batch))
                jax.block_until_ready(made)
                found.append(made)
                bar.update(len(made.last))
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)


class Stage(NamedTuple):
    """A stretch of training. setup: as for CIFAR; end: its last step.

    train: view -> features and labels; validation: the same of what was kept back, if anything.
    """

    setup: Setup
    train: Callable[[int], Any]
    validation: Callable[[], Examples | None]
    end: int


def make_stages(config: Config, network: Network, splits: Splits) -> list[Stage]:
    """The head alone on the trunk's last features; then also the unfrozen layers below it."""
    per_epoch = training.steps_per_epoch(len(splits.train.labels), config.batch_size)
    phases = cats_dogs_config.phases(config)
    optimizer = optim.phased_optimizer(phases, per_epoch, cats_dogs_config.groups(config))
    ends = np.cumsum([phase.steps(per_epoch) for phase in phases]).tolist()
    views = {
        name: Views(network, examples.inputs, config.seed, f"{name} photos")
        for name, examples in splits._asdict().items()
        if examples is not None and name != "test"
    }

    def examples(name: str, part: str, view: int) -> Examples | None:
        if name not in views:
            return None
        return Examples(getattr(views[name].features(view), part), getattr(splits, name).labels)

    def head(variables: Any, x: jax.Array, **settings: Any) -> Any:
        module = vgg.ClassMaps(network.top.num_classes, config.dropout, network.top.dtype)
        return module.apply({"params": variables["params"]["head"]}, x, **settings)

    stages = []
    for apply, part, end in zip((head, network.top.apply), ("last", "below"), ends, strict=False):
        setup = Setup(
            network.top,
            phases,
            per_epoch,
            ends[-1],
            optimizer,
            None,
            training.make_train_step(apply, optimizer),
            training.make_eval_step(apply),
            network.prepare,
        )
        train = partial(examples, "train", part)
        stages.append(Stage(setup, train, partial(examples, "validation", part, 0), end))
    return stages


def create_state(config: Config, network: Network, setup: Setup) -> TrainState:
    """The first state: a fresh head on the pretrained layers."""
    images = jax.ShapeDtypeStruct((1, config.size, config.size, 3), jnp.float32)
    below = images
    if network.frozen is not None:
        variables = jax.eval_shape(network.frozen.init, jax.random.key(0), images)
        below = jax.eval_shape(network.frozen.apply, variables, images)
    inputs = jnp.zeros(below.shape, below.dtype)
    key = jax.random.key(config.seed)
    state = training.create_state(network.top, setup.optimizer, key, inputs)
    trunk = jax.tree.map(jnp.asarray, network.top_params())
    return state.replace(params={"trunk": trunk, "head": state.params["head"]})
