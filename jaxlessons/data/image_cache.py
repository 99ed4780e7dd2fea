"""Arrays that took long to make, kept as an uncompressed .npz that loads in a second."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxlessons.data.download import cache_dir
from jaxlessons.data.image_set import CLASS_COUNT, Arrays
from jaxlessons.errors import UserError, reason
from jaxlessons.files import replacing
from jaxlessons.npz import open_npz

Shape = tuple[int, int, int]
CIFAR10: Shape = (32, 32, 3)


def fingerprint(folder: Path) -> str:
    """Changes with the place of `folder` and with its files' names, sizes and times."""
    files = [(file.name, file.stat()) for file in sorted(folder.iterdir())]
    facts = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in files]
    return digest(repr((str(folder.resolve()), facts)))


def digest(text: str) -> str:
    """The SHA-256 of `text`, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_arrays(path: Path, arrays: Arrays, made_from: str) -> None:
    """Writes `arrays` and the fingerprint of what they were made from; OSError if it can't."""
    with replacing(path) as temporary:
        np.savez(temporary, made_from=np.array(made_from), **arrays._asdict())


def kept_copy(name: str, folder: Path) -> tuple[Path, str]:
    """Where the decoded arrays of the TFDS copy in `folder` are kept, and what they come from."""
    file = f"{name}-{digest(str(folder.resolve()))[:16]}.npz"
    return cache_dir() / "arrays" / file, fingerprint(folder)


def read_copy(
    name: str,
    folder: Path,
    decode: Callable[[Path], Arrays],
    *,
    must_keep: bool,
    shape: Shape = CIFAR10,
) -> Arrays:
    """The TFDS copy in `folder`, decoded once and kept as arrays for as long as it is the same."""
    path, made_from = kept_copy(name, folder)
    arrays = read_arrays(path, made_from, shape)
    if arrays is None:
        arrays = decode(folder)
        # A folder of the user's can be read again, if slowly, where the cache can't be written.
        with contextlib.nullcontext() if must_keep else contextlib.suppress(OSError):
            write_arrays(path, arrays, made_from)
    return arrays


def read_arrays(path: Path, made_from: str, shape: Shape = CIFAR10) -> Arrays | None:
    """What `write_arrays` wrote; None if no file can be read or it is of something else.

    shape: that of an image, (height, width, channels).

    Raises UserError, naming the file, when it is truncated or altered (zip's own CRC tells).
    """
    if not os.access(path, os.R_OK):
        return None
    try:
        with open_npz(path, stored_only=True) as stored:
            if str(stored["made_from"].read()) != made_from:
                return None
            return _check(Arrays(**{name: stored[name].read() for name in Arrays._fields}), shape)
    except Exception as error:  # what a broken zip file raises differs from byte to byte
        raise UserError(
            f"{path} is truncated or altered ({reason(error)}); delete it and run again, it will "
            "be made anew."
        ) from error


def _check(arrays: Arrays, shape: Shape) -> Arrays:
    for images, labels in (arrays[:2], arrays[2:]):
        if images.shape != (len(labels), *shape) or images.dtype != np.uint8:
            raise ValueError(f"it holds {images.dtype} images of shape {images.shape}")
        if labels.shape != (len(labels),) or labels.dtype != np.int32:
            raise ValueError(f"it holds {labels.dtype} labels of shape {labels.shape}")
        if not ((labels >= 0) & (labels < CLASS_COUNT)).all():
            raise ValueError("it holds labels of no class")
    return arrays
