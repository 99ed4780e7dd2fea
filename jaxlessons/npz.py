"""Arrays in an .npz file, whose shapes are told before any memory is taken for them."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from jaxlessons.quiet import QUIET

READ_HEADER = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
LARGEST_ITEM = 16  # bytes of a number; of a text, the file's own size is the limit


class StoredArray(NamedTuple):
    """An array in an open file. shape: reads its header alone; read: all of it."""

    shape: Callable[[], tuple[int, ...]]
    read: Callable[[], np.ndarray]


@contextmanager
def open_npz(path: Path, *, stored_only: bool = False) -> Iterator[dict[str, StoredArray]]:
    """The arrays in `path` by their names; never one of Python's objects, which are pickles.

    A broken file raises whatever zipfile, zlib or numpy raise, which differs from byte to byte.

    stored_only: whether to refuse, by ValueError, what is compressed or is to be larger than the
      file, as nothing that `np.savez` writes is.
    """
    with zipfile.ZipFile(path) as archive:
        most = path.stat().st_size if stored_only else None
        arrays = {}
        for info in archive.infolist():
            if most is not None and (info.compress_type or info.file_size > most):
                raise ValueError(f"{info.filename} in it is compressed or too large")
            found = StoredArray(partial(_shape, archive, info), partial(_read, archive, info))
            arrays[info.filename.removesuffix(".npy")] = found
        yield arrays


def _shape(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[int, ...]:
    with QUIET, archive.open(info) as file:  # a header is Python, whose escapes may be wrong
        return _header(file, info)


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Only once the header is found to ask for no more than there is."""
    _shape(archive, info)
    with QUIET, archive.open(info) as file:
        array = npy.read_array(file, allow_pickle=False)
        file.read(1)  # at whose end zipfile compares the checksum
        return array


def _header(file: IO[bytes], info: zipfile.ZipInfo) -> tuple[int, ...]:
    version = npy.read_magic(file)
    if version not in READ_HEADER:
        raise ValueError(f"{info.filename} in it is of the unknown version {version}")
    shape, _, dtype = READ_HEADER[version](file)
    if dtype.hasobject:
        raise ValueError("Object arrays are pickles, which are not loaded")
    if dtype.kind != "U" and dtype.itemsize > LARGEST_ITEM:
        raise ValueError(f"{info.filename} in it has elements of {dtype.itemsize:,} bytes")
    if min(shape, default=0) < 0 or _size(shape, dtype) != info.file_size - file.tell():
        raise ValueError(f"{info.filename} in it is not as large as its shape {shape} asks for")
    return shape


def _size(shape: tuple[int, ...], dtype: np.dtype) -> int:
    return math.prod(shape) * dtype.itemsize
