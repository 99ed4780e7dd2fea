"""Arrays as .npz files, of which one member may be broken."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np

Arrays = Mapping[str, np.ndarray]


def npz(arrays: Arrays, change: str = "", blob: bytes = b"", method: int = 0) -> bytes:
    """The file's bytes, with `blob` as the member `change`; its checksums are right.

    method: zipfile's, of compression.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy")
            info.compress_type = method
            archive.writestr(info, blob if name == change else npy(array))
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    """A member's bytes."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
