"""The names of the tutorial, of a user's files, and made-up ones."""

import hashlib
import re

import numpy as np
import pytest

from jaxlessons.data import made_up_names, names
from jaxlessons.data.download import Source
from jaxlessons.data.vocabulary import Vocabulary
from jaxlessons.errors import UserError


def told(message):
    return pytest.raises(UserError, match=f"^{re.escape(message)}$")


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name},{label}\n" for name, label in rows), encoding="utf-8")
    return path


TRAIN = [("Abe", "z"), ("Bea", "ö"), ("Cy", "z"), ("Abe", "ö")]


@pytest.fixture
def published(tmp_path, monkeypatch):
    """The tutorial's two files, as if they were on the network."""
    for which, rows in (("TRAIN", TRAIN), ("TEST", [("Dan", "ö"), ("Abe", "z")])):
        path = write(tmp_path / "network" / f"names_{which.lower()}.csv.gz", rows)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        source = Source(path.as_uri(), path.stat().st_size, digest)
        monkeypatch.setattr(names, which, source)
    return tmp_path / "network"


def test_two_files_are_names_with_places_among_the_sorted_labels(tmp_path):
    train = write(tmp_path / "a.csv", TRAIN)
    test = write(tmp_path / "b.csv", [("Dan", "ö"), ("Eve", "z")])
    found = names.load(train, test)
    assert found.name == "a.csv"
    assert found.source == f"the files {train} and {test}"
    assert found.classes == ("z", "ö")
    assert found.train_names == ("Abe", "Bea", "Cy", "Abe")
    assert found.test_names == ("Dan", "Eve")
    np.testing.assert_array_equal(found.train_labels, [0, 1, 0, 1])
    np.testing.assert_array_equal(found.test_labels, [1, 0])
    assert found.train_labels.dtype == found.test_labels.dtype == np.int32


def test_of_one_file_a_fifth_is_kept_back_always_the_same(tmp_path):
    rows = [(f"N{k}", "abc"[k % 3]) for k in range(50)]
    path = write(tmp_path / "a.csv", rows)
    found = names.load(path)
    assert len(found.test_names) == 10
    assert sorted(found.train_names + found.test_names) == sorted(name for name, _ in rows)
    given = dict(rows)
    for own, labels in (
        (found.train_names, found.train_labels),
        (found.test_names, found.test_labels),
    ):
        assert [found.classes[k] for k in labels] == [given[name] for name in own]
    assert names.load(path).test_names == found.test_names
    assert found.source == f"the file {path}, of which 10 are kept back to test on"


def test_what_is_kept_back_leaves_one_of_each_label():
    labels = np.array([0, 0, 0, 1, 2, 2, 0, 0])
    kept = names.hold_back(labels, 5)
    assert len(set(kept.tolist())) == 5
    assert list(kept) == sorted(kept)
    assert set(labels[np.setdiff1d(np.arange(8), kept)]) == {0, 1, 2}
    np.testing.assert_array_equal(kept, names.hold_back(labels, 5))
    assert len(names.hold_back(labels, 0)) == 0
    with told(
        "There are too few names: 6 of 8 can't be kept back where one with each of the 3 labels "
        "stays to train on; keep back fewer, or add names."
    ):
        names.hold_back(labels, 6)


def test_a_file_too_small_to_test_on_is_named_and_its_labels_are_looked_at_first(tmp_path):
    path = write(tmp_path / "a.csv", [("Abe", "x"), ("Bea", "y")])
    with told(
        f"{path} has too few names to test on some of them: 1 of 2 can't be kept back where one "
        "with each of the 2 labels stays to train on; add names, or give a file of others to test "
        "on."
    ):
        names.load(path)
    for rows, fault in (
        ([("Abe", "x")], "has one label alone, 'x': "),
        ([("z", f"N{k}") for k in range(1001)], "has 1,001 different labels, more than 1,000: "),
    ):
        with pytest.raises(UserError, match=fault):
            names.load(write(tmp_path / "b.csv", rows))


@pytest.mark.parametrize("called", [names.NAME, names.MADE_UP])
def test_a_file_called_as_the_tutorials_is_not_taken_for_it(tmp_path, called):
    path = write(tmp_path / called, TRAIN)
    assert names.load(path, path).name == f"the file {called}"
    more = write(tmp_path / called, TRAIN * 3)
    assert names.load(more).name == f"the file {called}"


def test_a_cache_that_is_no_folder_is_told(published, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JAXLESSONS_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"file can't be used as the cache \("):
        names.load()


