"""MNIST and Fashion-MNIST from a folder or the network; 28x28 grey images of ten classes.

LeCun, Cortes and Burges, The MNIST database of handwritten digits (1998); Xiao, Rasul and Vollgraf,
Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms (2017).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from jaxlessons.data import cifar10, image_cache, tfds_copy, tfds_reader
from jaxlessons.data.download import (
    DATA_VARIABLE,
    NoNetworkError,
    cache_dir,
    cache_errors,
    fetch,
)
from jaxlessons.data.idx import read_idx
from jaxlessons.data.image_set import Arrays, ImageSet, check_labels
from jaxlessons.data.mnist_published import PUBLISHED, Name
from jaxlessons.data.tfds_copy import Kind
from jaxlessons.errors import UserError
from jaxlessons.files import expanded

SHAPE = (28, 28, 1)
SPLITS = {"train": 60_000, "test": 10_000}
VERSION = "3.0.1"  # TFDS's
PREFIXES = {"train": "train", "test": "t10k"}
SAME_MEAN = 0.001  # of pixels in 0..1; the two data sets' are 0.155 apart


def load(
    name: Name, data_dir: str | Path | None = None, *, offline_default: bool = True
) -> ImageSet:
    """The data set from `data_dir`, else from JAXLESSONS_DATA, else downloaded once and kept.

    A given folder holds the four published idx files, plain or .gz, in itself, in `mnist` or
    `fashion_mnist`, or where torchvision has them (MNIST/raw, FashionMNIST/raw); or a copy by
    TensorFlow Datasets. It is used or refused. The files of the two data sets have the same names:
    those of the other are told by a published .gz's hash, or by the training images' mean. A
    download is prepared in `cache_dir()` as a copy of TensorFlow Datasets'. Without a folder and
    without network, grey "shapes" of 28x28 pixels come instead, and their `source` says why.

    Raises:
      UserError: for another name; when what was given, or what is in the cache, is missing,
        truncated, altered or another data set; when the cache's disk is full or read-only.
      NoNetworkError: without a folder and without network, if not `offline_default`.
    """
    if name not in PUBLISHED:
        raise UserError(f"There is no data set {name!r} here: name {' or '.join(PUBLISHED)}.")
    if data_dir is not None:
        return _load_given(name, expanded(data_dir), "data_dir")
    if from_environment := os.environ.get(DATA_VARIABLE):
        return _load_given(name, expanded(from_environment), DATA_VARIABLE)
    try:
        return _load_cached(name)
    except NoNetworkError as error:
        if not offline_default:
            raise
        why = f"no data folder was given and {str(error).rstrip('.')}"
        return cifar10.shapes(why, grey=True)


def kind(name: Name) -> Kind:
    """What TensorFlow Datasets knows of it."""
    about = PUBLISHED[name]
    return Kind(name, VERSION, about.title, about.homepage, SHAPE, SPLITS, has_ids=False)


def _image_set(name: Name, arrays: Arrays, source: str) -> ImageSet:
    about = PUBLISHED[name]
    return ImageSet(about.title, source, about.classes, *arrays, (about.mean,), (about.std,))


def _load_given(name: Name, path: Path, origin: str) -> ImageSet:
    """The data in the folder `path`, which was named by `origin`."""
    about = PUBLISHED[name]
    holds = (
        f"the four idx files of {about.title} ({', '.join(about.sources)}, with or without .gz) "
        f"or a copy by TensorFlow Datasets ({name}/{VERSION}/)"
    )
    try:
        if not path.is_dir():
            raise UserError(f"{path}, given as {origin}, is no folder: name one with {holds}.")
        for folder in (path, path / name, path / about.folder / "raw"):
            if any(_find(folder, file) for file in about.sources):
                arrays = _read_files(name, folder)
                return _image_set(name, arrays, f"the idx files in {folder}")
        for folder in (path, path / VERSION, kind(name).folder(path)):
            if (folder / "dataset_info.json").is_file():
                arrays = _read_prepared(name, folder, must_keep=False)
                return _image_set(name, arrays, f"the TFDS copy in {folder}")
        found = ", ".join(sorted(entry.name for entry in path.iterdir())[:5]) or "nothing"
    except OSError as error:
        raise UserError(
            f"{path}, given as {origin}, can't be read ({error}); check its permissions."
        ) from error
    raise UserError(
        f"{path}, given as {origin}, holds {found} where {about.title} was expected; name a folder "
        f"that holds {holds}."
    )


def _find(folder: Path, file: str) -> Path | None:
    """The file of this name in the folder, or else its .gz."""
    return next((path for path in (folder / file, folder / f"{file}.gz") if path.is_file()), None)


def _read_files(name: Name, folder: Path) -> Arrays:
    """The four idx files in the folder."""
    arrays = []
    for split, prefix in PREFIXES.items():
        images = _read_file(name, folder, f"{prefix}-images-idx3-ubyte", SPLITS[split], *SHAPE[:2])
        labels = _read_file(name, folder, f"{prefix}-labels-idx1-ubyte", SPLITS[split])
        place = str(_find(folder, f"{prefix}-labels-idx1-ubyte"))
        arrays += [images[..., None], check_labels(labels, place, PUBLISHED[name].title)]
    _check_mean(name, arrays[0], folder)
    return Arrays(*arrays)


def _check_mean(name: Name, images: np.ndarray, folder: Path) -> None:
    """Raises UserError where the training images' mean is that of the other data set."""
    about, mean = PUBLISHED[name], images.mean() / 255
    for other in PUBLISHED.values():
        if other is not about and abs(mean - other.mean) < SAME_MEAN:
            raise UserError(
                f"The training images in {folder} are {other.title}'s by their mean of {mean:.4f}, "
                f"not {about.title}'s: name another folder."
            )


