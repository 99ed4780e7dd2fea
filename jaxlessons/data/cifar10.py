"""CIFAR-10 from a folder or the network, or the embedded "shapes" where there is neither."""

from __future__ import annotations

import contextlib
import errno
import inspect
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxlessons.data import cifar10_builder, cifar10_cache, cifar10_files
from jaxlessons.data import shapes as formula
from jaxlessons.data.cifar10_files import Arrays
from jaxlessons.data.download import DATA_VARIABLE, NoNetworkError, Source, cache_dir, fetch
from jaxlessons.errors import UserError

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


@dataclass(frozen=True)
class ImageSet:
    """Images `[n, 32, 32, 3]` uint8 and labels `[n]` int32 of a training and a test split.

    name: "CIFAR-10" or "shapes". source: a sentence on where it came from. mean, std: of each
    channel over the training images, with pixels in 0..1.
    """

    name: str
    source: str
    classes: tuple[str, ...]
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    mean: tuple[float, ...]
    std: tuple[float, ...]


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
        return _load_given(Path(data_dir).expanduser(), "data_dir")
    if from_environment := os.environ.get(DATA_VARIABLE):
        return _load_given(Path(from_environment).expanduser(), DATA_VARIABLE)
    try:
        return _load_cached()
    except NoNetworkError as error:
        if not offline_default:
            raise
        return shapes(f"no data folder was given and {str(error).rstrip('.')}")


def shapes(why: str = "they were asked for") -> ImageSet:
    """The embedded default, 50,000 and 10,000 images; `why` completes its source's sentence."""
    path = cache_dir() / "arrays" / "shapes.npz"
    made_from = cifar10_cache.digest(inspect.getsource(formula) + repr(SHAPES))
    arrays = cifar10_cache.read_arrays(path, made_from)
    if arrays is None:
        train, test = (formula.make_shapes(*SHAPES[split]) for split in ("train", "test"))
        arrays = Arrays(*train, *test)
        with contextlib.suppress(OSError):  # it only saves seconds
            cifar10_cache.write_arrays(path, arrays, made_from)
    source = f"made by a formula, since {why}"
    mean, std = _statistics(arrays.train_images)
    return ImageSet("shapes", source, formula.CLASSES, *arrays, mean, std)


def _statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, with pixels in 0..1."""
    levels = np.arange(256) / 255
    mean, std = [], []
    for channel in range(images.shape[-1]):
        # Counting levels needs no floating-point copy of the images.
        blocks = np.array_split(images[..., channel], 1 + len(images) // 5000)
        counts = sum(np.bincount(block.ravel(), minlength=256) for block in blocks)
        mean.append(float(np.average(levels, weights=counts)))
        std.append(float(np.average((levels - mean[-1]) ** 2, weights=counts) ** 0.5))
    return tuple(mean), tuple(std)


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


def _kept_arrays(folder: Path) -> tuple[Path, str]:
    """Where the decoded arrays of the TFDS copy in `folder` are kept, and what they come from."""
    name = f"cifar10-{cifar10_cache.digest(str(folder.resolve()))[:16]}.npz"
    return cache_dir() / "arrays" / name, cifar10_cache.fingerprint(folder)


def _read_prepared(folder: Path, *, must_keep: bool) -> Arrays:
    """The TFDS copy in `folder`, decoded once and kept as arrays for as long as it is the same."""
    path, made_from = _kept_arrays(folder)
    arrays = cifar10_cache.read_arrays(path, made_from)
    if arrays is None:
        arrays = cifar10_builder.read_prepared(folder)
        # A folder of the user's can be read again, if slowly, where the cache can't be written.
        with contextlib.nullcontext() if must_keep else contextlib.suppress(OSError):
            cifar10_cache.write_arrays(path, arrays, made_from)
    return arrays


def _load_cached() -> ImageSet:
    """CIFAR-10 from the cache, where the published archive is downloaded and prepared first."""
    cache = cache_dir()
    folder = cifar10_builder.prepared_folder(cache)
    with _explained(cache):
        if folder.exists():
            arrays = _read_prepared(folder, must_keep=True)
        else:
            arrays = cifar10_files.read_archive(fetch(ARCHIVE, cache / "downloads"))
            cifar10_builder.prepare(arrays, cache, CLASSES)
            path, made_from = _kept_arrays(folder)
            cifar10_cache.write_arrays(path, arrays, made_from)
    return _cifar10(arrays, f"{ARCHIVE.url}, prepared in {folder}")


@contextlib.contextmanager
def _explained(cache: Path) -> Iterator[None]:
    """Turns what the disk refuses into a UserError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"The disk of {cache} is full; free half a gigabyte, or set JAXLESSONS_CACHE to a "
                "folder on another disk."
            ) from error
        raise UserError(
            f"{cache} can't be used as the cache ({error}); set JAXLESSONS_CACHE to a folder that "
            "can be written."
        ) from error
