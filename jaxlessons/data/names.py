"""Names to learn the origin of: the tutorial's surnames of 18 countries, a user's file, or made-up.

PyTorchZeroToAll (Kim, 2017) trains its name classifier on 13,374 surnames and tests on 6,700. They
are far from balanced (47 % are Russian, 0.4 % Vietnamese), 1,048 of the test names stand in the
other file too, and some names stand there under several countries.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxlessons.data import made_up_names, name_files
from jaxlessons.data.download import (
    DATA_VARIABLE,
    NoNetworkError,
    Source,
    cache_dir,
    cache_errors,
    check_file,
    fetch,
)
from jaxlessons.data.name_files import Rows
from jaxlessons.data.vocabulary import Vocabulary
from jaxlessons.errors import UserError
from jaxlessons.files import expanded

ADDRESS = "https://raw.githubusercontent.com/hunkim/PyTorchZeroToAll/master/data"
TRAIN = Source(
    url=f"{ADDRESS}/names_train.csv.gz",
    size=50_237,
    sha256="49b4bf41dce5bfeac989b46ca37cf7baccd9a0d2a855df82f86de67a9376268f",
)
TEST = Source(
    url=f"{ADDRESS}/names_test.csv.gz",
    size=27_541,
    sha256="57d7758db533a42c99d513b2341a7e7b0f55c1e0e7d233b1ef6a4fa2f1adf753",
)
NAME, MADE_UP = "names", "made-up"
MADE_UP_COUNTS = (4000, 1000)
TEST_SHARE = 0.2  # of a user's file that comes without one to test on
MOST_CLASSES = 1000
PADDING = -1  # what a row of tokens is filled up with


@dataclass(frozen=True)
class NameSet:
    """Names and labels of two splits. labels: int32 `[n]`, places in `classes`, which are sorted.

    name: "names", "made-up", or the file's, which is "the file names" should it be one of those.
    source: a phrase on where they came from.
    """

    name: str
    source: str
    classes: tuple[str, ...]
    train_names: tuple[str, ...]
    train_labels: np.ndarray
    test_names: tuple[str, ...]
    test_labels: np.ndarray


def load(
    train: str | Path | None = None,
    test: str | Path | None = None,
    data_dir: str | Path | None = None,
) -> NameSet:
    """The names in the file `train`, and those to test on, or else the tutorial's.

    train, test: CSV files as `name_files.read` takes them; without `test` a fifth of the names is
      kept back, the same ones each time. None: the tutorial's two files, or where they are neither
      kept here nor to be had from the network, made-up names, and `source` says why.
    data_dir: a folder with names_train.csv.gz and names_test.csv.gz (or with a folder "names" that
      has them), else JAXLESSONS_DATA, then the cache, then the network. Their hashes are checked.

    Raises:
      UserError: as `name_files.read`, for a file that is not the published one, for names with
        fewer than two labels or with more than MOST_CLASSES, or a test name with a label that no
        name to train on has.
    """
    if train is not None:
        return _of_user(expanded(train), None if test is None else expanded(test))
    if test is not None:
        raise UserError(f"{test} is to test on: name a file to train on too.")
    try:
        paths, place = _published(data_dir)
    except NoNetworkError as error:
        splits = (made_up_names.make(count, k) for k, count in enumerate(MADE_UP_COUNTS))
        invented, to_test = (Rows(*found, []) for found in splits)
        because = str(error).rstrip(".")
        source = f"made-up names, since no file was named and {because}"
        return _name_set(MADE_UP, source, invented, to_test)
    splits_read = [name_files.read(path) for path in paths]
    return _name_set(NAME, place, splits_read[0], splits_read[1], paths[0], paths[1])


def hold_back(
    labels: np.ndarray,
    count: int,
    fault: str = "There are too few names",
    advice: str = "keep back fewer, or add names",
) -> np.ndarray:
    """The sorted rows of `count` of the examples with `labels` `[n]`, always the same ones.

    The first example of each label stays, so that none is kept back alone.

    Raises:
      UserError: when there are too few; it begins with `fault`, and ends in `advice`.
    """
    order = np.random.RandomState(0).permutation(len(labels))
    spare = order[~np.isin(order, np.unique(labels, return_index=True)[1])]
    if count > len(spare):
        raise UserError(
            f"{fault}: {count:,} of {len(labels):,} can't be kept back where one with each of the "
            f"{len(labels) - len(spare):,} labels stays to train on; {advice}."
        )
    return np.sort(spare[:count])


def encode(names: Sequence[str], vocabulary: Vocabulary, width: int | None = None) -> np.ndarray:
    """Tokens `[n, width]` int32, each row's letters and then PADDING; 0 is the unknown symbol.

    width: at least that of the longest name, which it is by default.
    """
    names = [name.lower() for name in names] if vocabulary.lower else names
    lengths = np.fromiter(map(len, names), np.int64, len(names))
    tokens = np.full((len(names), width or int(lengths.max())), PADDING, np.int32)
    real = np.arange(tokens.shape[1])[None] < lengths[:, None]
    tokens[real] = vocabulary.encode("".join(names))
    return tokens


def _of_user(train: Path, test: Path | None) -> NameSet:
    rows = name_files.read(train)
    name = f"the file {train.name}" if train.name in (NAME, MADE_UP) else train.name
    if test is not None:
        source = f"the files {train} and {test}"
        return _name_set(name, source, rows, name_files.read(test), train, test)
    kept = set(
        hold_back(
            _places(rows, train)[1],
            max(1, int(len(rows.names) * TEST_SHARE)),
            f"{train} has too few names to test on some of them",
            "add names, or give a file of others to test on",
        ).tolist()
    )

    def part(inside: bool) -> Rows:
        chosen = [k for k in range(len(rows.names)) if (k in kept) == inside]
        return Rows(*([column[k] for k in chosen] for column in rows))  # type: ignore[arg-type]

    source = f"the file {train}, of which {len(kept):,} are kept back to test on"
    return _name_set(name, source, part(False), part(True), train, train)


def _places(rows: Rows, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The sorted labels, and the place of each row's among them."""
    classes, places = np.unique(rows.labels, return_inverse=True)
    if len(classes) < 2:
        raise UserError(
            f"{path} has one label alone, {rows.labels[0]!r}: there is nothing to tell apart; name "
            "a file with two or more."
        )
    if len(classes) > MOST_CLASSES:
        raise UserError(
            f"{path} has {len(classes):,} different labels, more than {MOST_CLASSES:,}: the label "
            "must be the second column."
        )
    return classes, places


