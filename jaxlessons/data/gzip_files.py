"""What gzip packed, which may be of any size, read up to a limit."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

from jaxlessons.errors import UserError, reason


def unpack(packed: bytes, most: int, path: Path) -> bytes:
    """What `packed`, the content of `path`, holds, or `most` bytes and one more.

    Raises UserError, naming the file, when it is truncated or altered. It is read to its end,
    where its CRC stands, unless it holds more than `most` bytes.
    """
    try:
        return gzip.GzipFile(fileobj=io.BytesIO(packed)).read(most + 1)
    except Exception as error:  # what a broken file raises differs from byte to byte
        raise UserError(
            f"{path} is not a whole gzip file ({reason(error)}): it is truncated or altered; get "
            "it again."
        ) from error
