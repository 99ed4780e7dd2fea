"""Checks of configs whose fields are flags, with one sentence for each that makes no sense."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxlessons.errors import UserError
from jaxlessons.files import expanded


def flag(name: str) -> str:
    """The field's flag on the command line."""
    return "--" + name.replace("_", "-")


def png(name: str, path: Path | None) -> None:
    """Raises UserError for a picture's file that is not a .png; one that is None is left out."""
    if path is not None and path.suffix.lower() != ".png":
        raise UserError(f"{flag(name)} is {path}: the picture is written as a .png.")


def writable(name: str, path: Path) -> None:
    """Raises UserError where a file that a flag names can't be written: ask before the work."""
    folder = expanded(path).resolve().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK) or expanded(path).is_dir():
        raise UserError(f"{flag(name)} is {path}: it can't be written; name another file.")


def above_zero(config: Any, names: Iterable[str]) -> None:
    """Raises UserError for a field that isn't finite and above 0; one that is None is left out."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"{flag(name)} is {value}: it must be above 0.")


def from_zero(config: Any, limits: Mapping[str, float]) -> None:
    """Raises UserError for a field that isn't 0 or more, and below its limit, which may be inf."""
    for name, limit in limits.items():
        value = getattr(config, name)
        if not 0 <= value < limit:
            text = "0 or more" if limit == math.inf else f"from 0 to below {limit:g}"
            raise UserError(f"{flag(name)} is {value}: it must be {text}.")
