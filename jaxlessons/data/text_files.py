"""Text from a file, from a folder of files, or from Python's own source code."""

from __future__ import annotations

import os
import platform
import re
import sysconfig
from pathlib import Path

from jaxlessons.errors import UserError

SUFFIXES = (
    *(".txt", ".md", ".rst", ".tex"),
    *(".py", ".c", ".h", ".cc", ".cpp", ".hpp", ".java", ".js", ".ts", ".rs", ".go", ".jl"),
)
MAX_BYTES = 10**9
STDLIB_CHARACTERS = 600_000
GENERATED = re.compile(r"auto-generated|automatically generated|file is generated", re.IGNORECASE)


def read_file(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark; lines end in "\\n" whatever they did.

    Raises:
      UserError: when it is missing, empty, no regular file, larger than a gigabyte, not readable
        or not UTF-8, with the offset of the first byte that is not.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is not a regular file; name a text file.")
        _check_size(path, path.stat().st_size)
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    if not content:
        raise UserError(f"{path} is empty: name a file with text in it.")
    return decode(content, path)


def read_folder(folder: Path) -> tuple[str, int]:
    """The texts under `folder`, joined by newlines in order of path, and how many they are.

    Taken are the files with one of SUFFIXES, in subfolders too. What is hidden (its name begins
    with a dot) or empty is left out.

    Raises UserError when there is none, or as `read_file` does.
    """
    try:
        paths = [path for path in _visible_files(folder) if path.stat().st_size]
        _check_size(folder, sum(path.stat().st_size for path in paths))
    except OSError as error:
        raise _unreadable(folder, error) from error
    if not paths:
        raise UserError(f"{folder} holds no text: looked for files in {', '.join(SUFFIXES)}.")
    return "\n".join(read_file(path) for path in paths), len(paths)


def read_standard_library(folder: Path | None = None) -> tuple[str, str]:
    """The first STDLIB_CHARACTERS of Python's standard library, and a phrase that says so.

    The modules are those directly in the library's folder, sorted by name, joined by newlines. Left
    out are the private ones, some of which differ from machine to machine, and those that
    begin by saying that they were generated (tables). The text is the same for one version of
    Python. What can't be read is passed over.

    Raises UserError when the library's source is not there, as in a zipped Python.
    """
    folder = folder or Path(sysconfig.get_path("stdlib"))
    modules: list[str] = []
    count = 0
    for path in sorted(folder.glob("[!_]*.py")):
        try:
            module = read_file(path)
        except UserError:
            continue
        if not GENERATED.search(module[:500]):
            modules.append(module)
            count += len(module) + 1
        if count > STDLIB_CHARACTERS:
            break
    if not modules:
        raise UserError(
            f"{folder} holds no source code of Python's standard library; name a text file or a "
            "folder instead."
        )
    source = f"the source code of Python {platform.python_version()}'s standard library"
    return "\n".join(modules)[:STDLIB_CHARACTERS], source


def decode(content: bytes, path: Path) -> str:
    """The text of `path`'s UTF-8 content, as `read_file` gives it; UserError for any other."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8: its byte 0x{content[error.start]:02X} at offset "
            f"{error.start:,} can't be decoded; save it as UTF-8."
        ) from error
    text = text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    if not text:
        raise UserError(f"{path} is empty but for a byte order mark: name a file with text in it.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _visible_files(folder: Path) -> list[Path]:
    """The files under `folder` that have a text's suffix, sorted; links to folders not followed."""

    def fail(error: OSError) -> None:
        raise error

    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(place, name) for name in names if not name.startswith("."))
        found += [path for path in paths if path.suffix.lower() in SUFFIXES]
    return sorted(found)


def _check_size(path: Path, size: int) -> None:
    if size > MAX_BYTES:
        raise UserError(
            f"{path} has {size:,} bytes: a text may have {MAX_BYTES:,} at most; cut it."
        )


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{error.filename or path} can't be read ({error.strerror}); check its name and its "
        "permissions."
    )
