"""What a fast style transfer trains with: photos, style, network and steps."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from experiments import fast_style_config
from experiments.cats_dogs_setup import PHOTOS_VARIABLE
from experiments.fast_style_config import Config
from experiments.style_pictures import PAINTING
from jaxlessons import optim, style_inputs, style_training, training
from jaxlessons.data import augment, images, photos
from jaxlessons.data.painting import flow_painting
from jaxlessons.errors import UserError
from jaxlessons.files import expanded
from jaxlessons.models.image_transform import ImageTransform
from jaxlessons.schedules import Phase
from jaxlessons.style_objective import smallest_side
from jaxlessons.style_training import Data, StyleStep
from jaxlessons.train_state import TrainState
from jaxlessons.training import EvalStep
from jaxlessons.weights import Weights

SHOWN = 3  # photos kept back that are painted to be looked at


class Photos(NamedTuple):
    """name, source: of the folder, short and long. train, validation: `[n, side, side, 3]` uint8.

    shown: some of the validation photos at twice the crop's size; titles: their files' names.
    """

    name: str
    source: str
    train: np.ndarray
    validation: np.ndarray
    shown: np.ndarray
    titles: tuple[str, ...]


class Setup(NamedTuple):
    """All that training needs but the state."""

    network: ImageTransform
    phases: list[Phase]
    per_epoch: int
    optimizer: optax.GradientTransformation
    train_step: StyleStep
    eval_step: EvalStep
    train: Data
    validation: Data

    def create_state(self, seed: int) -> TrainState:
        """A fresh state."""
        # The parameters are the same for every size.
        return training.create_state(
            self.network, self.optimizer, jax.random.key(seed), jnp.zeros((1, 8, 8, 3))
        )


def load_photos(config: Config) -> Photos:
    """Reads the photos that training needs, a little larger than the crops that are cut of them.

    Raises:
      UserError: without a folder, and for one with too few photos or one that can't be read.
    """
    folder = _folder(config)
    paths = find(folder)
    wanted = config.validation + config.batch_size
    if len(paths) < wanted:
        raise UserError(
            f"{folder} holds {len(paths)} photos ({', '.join(photos.SUFFIXES)}): with --validation "
            f"{config.validation} and --batch-size {config.batch_size} there must be {wanted} or "
            "more."
        )
    # Which ones are kept back doesn't depend on a run's settings.
    order = np.random.RandomState(0).permutation(len(paths))
    kept = [paths[i] for i in order[: config.validation]]
    rest = [paths[i] for i in order[config.validation :][: config.photos]]
    side = config.crop + 2 * margin(config)
    shown = kept[:SHOWN]
    return Photos(
        f"{folder.name}, {len(paths):,} photos",
        f"{len(rest):,} of the {len(paths):,} photos in {folder}, and {len(kept)} kept back",
        _read(rest, side, "photos"),
        _read(kept, side, "photos kept back"),
        _read(shown, 2 * config.crop, "photos shown"),
        tuple(path.name for path in shown),
    )


def _folder(config: Config) -> Path:
    given = config.data_dir or os.environ.get(PHOTOS_VARIABLE)
    if not given:
        raise UserError(
            f"There are no photos to train on: give --data-dir (or {PHOTOS_VARIABLE}) a folder of "
            "photos, of any kind and size; some hundreds are enough."
        )
    folder = expanded(given).resolve()
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give --data-dir a folder of photos.")
    return folder


def find(folder: Path) -> list[Path]:
    """The photos in the folder and its subfolders, sorted; nothing that is hidden."""
    found = [path for path in folder.rglob("*") if path.suffix.lower() in photos.SUFFIXES]
    shown = [x for x in found if not any(p.startswith(".") for p in x.relative_to(folder).parts)]
    return sorted(path for path in shown if path.is_file())


def _read(paths: list[Path], side: int, what: str) -> np.ndarray:
    with ThreadPoolExecutor() as pool:
        read = pool.map(partial(photos.read_photo, size=side), paths)
        bar = tqdm(read, f"reading {what}", len(paths), unit="photo", dynamic_ncols=True)
        return np.stack(list(bar))


def load_style(config: Config) -> tuple[np.ndarray, str]:
    """(the painting at --style-size, uint8; a few words on where it comes from)."""
    if config.style is not None:
        painting, source = images.read(config.style, config.style_size), config.style.name
    else:
        painting, source = flow_painting(*PAINTING), "generated painting"
        painting = images.resize(painting, *images.fitted(painting, config.style_size))
    height, width = painting.shape[:2]
    least = smallest_side(fast_style_config.settings(config))
    if min(height, width) < least:
        raise UserError(
            f"The style is {width} x {height} pixels: with these layers each side must have "
            f"{least} or more; take a larger --style-size."
        )
    return painting, source


def margin(config: Config) -> int:
    """Pixels on each side of a crop, within which it moves."""
    return max(1, config.crop // 16)


def middle(margin: int, images: jax.Array) -> jax.Array:
    """0..255 `[batch, side, side, 3]` -> float32 0..1 without the margins."""
    return images[:, margin:-margin, margin:-margin].astype(jnp.float32) / 255


def random_window(margin: int, key: jax.Array, images: jax.Array) -> jax.Array:
    """As `middle`, of photos that are first mirrored with probability 1/2 and moved at random."""
    flip_key, move_key = jax.random.split(key)
    flipped = augment.random_flip(flip_key, images)
    # By up to the margin: the middle then holds nothing from beyond the photo's border.
    return middle(margin, augment.random_crop(move_key, flipped, pad=margin))


def set_up(config: Config, found: Photos, trained: Weights, style: np.ndarray) -> Setup:
    """The steps that train the config's network on these photos, this style and VGG16."""
    network = fast_style_config.make_network(
        fast_style_config.network_fields(config), config.compute_dtype
    )
    per_epoch = training.steps_per_epoch(len(found.train), config.batch_size)
    phases = fast_style_config.phases(config, per_epoch)
    optimizer = optim.phased_optimizer(phases, per_epoch, clip_norm=config.clip_norm)

    losses_of, mean = fast_style_config.settings(config), trained.mean
    losses = style_training.make_losses(losses_of, mean)
    vgg = style_training.needed(losses_of, trained.params)
    picture = jnp.asarray(style_inputs.as_float(style, "style"))
    regions = style_training.make_regions(losses_of, mean, vgg, picture)
    around = margin(config)
    return Setup(
        network,
        phases,
        per_epoch,
        optimizer,
        style_training.make_train_step(
            network.apply, optimizer, losses, partial(random_window, around)
        ),
        style_training.make_eval_step(network.apply, losses, partial(middle, around)),
        Data(jnp.asarray(found.train), vgg, regions),
        Data(jnp.asarray(found.validation), vgg, regions),
    )


def make_paint(network: ImageTransform) -> Any:
    """(params, photos `[n, height, width, 3]` uint8) -> pictures of their size, 0..1, jitted."""

    @jax.jit
    def paint(params: Any, images: jax.Array) -> Any:
        return network.apply({"params": params}, images.astype(jnp.float32) / 255)

    return paint
