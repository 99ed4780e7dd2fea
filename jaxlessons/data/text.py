"""A text to train a language model on: by name, from a file or a folder, or Python's own source."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from jaxlessons.data import text_files
from jaxlessons.data.download import (
    DATA_VARIABLE,
    NoNetworkError,
    Source,
    cache_dir,
    check_file,
    fetch,
)
from jaxlessons.errors import UserError
from jaxlessons.files import expanded

DEFAULT = "nietzsche"
STDLIB = "stdlib"
SOURCES = {
    "nietzsche": Source(  # Beyond Good and Evil; fast.ai's and Keras' copy
        url="https://s3.amazonaws.com/text-datasets/nietzsche.txt",
        size=600_901,
        sha256="23cf69874ab69d3d256099ab530ea4be24d47d9675b673bcc67cbcd6298ec647",
    ),
    "tinyshakespeare": Source(
        url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        size=1_115_394,
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
    "timemachine": Source(  # d2l's copy
        url="http://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt",
        size=178_979,
        sha256="8424dbd9532ac81f7e5f0b6add90e6952baea29158309d7d1bf3884f4e12c516",
    ),
}
NAMES = (*SOURCES, STDLIB)
# The share at the end that is kept for validation: fast.ai's of nietzsche, nanoGPT's of the rest.
VALIDATION = {"nietzsche": 0.2}
VALIDATION_ELSE = 0.1
SHORTEST = 2  # characters: one to read and one to predict


@dataclass(frozen=True)
class Text:
    """A text's beginning, to train on, and its end, to validate on.

    name: one of NAMES, or the file's or folder's. source: a phrase on where it came from.
    """

    name: str
    source: str
    train: str
    validation: str


def load(
    text: str | Path | None = None,
    data_dir: str | Path | None = None,
    *,
    validation: float | None = None,
    clean: bool = False,
) -> Text:
    """The text that is named, or that is in the file or folder named.

    text: one of NAMES, or a path ("./nietzsche" is one, "nietzsche" is not). A file is UTF-8; of a
      folder `text_files.read_folder` tells what is taken. None: nietzsche, or where it is neither
      kept here nor to be had from the network, the source code of Python's standard library
      ("stdlib"), and `source` says why.
    data_dir: a folder that holds `<name>.txt`, the published file of a named text. Else
      JAXLESSONS_DATA is looked in, then the cache, then the network. The file's hash is checked.
    validation: the share of the characters, at the end, to validate on; None: 0.2 of nietzsche
      and 0.1 of all else, the usual splits; 0: none.
    clean: whether to clean the text first, as `cleaned` does.

    Raises:
      NoNetworkError: when a named text is not here and its source can't be reached.
      UserError: when the name is unknown, what it names can't be read, is empty, not UTF-8 or not
        the published file, or when it is too short to split.
    """
    name, source, content = _read(text, data_dir)
    if clean:
        content = cleaned(content)
        if not content:
            raise UserError(f"Of {source} nothing is left when only the letters a to z are kept.")
    share = VALIDATION.get(name, VALIDATION_ELSE) if validation is None else validation
    return Text(name, source, *split(content, share, source))


def split(text: str, validation: float, source: str = "the text") -> tuple[str, str]:
    """`text` less its last share of `validation`, and that share; UserError if one is too short."""
    if not 0 <= validation < 1:
        raise UserError(
            f"The share to validate on is {validation}: it must be at least 0 and below 1."
        )
    cut = int(len(text) * (1 - validation))
    if cut < SHORTEST or (validation and len(text) - cut < SHORTEST):
        raise UserError(
            f"{source[0].upper()}{source[1:]} has {len(text):,} characters, too few to train on "
            f"and to keep a share of {validation} to validate on; name a longer text."
        )
    return text[:cut], text[cut:]


def cleaned(text: str) -> str:
    """The Time Machine's letters as d2l has them (170,580 characters): a to z and single spaces.

    In each line all else becomes one space, at its ends none; lines are joined with nothing between
    them, so that words at a line's end and start run together, as they do in d2l's.
    """
    return "".join(re.sub("[^A-Za-z]+", " ", line).strip().lower() for line in text.split("\n"))


def _read(text: str | Path | None, data_dir: str | Path | None) -> tuple[str, str, str]:
    """The text's name, its source and all of it."""
    if text is None:
        try:
            return _read_named(DEFAULT, data_dir)
        except NoNetworkError as error:
            content, source = text_files.read_standard_library()
            return STDLIB, f"{source}, since no text was named and {_clause(error)}", content
    if text == STDLIB:
        content, source = text_files.read_standard_library()
        return STDLIB, source, content
    if isinstance(text, str) and text in SOURCES:
        try:
            return _read_named(text, data_dir)
        except NoNetworkError as error:
            raise NoNetworkError(
                f"{_clause(error)}; put {text}.txt in a folder, and name that as the data folder "
                f"or in {DATA_VARIABLE}."
            ) from error
    return _read_path(text)


def _clause(error: UserError) -> str:
    """Its sentence, to go on from."""
    return str(error).rstrip(".")


def _read_path(text: str | Path) -> tuple[str, str, str]:
    path = expanded(text)
    try:
        if not str(text) or not path.exists():
            raise UserError(
                f"{str(text)!r} is neither the name of a text ({', '.join(NAMES)}) nor a file or "
                "folder that exists."
            )
        name = path.resolve().name
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}); check its name.") from error
    if path.is_dir():
        content, count = text_files.read_folder(path)
        source = f"{count:,} file{'s' * (count > 1)} in {path}"
        return f"the folder {name}" if name in NAMES else name, source, content
    # By its name alone it would pass for the published text.
    own = f"the file {name}" if name in NAMES else name
    return own, f"the file {path}", text_files.read_file(path)


def _read_named(name: str, data_dir: str | Path | None) -> tuple[str, str, str]:
    """A text of SOURCES, from a folder of the user's, the cache or the network."""
    path = _local_copy(name, data_dir)
    try:
        if path is not None:
            check_file(path, SOURCES[name])
            return name, f"{name} in {path}", text_files.read_file(path)
    except OSError as error:
        raise UserError(f"{path} can't be read ({error}); check its permissions.") from error
    try:
        # A folder each, since the published files' names tell too little ("input.txt").
        path = fetch(SOURCES[name], cache_dir() / "text" / name)
    except OSError as error:
        raise UserError(
            f"{cache_dir()} can't be used as the cache ({error}); set JAXLESSONS_CACHE to a folder "
            "that can be written, on a disk with room."
        ) from error
    return name, f"{name} from {SOURCES[name].url}, kept in {path}", text_files.read_file(path)


def _local_copy(name: str, data_dir: str | Path | None) -> Path | None:
    """`name`.txt in `data_dir`, where it must be, or in JAXLESSONS_DATA, where it may be."""
    given = os.environ.get(DATA_VARIABLE) if data_dir is None else data_dir
    if not given:
        return None
    origin = DATA_VARIABLE if data_dir is None else "the data folder"
    folder = expanded(given)
    path = folder / f"{name}.txt"
    try:
        if not folder.exists():
            raise UserError(
                f"{folder}, given as {origin}, does not exist; name a folder with {path.name}."
            )
        if path.exists():
            return path
    except OSError as error:
        raise UserError(f"{path} can't be read ({error}); check its permissions.") from error
    if data_dir is None:
        return None
    raise UserError(
        f"{folder}, given as {origin}, does not hold {path.name}; put the file there that is at "
        f"{SOURCES[name].url}."
    )
