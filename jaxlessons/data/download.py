"""Files from their public source: a progress bar, a checked hash, and never half a file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from jaxlessons.errors import UserError
from jaxlessons.files import expanded, replacing

DATA_VARIABLE = "JAXLESSONS_DATA"  # names a folder of the user's own with published files
CHUNK = 1 << 20
TIMEOUT_S = 20
UNREACHABLE = (
    urllib.error.URLError,
    TimeoutError,
    ConnectionError,
    ssl.SSLError,
    http.client.HTTPException,
)


class NoNetworkError(UserError):
    """The source could not be reached; a caller with an embedded default goes on with that."""


@dataclass(frozen=True)
class Source:
    """A public file: its address, size in bytes and SHA-256, in hexadecimal."""

    url: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def cache_dir() -> Path:
    """Where downloads and prepared data are kept: JAXLESSONS_CACHE, else the user's cache."""
    if folder := os.environ.get("JAXLESSONS_CACHE"):
        return expanded(folder).resolve()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expanded(base).resolve() / "jaxlessons"


@contextlib.contextmanager
def cache_errors(cache: Path) -> Iterator[None]:
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


def check_file(path: Path, source: Source) -> None:
    """Raises UserError, naming the file, when its size or hash is not the published one."""
    if fault := _fault(path, source):
        raise UserError(f"{path} {fault}; delete it and run again.")


def _fault(path: Path, source: Source) -> str | None:
    size = path.stat().st_size
    if size != source.size:
        return (
            f"has {size:,} bytes where {source.size:,} were published: it is truncated or altered"
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != source.sha256:
        return (
            f"does not have the published checksum (sha256 {digest[:12]}..., expected "
            f"{source.sha256[:12]}...): it is altered"
        )
    return None


def fetch(source: Source, folder: Path) -> Path:
    """Downloads `source` into `folder` unless it is there already; returns the checked file.

    The file gets its name only when it is whole and its hash is right, so that a broken
    download never stands in for a good one.

    Raises:
      NoNetworkError: when the source can't be reached.
      UserError: when what is there, or what came, is not the published file.
    """
    path = folder / source.name
    if path.exists():
        check_file(path, source)
        return path
    with replacing(path) as partial:
        _download(source, partial)
        if fault := _fault(partial, source):
            raise UserError(f"What came from {source.url} {fault}; run again.")
    return path


def _download(source: Source, path: Path) -> None:
    try:
        with (
            urllib.request.urlopen(source.url, timeout=TIMEOUT_S) as reply,
            path.open("wb") as file,
            tqdm(total=source.size, unit="B", unit_scale=True, desc=source.name) as bar,
        ):
            # One byte more than expected is enough to see that a file is too long.
            while file.tell() <= source.size and (chunk := reply.read(CHUNK)):
                file.write(chunk)
                bar.update(len(chunk))
    except UNREACHABLE as error:
        reason = getattr(error, "reason", error)
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise NoNetworkError(f"{source.url} could not be reached ({reason}).") from error
