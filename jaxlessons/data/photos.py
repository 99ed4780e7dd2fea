"""Photos in folders, train/CLASS/*.jpg and valid/CLASS/*.jpg, as arrays of one size."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxlessons.data import images
from jaxlessons.data.srgb import to_srgb, upright
from jaxlessons.errors import UserError
from jaxlessons.files import expanded

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
SPLITS = ("train", "valid")


class Photos(NamedTuple):
    """One split. images: `[n, size, size, 3]` uint8, RGB; labels: `[n]` int32; paths: `n`."""

    images: np.ndarray
    labels: np.ndarray
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class PhotoSet:
    """The training and validation photos, and the names of their classes in order of label."""

    classes: tuple[str, ...]
    train: Photos
    valid: Photos


def load(folder: str | Path, size: int = 128) -> PhotoSet:
    """The photos in `folder`/{train,valid}/CLASS/, each `size` x `size`.

    Each is turned as its EXIF data say, made sRGB (see `srgb.to_srgb`: white where it is
    transparent), resized to `size` on its shorter side and cropped to the
    middle. Classes go by their folders' names, sorted. Hidden files are skipped, and so is what
    has none of the suffixes .jpg, .jpeg, .png and .webp.

    Raises:
      UserError: when a folder is missing or empty, the splits' classes differ, there are fewer
        than two, or a photo can't be read; it names which.
    """
    folder = expanded(folder)
    if size < 1:
        raise UserError(f"The photos' size is {size}: it must be 1 or more pixels.")
    classes = _classes(folder)
    train, valid = (_load_split(folder / split, classes, size) for split in SPLITS)
    return PhotoSet(classes, train, valid)


def read_photo(path: str | Path, size: int) -> np.ndarray:
    """One photo, `[size, size, 3]` uint8, as `load` makes it; UserError when it can't be read."""
    path = Path(path)
    explained = images.explained(path, "photo", "replace or delete it")
    with explained, images.open_image(path) as image:
        # A JPEG much too large is decoded at a half, a quarter or an eighth of its size.
        image.draft("RGB", (2 * size, 2 * size))
        return _fit(Image.fromarray(to_srgb(upright(image))), size, path)


def _fit(image: Image.Image, size: int, path: Path) -> np.ndarray:
    """Resizes to `size` on the shorter side, then takes the middle, to the whole pixel."""
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    if width * height > images.MAX_PIXELS:
        raise UserError(
            f"{path} resized to {width:,} x {height:,} has more than {images.MAX_PIXELS:,} pixels: "
            "it is too long and narrow; crop or delete it."
        )
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def _classes(folder: Path) -> tuple[str, ...]:
    """The classes' names, once it's sure that both splits have the same."""
    names = []
    for split in SPLITS:
        if not (folder / split).is_dir():
            raise UserError(
                f"{folder / split} is not a folder: photos are expected in "
                f"{folder}/{{train,valid}}/CLASS/*.jpg."
            )
        names.append(sorted(p.name for p in _visible(folder / split) if p.is_dir()))
    train, valid = names
    if train != valid:
        odd = sorted(set(train) ^ set(valid))
        where = SPLITS[odd[0] in valid]
        raise UserError(
            f"{folder}: the class {odd[0]} is in {where} alone; train and valid must hold the same "
            "classes."
        )
    if len(train) < 2:
        found = train[0] if train else "none"
        raise UserError(
            f"{folder / 'train'} holds {len(train)} classes ({found}): there must be a folder for "
            "each of two or more."
        )
    return tuple(train)


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _load_split(folder: Path, classes: tuple[str, ...], size: int) -> Photos:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = [path for path in _visible(folder / name) if path.suffix.lower() in SUFFIXES]
        if not found:
            raise UserError(f"{folder / name} holds no photo ({', '.join(SUFFIXES)}).")
        paths += found
        labels += [label] * len(found)
    with ThreadPoolExecutor() as pool:
        read = np.stack(list(pool.map(partial(read_photo, size=size), paths)))
    return Photos(read, np.array(labels, np.int32), tuple(paths))
