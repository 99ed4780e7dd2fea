"""Names with their labels, from CSV files of two columns, plain or gzipped."""

from __future__ import annotations

import csv
import io
import unicodedata
from pathlib import Path
from typing import NamedTuple

from jaxlessons.data.gzip_files import unpack
from jaxlessons.data.text_files import decode
from jaxlessons.errors import UserError, reason

MAX_BYTES = 50_000_000  # of a file, and of what a gzipped one unpacks to
LONGEST = 200  # characters of a name or a label
HEADERS = (
    {"name", "names", "surname", "lastname", "last_name", "word", "text"},
    {"label", "country", "nationality", "origin", "language", "class", "category"},
)
GZIP_MAGIC = b"\x1f\x8b"


class Rows(NamedTuple):
    """The columns of a file, and the line that each row stands in, from 1."""

    names: list[str]
    labels: list[str]
    lines: list[int]


def read(path: Path) -> Rows:
    """The rows of a UTF-8 CSV file, or of one that was gzipped, each a name and its label.

    Both are `clean`ed. Empty lines are passed over, and so is a first row that names the
    columns, such as "name,label" or "Surname,Nationality" (HEADERS has the words).

    Raises:
      UserError: when the file can't be read, is larger than MAX_BYTES once it is unpacked, is no
        whole gzip file, not UTF-8 or not CSV, has no rows, or, with the line, when a row hasn't two
        columns or one of them makes no sense.
    """
    content = _content(path)
    reader = csv.reader(io.StringIO(decode(content, path), newline=""), strict=True)
    rows, first = Rows([], [], []), True
    while True:
        line = reader.line_num + 1  # a quoted line break would make the row end further down
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise UserError(
                f"{path} is not CSV at line {line:,} ({reason(error)}): put that line right."
            ) from error
        cells = [clean(cell) for cell in cells]
        if cells and not (first and _is_header(cells)):
            _add(rows, cells, line, path)
        first = first and not cells
    if not rows.names:
        raise UserError(f"{path} holds no names: it must have lines of a name and a label.")
    return rows


def clean(text: str) -> str:
    """`text` without space at its ends, its letters composed (NFC): é is one character."""
    return unicodedata.normalize("NFC", text).strip()


def fault(text: str, what: str) -> str | None:
    """What is wrong with a name or a label, `what` of the two, to stand behind "has"; or None."""
    if not text:
        return f"an empty {what}"
    if len(text) > LONGEST:
        return f"a {what} of {len(text):,} characters, more than {LONGEST},"
    # Cs: half of a surrogate pair, which Python makes of bytes that are not UTF-8.
    odd = next((c for c in text if unicodedata.category(c) in ("Cc", "Cs")), None)
    return None if odd is None else f"a {what} with the character U+{ord(odd):04X}, no letter,"


def _is_header(cells: list[str]) -> bool:
    return len(cells) == 2 and all(
        cell.lower() in words for cell, words in zip(cells, HEADERS, strict=True)
    )


def _add(rows: Rows, cells: list[str], line: int, path: Path) -> None:
    if len(cells) != 2:
        columns = f"{len(cells)} column{'s' * (len(cells) != 1)}"
        raise UserError(
            f"{path} has {columns} at line {line:,}, where a name and its label are expected: a "
            'name with a comma stands in double quotes ("Sammy, Jr.",English).'
        )
    for cell, what in zip(cells, ("name", "label"), strict=True):
        if clause := fault(cell, what):
            raise UserError(
                f"{path} has {clause} at line {line:,}: put it right or leave the line out."
            )
    rows.names.append(cells[0])
    rows.labels.append(cells[1])
    rows.lines.append(line)


def _content(path: Path) -> bytes:
    """The file's bytes, unpacked."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is not a regular file; name a CSV file.")
        _check_size(path, path.stat().st_size, "has")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} can't be read ({error.strerror}); check its name and its permissions."
        ) from error
    if content.startswith(GZIP_MAGIC):
        content = unpack(content, MAX_BYTES, path)
        _check_size(path, len(content), "unpacks to")
    if not content:
        raise UserError(f"{path} is empty: it must have lines of a name and a label.")
    return content


def _check_size(path: Path, size: int, has: str) -> None:
    if size > MAX_BYTES:
        raise UserError(
            f"{path} {has} more than {MAX_BYTES:,} bytes: a file of names may have so many; cut it."
        )
