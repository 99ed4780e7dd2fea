"""The disk under the checkpoints: its room, its errors, and a checksum of every file."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import jax

from jaxlessons.errors import UserError
from jaxlessons.files import DISK_ERRORS, replacing

CHECKSUMS = "checksums.json"


def check_space(directory: Path, state: Any) -> None:
    """Refuses before it begins what can't fit: half a checkpoint would only fill the disk."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    free = shutil.disk_usage(directory).free
    if free < size:
        raise UserError(
            f"The disk of {directory} is full: a checkpoint takes {size / 1e6:,.0f} MB and "
            f"{free / 1e6:,.0f} MB are free; make room, or choose another place for the run."
        )


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
        str(path.relative_to(folder)): f"{zlib.crc32(path.read_bytes()):08x}"
        for path in files
        if path.name != CHECKSUMS
    }


def write_checksums(folder: Path) -> None:
    """Puts the checksum of every file in `folder` beside them."""
    with replacing(folder / CHECKSUMS) as file:
        file.write_text(json.dumps(_checksums(folder), indent=1))


def verify_checksums(folder: Path) -> None:
    """Orbax notices some damage late and noisily, and an altered value not at all."""
    if (folder / CHECKSUMS).exists():
        try:
            written = dict(json.loads((folder / CHECKSUMS).read_text()))
        except (ValueError, TypeError) as error:
            raise damaged(folder, f"{CHECKSUMS} can't be read") from error
        found = _checksums(folder)
        for name, checksum in written.items():
            if found.get(name) != checksum:
                raise damaged(folder, f"{name} is not as it was written")


def damaged(folder: Path, reason: str) -> UserError:
    """The error that names the checkpoint at fault."""
    return UserError(
        f"The checkpoint {folder} is damaged ({reason}): delete that folder to go on from the "
        "checkpoint before it."
    )
