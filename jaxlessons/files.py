"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxlessons.errors import UserError

# errno of a disk that is full or that may not be written.
DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})

_TEMPORARY = re.compile(r"\..+\.\d+(\.[^.]+)?")


def expanded(path: str | Path) -> Path:
    """`path` with ~ and ~user written out; UserError where there is no such home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{path} begins with a home folder that is not known here: write the whole path."
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when the block ends without error.

    On an error what was written vanishes, and a file that was there before stays. The suffix is
    kept, since matplotlib and numpy go by it. A process that is killed leaves the temporary
    behind: `remove_leftovers` is for that. An error of the disk names `path`.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    with naming(path, instead_of=temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _put_in_place(temporary, path)
        finally:
            # What stops the writing is to be told, and not what stops the tidying up after it.
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path, instead_of: Path | None = None) -> Iterator[None]:
    """Has an error of the disk that names no file, such as a write's, name `path`.

    instead_of: a name that says nothing to the user, such as a temporary's.
    """
    try:
        yield
    except OSError as error:
        unnamed = error.filename in (None, str(instead_of))
        if unnamed and error.errno in DISK_ERRORS:
            error.filename = str(path)
            if error.filename2 is not None:  # of a rename, which has two
                del error.filename2
        raise


def _put_in_place(temporary: Path, path: Path) -> None:
    """Renames once the content is on the disk, or a power cut could leave an empty file."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    # Not every system opens a folder or syncs one, and the file is whole without it.
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def is_leftover(path: Path) -> bool:
    """Whether it is a file with the name of one of `replacing`'s temporaries."""
    return _TEMPORARY.fullmatch(path.name) is not None and path.is_file()


def remove_leftovers(folder: Path) -> None:
    """Removes, from `folder` and those within it, what killed processes left of `replacing`.

    No other process may be writing there: its temporaries would go too.
    """
    for path in folder.rglob(".*"):
        if is_leftover(path):
            path.unlink(missing_ok=True)