def test_faults_of_the_labels_are_told(tmp_path):
    train = write(tmp_path / "a.csv", TRAIN)
    test = write(tmp_path / "b.csv", [("Abe", "z"), ("Dan", "Danish")])
    with told(
        f"{test} has the label 'Danish' at line 2, which no name in {train} has: leave it out, or "
        "add such names there."
    ):
        names.load(train, test)
    one = write(tmp_path / "one.csv", [("Abe", "z"), ("Bea", "z"), ("Cy", "z")])
    with told(
        f"{one} has one label alone, 'z': there is nothing to tell apart; name a file with two or "
        "more."
    ):
        names.load(one)
    turned = write(tmp_path / "turned.csv", [("z", f"N{k}") for k in range(1001)])
    with told(
        f"{turned} has 1,001 different labels, more than 1,000: the label must be the second "
        "column."
    ):
        names.load(turned, turned)
    with told(f"{test} is to test on: name a file to train on too."):
        names.load(None, test)


def test_tokens_are_the_letters_then_padding_and_an_unknown_letter_is_0():
    vocabulary = Vocabulary.build("Łukasz Ñ'", unknown=True)
    rows = names.encode(["Łuk", "zaZ", "Ñ"], vocabulary)
    assert rows.dtype == np.int32
    place = {symbol: k for k, symbol in enumerate(vocabulary.symbols)}
    assert rows.tolist() == [
        [place["Ł"], place["u"], place["k"]],
        [place["z"], place["a"], 0],
        [place["Ñ"], -1, -1],
    ]
    assert vocabulary.decode(rows[0]) == "Łuk"
    np.testing.assert_array_equal(names.encode(["Ñ"], vocabulary, 4), [[place["Ñ"], -1, -1, -1]])
    lower = Vocabulary.build("i\u0307stanbul", lower=True, unknown=True)
    # A capital İ is two characters in lower case.
    assert (names.encode(["İs", "st"], lower) >= 0).sum(axis=1).tolist() == [3, 2]


def test_the_tutorials_files_are_fetched_once_checked_and_kept(published, monkeypatch):
    found = names.load()
    assert (found.name, found.train_names[:2], found.test_names) == (
        "names",
        ("Abe", "Bea"),
        ("Dan", "Abe"),
    )
    assert "kept in" in found.source
    for path in published.iterdir():
        path.unlink()
    assert names.load().train_names == found.train_names


def test_a_folder_of_the_users_comes_first_and_is_checked(published, tmp_path, monkeypatch):
    folder = published.rename(tmp_path / "names")
    for given in (folder, folder.parent):  # the folder itself, or the one it is in
        assert names.load(data_dir=given).source == f"the tutorial's files in {folder}"
    monkeypatch.setenv("JAXLESSONS_DATA", str(folder))
    assert names.load().source == f"the tutorial's files in {folder}"
    path = folder / "names_test.csv.gz"
    path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(UserError, match=r"names_test.csv.gz has 14 bytes where 13 were published"):
        names.load()
    path.unlink()
    with told(
        f"{folder}, given as the data folder, does not hold names_train.csv.gz and "
        f"names_test.csv.gz; put the files there that are at {names.ADDRESS}, or name files of "
        "your own to train on."
    ):
        names.load(data_dir=folder)


def test_without_files_and_network_the_names_are_made_up_and_it_is_said(tmp_path, monkeypatch):
    nowhere = (tmp_path / "nowhere" / "names.csv.gz").as_uri()
    monkeypatch.setattr(names, "TRAIN", Source(nowhere, 1, "0" * 64))
    found = names.load()
    assert found.name == "made-up"
    assert found.source.startswith(
        f"made-up names, since no file was named and {nowhere} could not be reached ("
    )
    assert found.classes == tuple(sorted(made_up_names.LANGUAGES))
    assert (len(found.train_names), len(found.test_names)) == names.MADE_UP_COUNTS
    assert names.load().train_names == found.train_names


def test_made_up_names_have_their_languages_shares_and_letters():
    own, labels = made_up_names.make(3000, 7)
    assert (own, labels) == made_up_names.make(3000, 7)
    assert own[:50] != made_up_names.make(3000, 8)[0][:50]
    for language, described in made_up_names.LANGUAGES.items():
        share = labels.count(language) / 3000
        assert share == pytest.approx(described.share, abs=0.03)
        letters = {letter for letter in " ".join(described[1:]) if letter not in " _"}
        used = {
            letter
            for name, label in zip(own, labels, strict=True)
            if label == language
            for letter in name.lower()
        }
        assert used == letters
    assert sum(language.share for language in made_up_names.LANGUAGES.values()) == pytest.approx(1)