def _name_set(
    name: str,
    source: str,
    train: Rows,
    test: Rows,
    train_path: Path = Path(),
    test_path: Path = Path(),
) -> NameSet:
    classes, train_labels = _places(train, train_path)
    places = {label: place for place, label in enumerate(classes.tolist())}
    for label, line in zip(test.labels, test.lines, strict=False):
        if label not in places:
            raise UserError(
                f"{test_path} has the label {label!r} at line {line:,}, which no name in "
                f"{train_path} has: leave it out, or add such names there."
            )
    return NameSet(
        name,
        source,
        tuple(places),
        tuple(train.names),
        train_labels.astype(np.int32),
        tuple(test.names),
        np.array([places[label] for label in test.labels], np.int32),
    )


def _published(data_dir: str | Path | None) -> tuple[list[Path], str]:
    """The tutorial's two files, checked, and where they came from."""
    folder = _local_folder(data_dir)
    try:
        if folder is not None:
            paths = [folder / source.name for source in (TRAIN, TEST)]
            for path, source in zip(paths, (TRAIN, TEST), strict=True):
                check_file(path, source)
            return paths, f"the tutorial's files in {folder}"
    except OSError as error:
        raise UserError(f"{folder} can't be read ({error}); check its permissions.") from error
    kept = cache_dir() / "names"
    with cache_errors(cache_dir()):
        return [fetch(source, kept) for source in (TRAIN, TEST)], f"{ADDRESS}, kept in {kept}"


def _local_folder(data_dir: str | Path | None) -> Path | None:
    """The folder with both files: in `data_dir` they must be, in JAXLESSONS_DATA they may be."""
    given = os.environ.get(DATA_VARIABLE) if data_dir is None else data_dir
    if not given:
        return None
    folder = expanded(given)
    for place in (folder, folder / NAME):
        if all((place / source.name).is_file() for source in (TRAIN, TEST)):
            return place
    if data_dir is None:
        return None
    raise UserError(
        f"{folder}, given as the data folder, does not hold {TRAIN.name} and {TEST.name}; put the "
        f"files there that are at {ADDRESS}, or name files of your own to train on."
    )
