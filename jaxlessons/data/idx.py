"""Arrays of bytes in idx files, the layout in which MNIST is published, plain or in gzip.

Two zero bytes, the type (8 for bytes), the number of dimensions, the size of each as a big-endian
32-bit number, and then the bytes. http://yann.lecun.com/exdb/mnist/
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from jaxlessons.data.gzip_files import unpack
from jaxlessons.errors import UserError

BYTES = 8  # the type's number


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The uint8 array of this shape in `path`, which ends in .gz when it is compressed.

    Raises UserError, naming the file, when it is truncated or altered (gzip's own CRC tells),
    another kind of file, or holds an array of another shape. OSError when it can't be read.
    """
    head = 4 + 4 * len(shape)
    size = head + math.prod(shape)
    # Ahead of all reading: gzip goes through zeros behind an archive a byte at a time.
    most = 2 * size + 10_000
    if (stored := path.stat().st_size) > most:
        raise UserError(
            f"{path} has {stored:,} bytes, far more than an idx file of {_by(shape)}: it is "
            "altered or another file; get it again."
        )
    packed = path.suffix == ".gz"
    blob = unpack(_read(path, most), size, path) if packed else _read(path, size)
    if blob[:4] != bytes((0, 0, BYTES, len(shape))):
        raise UserError(
            f"{path} is no idx file of bytes in {len(shape)} dimensions: it is altered or another "
            "file; get it again."
        )
    found = struct.unpack_from(f">{len(shape)}I", blob.ljust(head, b"\0"), 4)
    if len(blob) >= head and found != shape:
        raise UserError(
            f"{path} holds {_by(found)} bytes where {_by(shape)} were expected: it is altered or "
            "another data set's; get it again."
        )
    if len(blob) != size:
        known = f"{len(blob):,}" if len(blob) < size else f"more than {size:,}"
        raise UserError(
            f"{path} has {known} bytes where an idx file of {_by(shape)} has {size:,}: it is "
            "truncated or altered; get it again."
        )
    return np.frombuffer(blob, np.uint8, offset=head).reshape(shape)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{side:,}" for side in shape)


def _read(path: Path, most: int) -> bytes:
    """The file, and of a longer one a byte more than `most`."""
    with path.open("rb") as file:
        return file.read(most + 1)
