"""CIFAR-10 as TensorFlow Datasets keeps it: what `tfds_copy` and `tfds_reader` must know of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxlessons.data import tfds_copy, tfds_reader
from jaxlessons.data.image_set import Arrays
from jaxlessons.data.tfds_copy import Kind
from jaxlessons.data.tfds_reader import INFO_FILES as INFO_FILES

NAME, VERSION = "cifar10", "3.0.2"
SPLITS = {"train": 50_000, "test": 10_000}
HOMEPAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"


def _kind() -> Kind:
    return Kind(NAME, VERSION, "CIFAR-10", HOMEPAGE, (32, 32, 3), SPLITS, has_ids=True)


def prepared_folder(data_dir: Path) -> Path:
    """Where a TFDS data directory keeps CIFAR-10."""
    return _kind().folder(data_dir)


def prepare(arrays: Arrays, data_dir: Path, classes: Sequence[str]) -> Path:
    """Writes `arrays` as a TFDS copy into `data_dir`, with progress bars; returns its folder."""
    return tfds_copy.prepare(_kind(), arrays, data_dir, classes)


def read_prepared(folder: Path) -> Arrays:
    """The TFDS copy in `folder`, in the order of the published files (TFDS shuffles its own).

    Raises UserError, naming the file or folder, when it is not CIFAR-10, has other than 50,000
    and 10,000 images, or is truncated or altered.
    """
    return tfds_reader.read_prepared(_kind(), folder)
