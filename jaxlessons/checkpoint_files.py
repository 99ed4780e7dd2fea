"""The disk under the checkpoints: its room, its errors, and a checksum of every file."""

from __future__ import annotations

import json
import shutil
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jaxlessons.errors import UserError
from jaxlessons.files import DISK_ERRORS, expanded, replacing

CHECKSUMS = "checksums.json"


def check_directory(directory: str | Path) -> Path:
    """The absolute path; UserError where orbax would take it for a pattern and save in vain."""
    directory = expanded(directory).resolve()
    if found := set(str(directory)) & set("*?[]"):
        raise UserError(
            f"{directory} can't hold checkpoints, because of the {' '.join(sorted(found))} in its "
            "name: choose another."
        )
    return directory


def folders(directory: Path) -> list[int]:
    """Those that have a folder, ascending, though it may be half a checkpoint."""
    folders = directory.iterdir() if directory.is_dir() else []
    return sorted(int(f.name) for f in folders if f.name.isdecimal() and f.is_dir())


def check_space(directory: Path, state: Any) -> None:
    """Refuses before it begins what can't fit: half a checkpoint would only fill the disk."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    free = shutil.disk_usage(directory).free
    if free < size:
        raise UserError(
            f"The disk of {directory} is full: a checkpoint takes {_shown(size)} and "
            f"{_shown(free)} are free; make room, or choose another place for the run."
        )


def _shown(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e7 else f"{size / 1e3:,.0f} kB"


def is_disk_error(error: BaseException) -> bool:
    """Whether it says that the disk is full or can't be written, however deep it is wrapped."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return True
    if "No space left" in str(error) or "Disk quota" in str(error):
        return True
    return error.__cause__ is not None and is_disk_error(error.__cause__)


def _checksums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): _crc32(path)
        for path in files
        if path != folder / CHECKSUMS
    }


def _crc32(path: Path) -> str:
    value = 0
    with path.open("rb") as file:
        while block := file.read(2**22):
            value = zlib.crc32(block, value)
    return f"{value:08x}"


def write_checksums(folder: Path) -> None:
    """Puts the checksum of every file in `folder` beside them."""
    with replacing(folder / CHECKSUMS) as file:
        file.write_text(json.dumps(_checksums(folder), indent=1))


def finished(folder: Path) -> bool:
    """Whether the checkpoint was written to its end, which the checksums are."""
    return (folder / CHECKSUMS).is_file()


def verify_checksums(folder: Path) -> None:
    """Raises DamagedError unless every file is as it was written.

    Orbax notices some damage late and noisily, and an altered value not at all.
    """
    if not finished(folder):
        raise damaged(folder, f"it has no {CHECKSUMS}, so it was not written to its end")
    try:
        written = dict(json.loads((folder / CHECKSUMS).read_text()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise damaged(folder, f"{CHECKSUMS} can't be read") from error
    found = _checksums(folder)
    for name in sorted(written.keys() | found.keys()):
        if found.get(name) != written.get(name):
            raise damaged(folder, f"{name} is not as it was written")


class DamagedError(UserError):
    """A checkpoint is not as it was written."""


def damaged(folder: Path, reason: str) -> DamagedError:
    """The error that names the checkpoint at fault."""
    return DamagedError(
        f"The checkpoint {folder} is damaged ({reason}): delete that folder to go on from the "
        "checkpoint before it."
    )


def say_damaged(sentence: str) -> None:
    """To stderr."""
    print(f"warning: {sentence}", file=sys.stderr)


def all_steps(directory: str | Path) -> list[int]:
    """The steps that have a finished checkpoint, ascending; empty when there is no directory."""
    directory = expanded(directory).resolve()
    return [s for s in folders(directory) if finished(directory / str(s))]


def latest_step(directory: str | Path) -> int | None:
    """The highest step with a checkpoint, or None."""
    return max(all_steps(directory), default=None)


def latest_good_step(
    directory: str | Path, tell: Callable[[str], None] = say_damaged
) -> int | None:
    """The highest step whose checkpoint is as it was written; None when none was ever finished.

    tell: gets a sentence for each later one that isn't; by default it goes to stderr.

    Raises:
      DamagedError: when there are finished checkpoints, and all are damaged.
    """
    directory = expanded(directory).resolve()
    damaged: DamagedError | None = None
    for step in reversed(folders(directory)):
        try:
            verify_checksums(directory / str(step))
        except DamagedError as error:
            tell(f"{error} The one before it is tried now.")
            if damaged is None and finished(directory / str(step)):
                damaged = error
        else:
            return step
    if damaged is not None:
        raise damaged
    return None
