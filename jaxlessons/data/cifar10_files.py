"""CIFAR-10 as its authors publish it: binary or Python batches, in a folder or a .tar.gz.

Every file is checked for what it must hold, and refused by name when it holds anything else.
"""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxlessons.data.cifar10_pickle import PickledArray, load_bytes
from jaxlessons.data.image_set import Arrays, check_labels
from jaxlessons.errors import UserError, reason

RECORDS = 10_000  # in a batch file
LARGEST_LABEL = 2**31  # that is taken for one; a message can't show every integer of Python's
PIXELS = 3 * 32 * 32
BINARY_FOLDER, PYTHON_FOLDER = "cifar-10-batches-bin", "cifar-10-batches-py"
PYTHON_BATCHES = (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch")
BINARY_BATCHES = tuple(f"{name}.bin" for name in PYTHON_BATCHES)

Batch = tuple[np.ndarray, np.ndarray]
Parse = Callable[[bytes, str], Batch]


def has_batches(folder: Path) -> bool:
    """Whether any of the six batches is in `folder`, binary or Python."""
    return any((folder / name).is_file() for name in (*BINARY_BATCHES, *PYTHON_BATCHES))


def read_folder(folder: Path) -> Arrays:
    """The six batches in `folder`, binary ones if there are any, otherwise Python ones.

    Raises UserError, naming the file, when one is missing, too large, truncated or altered.
    """
    found = {file.name: file for file in folder.iterdir() if file.is_file()}
    contents = {name: partial(_read_file, file) for name, file in found.items()}
    return _read_batches(contents, lambda name: str(folder / name))


def _read_file(path: Path) -> bytes:
    if path.stat().st_size > _most():
        raise UserError(
            f"{path} has {path.stat().st_size:,} bytes, far more than a batch of CIFAR-10 has: it "
            "is altered; get it again."
        )
    return path.read_bytes()


def _most() -> int:
    """Bytes that a batch may have: a Python one holds the names of its files as well."""
    return 2 * RECORDS * (1 + PIXELS) + 10_000


def read_archive(path: Path) -> Arrays:
    """The six batches in a .tar.gz, wherever in it they lie; nothing is unpacked to the disk.

    Raises UserError, naming the archive, when it is truncated or altered (gzip's own CRC tells),
    lacks a batch, or has or unpacks to far more than six batches have.
    """
    try:
        members = _read_members(path)
    except (UserError, PermissionError):
        raise
    except Exception as error:  # what a broken archive raises differs from byte to byte
        raise UserError(
            f"{path} is not a whole .tar.gz archive ({reason(error)}): it is truncated or altered; "
            "delete it and get it again."
        ) from error
    contents = {name: _constant(blob) for name, blob in members.items()}
    return _read_batches(contents, lambda name: f"{name} in {path}")


def _read_members(path: Path) -> dict[str, bytes]:
    """Of plain files alone: a link or a device is nothing to read."""
    wanted = {*BINARY_BATCHES, *PYTHON_BATCHES}
    members = {}
    most = len(PYTHON_BATCHES) * _most()
    # Ahead of all reading: gzip goes through zeros behind an archive a byte at a time.
    if (stored := path.stat().st_size) > most:
        raise UserError(
            f"{path} has {stored:,} bytes, far more than CIFAR-10's archive: it is altered or "
            "another archive; get it again."
        )
    with gzip.open(path) as unlimited:
        stream = _Limited(unlimited, most, path)
        with tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[call-overload]
            for member in archive:
                name = member.name.rsplit("/", 1)[-1]
                if name in wanted and member.isreg() and (file := archive.extractfile(member)):
                    stream.check(member.size)
                    members[name] = file.read()
        # The CRC stands after the last byte, and tarfile stops before it.
        while stream.read(1 << 20):
            pass
    return members


class _Limited:
    """A stream of which `most` bytes are read: a small archive can unpack to any size."""

    def __init__(self, stream: gzip.GzipFile, most: int, path: Path) -> None:
        self.stream = stream
        self.left = most
        self.path = path

    def read(self, size: int) -> bytes:
        """The next bytes, `size` at most."""
        chunk = self.stream.read(size)
        self.check(len(chunk))
        self.left -= len(chunk)
        return chunk

    def check(self, size: int) -> None:
        """Raises UserError unless so many are left."""
        if size > self.left:
            raise UserError(
                f"{self.path} unpacks to far more than CIFAR-10 has: it is altered or another "
                "archive; get it again."
            )


def _constant(blob: bytes) -> Callable[[], bytes]:
    return lambda: blob


def _read_batches(
    contents: Mapping[str, Callable[[], bytes]], describe: Callable[[str], str]
) -> Arrays:
    """Reads and joins the batches; `describe` tells a batch's name and place in a message."""
    binary = any(name in contents for name in BINARY_BATCHES)
    names = BINARY_BATCHES if binary else PYTHON_BATCHES
    parse: Parse = parse_binary if binary else parse_python
    if missing := [name for name in names if name not in contents]:
        raise UserError(
            f"CIFAR-10 is not complete: {describe(', '.join(missing))} is missing; put it there "
            "or name another place."
        )
    batches = [parse(contents[name](), describe(name)) for name in names]
    images, labels = zip(*batches, strict=True)
    train = np.concatenate(images[:-1]), np.concatenate(labels[:-1])
    return Arrays(*train, images[-1], labels[-1])


def parse_binary(blob: bytes, name: str) -> Batch:
    """Images and labels of a binary batch: 10,000 times a label byte and 3,072 pixel bytes."""
    expected = RECORDS * (1 + PIXELS)
    if len(blob) != expected:
        raise UserError(
            f"{name} has {len(blob):,} bytes where a batch of CIFAR-10 has {expected:,}: it is "
            "truncated or altered; get it again."
        )
    records = np.frombuffer(blob, np.uint8).reshape(RECORDS, 1 + PIXELS)
    return _images(records[:, 1:]), check_labels(records[:, 0], name)


def parse_python(blob: bytes, name: str) -> Batch:
    """Images and labels of a Python batch, a pickled dict with b"data" and b"labels"."""
    batch = _unpickle(blob, name)
    stored = batch.get(b"data") if isinstance(batch, dict) else None
    data = stored.array if isinstance(stored, PickledArray) else None
    if data is None or data.shape != (RECORDS, PIXELS):
        raise UserError(
            f"{name} has no b'data' of {RECORDS:,} x {PIXELS:,} bytes: it is not a batch of "
            "CIFAR-10, or it is altered; get it again."
        )
    labels = batch.get(b"labels")
    if not (
        isinstance(labels, list)
        and len(labels) == RECORDS
        and all(type(label) is int and abs(label) <= LARGEST_LABEL for label in labels)
    ):
        raise UserError(f"{name} has no b'labels' of {RECORDS:,} integers; get it again.")
    return _images(data), check_labels(np.array(labels, np.int64), name)


def _images(planes: np.ndarray) -> np.ndarray:
    """`[n, 3072]`, the red, green and blue planes of each image, to `[n, 32, 32, 3]`."""
    return np.ascontiguousarray(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _unpickle(blob: bytes, name: str) -> Any:
    try:
        return load_bytes(blob)
    except Exception as error:  # a broken pickle may raise anything
        raise UserError(
            f"{name} is not a batch that can be read safely ({reason(error)}): it is truncated or "
            "altered; get it again."
        ) from error