def _read_file(name: Name, folder: Path, file: str, *shape: int) -> np.ndarray:
    """One of them, an array of this shape."""
    about = PUBLISHED[name]
    path = _find(folder, file)
    if path is None:
        raise UserError(
            f"{about.title} is not complete: {folder / file} is missing, and so is its .gz; put it "
            "there or name another place."
        )
    array = read_idx(path, shape)
    if path.suffix == ".gz":
        with path.open("rb") as packed:
            digest = hashlib.file_digest(packed, "sha256").hexdigest()
        for other in PUBLISHED.values():
            if other is not about and other.sources[file].sha256 == digest:
                raise UserError(
                    f"{path} is {other.title}'s, not {about.title}'s: name another folder."
                )
    return array


def _read_prepared(name: Name, folder: Path, *, must_keep: bool) -> Arrays:
    """The TFDS copy in `folder`, decoded once and kept as arrays."""

    def decode(folder: Path) -> Arrays:
        return tfds_reader.read_prepared(kind(name), folder)

    return image_cache.read_copy(name, folder, decode, must_keep=must_keep, shape=SHAPE)


def _load_cached(name: Name) -> ImageSet:
    """From the cache, where the published files are downloaded and prepared first."""
    about, cache = PUBLISHED[name], cache_dir()
    folder = kind(name).folder(cache)
    with cache_errors(cache):
        if folder.exists():
            arrays = _read_prepared(name, folder, must_keep=True)
        else:
            downloads = cache / "downloads" / name
            for source in about.sources.values():
                fetch(source, downloads)
            arrays = _read_files(name, downloads)
            tfds_copy.prepare(kind(name), arrays, cache, about.classes)
            path, made_from = image_cache.kept_copy(name, folder)
            image_cache.write_arrays(path, arrays, made_from)
    url = next(iter(about.sources.values())).url.rpartition("/")[0]
    return _image_set(name, arrays, f"{url}/, prepared in {folder}")
