"""CIFAR-10 from a folder or the network, or the embedded "shapes" where there is neither."""

from __future__ import annotations

import contextlib
import inspect
import os
from pathlib import Path

from jaxlessons.data import cifar10_builder, cifar10_files, image_cache
from jaxlessons.data import shapes as formula
from jaxlessons.data.download import (
    DATA_VARIABLE,
    NoNetworkError,
    Source,
    cache_dir,
    cache_errors,
    fetch,
)
from jaxlessons.data.image_set import Arrays, statistics
from jaxlessons.data.image_set import ImageSet as ImageSet
from jaxlessons.errors import UserError
from jaxlessons.files import expanded

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
# Per channel, over the training images in 0..1, as the lesson has them.
MEAN = (0.4914, 0.48216, 0.44653)
STD = (0.24703, 0.24349, 0.26159)

ARCHIVE = Source(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    size=170_052_171,
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
ARCHIVE_NAMES = ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz")
HOLDS = (
    f"{cifar10_files.BINARY_FOLDER}/, {cifar10_files.PYTHON_FOLDER}/, "
    f"{' or '.join(ARCHIVE_NAMES)}, or a copy by TensorFlow Datasets "
    f"({cifar10_builder.NAME}/{cifar10_builder.VERSION}/)"
)
SHAPES = {"train": (50_000, 0), "test": (10_000, 1)}  # how many images, and the seed


def load(data_dir: str | Path | None = None, *, offline_default: bool = True) -> ImageSet:
    """CIFAR-10 from `data_dir`, else from JAXLESSONS_DATA, else downloaded once and kept.

    A given folder holds the published batches, binary or Python, their archive, or a copy by
    TensorFlow Datasets; it may also be one of these itself. It is used or refused: nothing else
    ever stands in for it. A download is prepared in `cache_dir()`, and later loads take a second.
    Without a folder and without network, the embedded "shapes" come instead, and their `source`
    says why.

    Raises:
      UserError: when what was given, or what is in the cache, is missing, truncated, altered or
        not CIFAR-10, or when the cache's disk is full or read-only.
      NoNetworkError: without a folder and without network, if not `offline_default`.
    """
    if data_dir is not None:
        return _load_given(expanded(data_dir), "data_dir")
    if from_environment := os.environ.get(DATA_VARIABLE):
        return _load_given(expanded(from_environment), DATA_VARIABLE)
    try:
        return _load_cached()
    except NoNetworkError as error:
        if not offline_default:
            raise
        return shapes(f"no data folder was given and {str(error).rstrip('.')}")


def shapes(why: str = "they were asked for", *, grey: bool = False) -> ImageSet:
    """The embedded default, 50,000 and 10,000 images; `why` completes its source's sentence.

    grey: whether they are to be 28x28 with one channel, as MNIST's, and not 32x32 in colour.
    """
    name, size, channels = ("grey shapes", 28, 1) if grey else ("shapes", 32, 3)
    path = cache_dir() / "arrays" / f"{name.replace(' ', '-')}.npz"
    made_from = image_cache.digest(inspect.getsource(formula) + repr(SHAPES))
    arrays = image_cache.read_arrays(path, made_from, (size, size, channels))
    if arrays is None:
        train, test = (
            formula.make_shapes(*SHAPES[split], size, channels) for split in ("train", "test")
        )
        arrays = Arrays(*train, *test)
        with contextlib.suppress(OSError):  # it only saves seconds
            image_cache.write_arrays(path, arrays, made_from)
    source = f"made by a formula, since {why}"
    mean, std = statistics(arrays.train_images)
    return ImageSet(name, source, formula.CLASSES, *arrays, mean, std)


def _cifar10(arrays: Arrays, source: str) -> ImageSet:
    return ImageSet("CIFAR-10", source, CLASSES, *arrays, MEAN, STD)


def _load_given(path: Path, origin: str) -> ImageSet:
    """The data at `path`, which was named by `origin`."""
    try:
        if not path.exists():
            raise UserError(
                f"{path}, given as {origin}, does not exist; name a folder that holds {HOLDS}."
            )
        if path.is_file():
            return _cifar10(cifar10_files.read_archive(path), f"the archive {path}")
        return _load_folder(path, origin)
    except OSError as error:
        raise UserError(
            f"{path}, given as {origin}, can't be read ({error}); check its permissions."
        ) from error


def _load_folder(path: Path, origin: str) -> ImageSet:
    for folder in (path, path / cifar10_files.BINARY_FOLDER, path / cifar10_files.PYTHON_FOLDER):
        if (folder != path and folder.is_dir()) or cifar10_files.has_batches(folder):
            return _cifar10(cifar10_files.read_folder(folder), f"the batches in {folder}")
    for folder in (path, path / cifar10_builder.VERSION, cifar10_builder.prepared_folder(path)):
        if (folder / "dataset_info.json").is_file():
            return _cifar10(_read_prepared(folder, must_keep=False), f"the TFDS copy in {folder}")
    for archive in (path / name for name in ARCHIVE_NAMES):
        if archive.is_file():
            return _cifar10(cifar10_files.read_archive(archive), f"the archive {archive}")
    found = ", ".join(sorted(entry.name for entry in path.iterdir())[:5]) or "nothing"
    raise UserError(
        f"{path}, given as {origin}, holds {found} where CIFAR-10 was expected; name a folder that "
        f"holds {HOLDS}."
    )


def _read_prepared(folder: Path, *, must_keep: bool) -> Arrays:
    """The TFDS copy in `folder`, decoded once and kept as arrays for as long as it is the same."""

    def decode(folder: Path) -> Arrays:
        return cifar10_builder.read_prepared(folder)

    return image_cache.read_copy("cifar10", folder, decode, must_keep=must_keep)


def _load_cached() -> ImageSet:
    """CIFAR-10 from the cache, where the published archive is downloaded and prepared first."""
    cache = cache_dir()
    folder = cifar10_builder.prepared_folder(cache)
    with cache_errors(cache):
        if folder.exists():
            arrays = _read_prepared(folder, must_keep=True)
        else:
            arrays = cifar10_files.read_archive(fetch(ARCHIVE, cache / "downloads"))
            cifar10_builder.prepare(arrays, cache, CLASSES)
            path, made_from = image_cache.kept_copy("cifar10", folder)
            image_cache.write_arrays(path, arrays, made_from)
    return _cifar10(arrays, f"{ARCHIVE.url}, prepared in {folder}")
