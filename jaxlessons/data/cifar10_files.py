"""CIFAR-10 as its authors publish it: binary or Python batches, in a folder or a .tar.gz.

Every file is checked for what it must hold, and refused by name when it holds anything else.
"""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy._core import multiarray

from jaxlessons.errors import UserError

RECORDS = 10_000  # in a batch file
CLASS_COUNT = 10
PIXELS = 3 * 32 * 32
BINARY_FOLDER, PYTHON_FOLDER = "cifar-10-batches-bin", "cifar-10-batches-py"
PYTHON_BATCHES = (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch")
BINARY_BATCHES = tuple(f"{name}.bin" for name in PYTHON_BATCHES)

Batch = tuple[np.ndarray, np.ndarray]
Parse = Callable[[bytes, str], Batch]


class Arrays(NamedTuple):
    """Images `[n, 32, 32, 3]` uint8 and labels `[n]` int32 of both splits."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def has_batches(folder: Path) -> bool:
    """Whether any of the six batches is in `folder`, binary or Python."""
    return any((folder / name).is_file() for name in (*BINARY_BATCHES, *PYTHON_BATCHES))


def read_folder(folder: Path) -> Arrays:
    """The six batches in `folder`, binary ones if there are any, otherwise Python ones.

    Raises UserError, naming the file, when one is missing, truncated or altered.
    """
    found = {file.name: file for file in folder.iterdir() if file.is_file()}
    contents = {name: file.read_bytes for name, file in found.items()}
    return _read_batches(contents, lambda name: str(folder / name))


def read_archive(path: Path) -> Arrays:
    """The six batches in a .tar.gz, wherever in it they lie; nothing is unpacked to the disk.

    Raises UserError, naming the archive, when it is truncated or altered (gzip's own CRC tells)
    or lacks a batch.
    """
    try:
        members = _read_members(path)
    except (gzip.BadGzipFile, tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path} is not a whole .tar.gz archive ({error}): it is truncated or altered; "
            "delete it and get it again."
        ) from error
    contents = {name: _constant(blob) for name, blob in members.items()}
    return _read_batches(contents, lambda name: f"{name} in {path}")


def _read_members(path: Path) -> dict[str, bytes]:
    wanted = {*BINARY_BATCHES, *PYTHON_BATCHES}
    members = {}
    with gzip.open(path) as stream:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                name = member.name.rsplit("/", 1)[-1]
                if name in wanted and (file := archive.extractfile(member)):
                    members[name] = file.read()
        # The CRC stands after the last byte, and tarfile stops before it.
        while stream.read(1 << 20):
            pass
    return members


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
    data = batch.get(b"data") if isinstance(batch, dict) else None
    if not (
        isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.shape == (RECORDS, PIXELS)
    ):
        raise UserError(
            f"{name} has no b'data' of {RECORDS:,} x {PIXELS:,} bytes: it is not a batch of "
            "CIFAR-10, or it is altered; get it again."
        )
    labels = batch.get(b"labels")
    if not (
        isinstance(labels, list)
        and len(labels) == RECORDS
        and all(type(label) is int for label in labels)
    ):
        raise UserError(f"{name} has no b'labels' of {RECORDS:,} integers; get it again.")
    return _images(data), check_labels(np.array(labels, object), name)


def _images(planes: np.ndarray) -> np.ndarray:
    """`[n, 3072]`, the red, green and blue planes of each image, to `[n, 32, 32, 3]`."""
    return np.ascontiguousarray(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def check_labels(labels: np.ndarray, name: str) -> np.ndarray:
    """`labels` as int32; raises UserError, naming `name`, unless all of them are 0 to 9."""
    outside = np.flatnonzero((labels < 0) | (labels >= CLASS_COUNT))
    if len(outside):
        raise UserError(
            f"{name} has the label {labels[outside[0]]} at record {outside[0]:,} where CIFAR-10's "
            "are 0 to 9: it is altered or another data set; get it again."
        )
    return labels.astype(np.int32)


def _unpickle(blob: bytes, name: str) -> Any:
    try:
        return _Unpickler(blob).load()
    except Exception as error:  # a broken pickle may raise anything
        raise UserError(
            f"{name} is not a batch that can be read safely ({error}): it is truncated or "
            "altered; get it again."
        ) from error


def _byte_dtype(spec: str | bytes, *_: object) -> np.dtype:
    """numpy.dtype for the one dtype a batch needs.

    A copy, since the pickle goes on to set its state; numpy warns of the old pickles' other
    arguments.
    """
    if spec not in ("u1", b"u1"):
        raise pickle.UnpicklingError(f"it holds an array of {spec!r}")
    return np.dtype("u1", copy=True)


def _latin1(text: str, encoding: str) -> bytes:
    """codecs.encode, as Python 3 writes bytes into a protocol 2 pickle."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the codec {encoding!r}")
    return text.encode("latin1")


def _array(buffer: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str, *_: object) -> Any:
    """numpy's own for protocol 5."""
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)  # type: ignore[call-overload]


class _Unpickler(pickle.Unpickler):
    """Builds arrays of bytes and nothing else, so that no pickle can run code."""

    ALLOWED: ClassVar[dict[tuple[str, str], Callable[..., Any]]] = {
        ("numpy.core.multiarray", "_reconstruct"): multiarray._reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): multiarray._reconstruct,
        ("numpy.core.numeric", "_frombuffer"): _array,
        ("numpy._core.numeric", "_frombuffer"): _array,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _byte_dtype,
        ("_codecs", "encode"): _latin1,
    }

    def __init__(self, blob: bytes) -> None:
        super().__init__(io.BytesIO(blob), encoding="bytes")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self.ALLOWED[module, name]
