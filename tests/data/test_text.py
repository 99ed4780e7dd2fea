"""Where a text is taken from, how it is split, and what is refused by name."""

import hashlib
import os
import platform
import re
import sysconfig
from pathlib import Path

import pytest

from jaxlessons.data import text
from jaxlessons.data.download import NoNetworkError, Source
from jaxlessons.data.vocabulary import Vocabulary
from jaxlessons.errors import UserError

PUBLISHED = dict(text.SOURCES)
DATA_FOLDER = os.environ.get("JAXLESSONS_DATA")

# In place of the published texts.
CONTENT = {
    "nietzsche": "PREFACE\n\nSupposing that Truth is a woman: näive?\n" * 5,
    "tinyshakespeare": "First Citizen:\nBefore we proceed any further, hear me speak.\n" * 5,
    "timemachine": "The Time Machine, by H. G. Wells [1898]\n\n\nI\n\n\nThe Time Traveller\n" * 5,
}


@pytest.fixture(autouse=True)
def network(monkeypatch, tmp_path):
    """A folder where the published texts would be; empty, as if there were no network."""
    folder = tmp_path / "network"
    folder.mkdir()
    for name, content in CONTENT.items():
        blob = content.encode()
        url = (folder / f"published-{name}.txt").as_uri()
        source = Source(url, len(blob), hashlib.sha256(blob).hexdigest())
        monkeypatch.setitem(text.SOURCES, name, source)
    return folder


@pytest.fixture
def online(network):
    for name, content in CONTENT.items():
        (network / f"published-{name}.txt").write_bytes(content.encode())
    return network


@pytest.fixture
def folder(tmp_path):
    """A folder of the user's that holds all three."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, content in CONTENT.items():
        (folder / f"{name}.txt").write_bytes(content.encode())
    return folder


def told(message, kind=UserError):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# Texts by name.


@pytest.mark.parametrize("name", CONTENT)
def test_a_named_text_is_downloaded_once(name, online):
    loaded = text.load(name)
    assert loaded.train + loaded.validation == CONTENT[name]
    kept = Path(os.environ["JAXLESSONS_CACHE"]) / "text" / name / f"published-{name}.txt"
    assert loaded.name == name
    assert loaded.source == f"{name} from {text.SOURCES[name].url}, kept in {kept}"
    (online / f"published-{name}.txt").unlink()
    assert text.load(name) == loaded


@pytest.mark.parametrize(
    ("name", "share"), [("nietzsche", 0.8), ("tinyshakespeare", 0.9), ("timemachine", 0.9)]
)
def test_the_usual_splits(name, share, folder):
    loaded = text.load(name, folder)
    assert len(loaded.train) == int(len(CONTENT[name]) * share)
    assert loaded.train + loaded.validation == CONTENT[name]


def test_a_folder_of_the_users_goes_before_the_environments_and_that_before_the_cache(
    folder, online, monkeypatch, tmp_path
):
    monkeypatch.setenv("JAXLESSONS_DATA", str(folder))
    assert text.load("nietzsche").source == f"nietzsche in {folder / 'nietzsche.txt'}"
    assert text.load().name == "nietzsche"
    other = write(tmp_path / "other" / "nietzsche.txt", CONTENT["nietzsche"])
    assert text.load("nietzsche", other.parent).source == f"nietzsche in {other}"
    # What JAXLESSONS_DATA does not hold (it may be for other data) comes from elsewhere.
    (folder / "nietzsche.txt").unlink()
    assert text.load("nietzsche").source.startswith(f"nietzsche from {online.as_uri()}/")


def test_the_data_folder_must_hold_what_is_named(folder, online, tmp_path):
    (folder / "nietzsche.txt").unlink()
    with told(
        f"{folder}, given as the data folder, does not hold nietzsche.txt; put the file there that "
        f"is at {online.as_uri()}/published-nietzsche.txt."
    ):
        text.load(None, folder)
    with told(
        f"{tmp_path / 'none'}, given as the data folder, does not exist; name a folder with "
        "timemachine.txt."
    ):
        text.load("timemachine", tmp_path / "none")


@pytest.mark.usefixtures("online")
def test_a_folder_in_the_environment_must_exist(monkeypatch):
    monkeypatch.setenv("JAXLESSONS_DATA", "/nonexistent")
    with told(
        "/nonexistent, given as JAXLESSONS_DATA, does not exist; name a folder with nietzsche.txt."
    ):
        text.load()


@pytest.mark.usefixtures("online")
def test_an_altered_copy_is_refused_and_nothing_stands_in(folder, monkeypatch):
    path = write(folder / "nietzsche.txt", CONTENT["nietzsche"].replace("woman", "Woman"))
    monkeypatch.setenv("JAXLESSONS_DATA", str(folder))
    for data_dir in (folder, None):
        with pytest.raises(UserError, match=f"{path} does not have the published checksum"):
            text.load(None, data_dir)
    path.write_bytes(b"short")
    with pytest.raises(UserError, match=f"{path} has 5 bytes where 250 were published"):
        text.load("nietzsche")


@pytest.mark.usefixtures("online")
def test_a_cache_that_can_not_be_used_is_told(monkeypatch, tmp_path):
    cache = write(tmp_path / "cache", "a file")
    monkeypatch.setenv("JAXLESSONS_CACHE", str(cache))
    with pytest.raises(UserError, match=f"{cache} can't be used as the cache .*JAXLESSONS_CACHE"):
        text.load("nietzsche")


def test_without_network_a_named_text_says_how_to_go_on(network):
    with pytest.raises(NoNetworkError) as error:
        text.load("tinyshakespeare")
    assert str(error.value).startswith(f"{network.as_uri()}/published-tinyshakespeare.txt could")
    assert str(error.value).endswith(
        "); put tinyshakespeare.txt in a folder, and name that as the data folder or in "
        "JAXLESSONS_DATA."
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "characters", "symbols", "begins"),
    [
        ("nietzsche", 600_893, 84, "PREFACE\n\n\nSUPPOSING that Truth is a woman"),
        ("tinyshakespeare", 1_115_394, 65, "First Citizen:\nBefore we proceed"),
        ("timemachine", 178_979, 70, "The Time Machine, by H. G. Wells [1898]"),
    ],
)
def test_the_published_texts_are_those_that_the_field_counts(
    name, characters, symbols, begins, monkeypatch
):
    monkeypatch.setattr(text, "SOURCES", PUBLISHED)
    if DATA_FOLDER:
        monkeypatch.setenv("JAXLESSONS_DATA", DATA_FOLDER)
    try:
        loaded = text.load(name)
    except NoNetworkError as error:
        pytest.skip(str(error))
    whole = loaded.train + loaded.validation
    assert len(whole) == characters
    assert len(Vocabulary.build(whole)) == symbols
    assert whole.startswith(begins)
    if name == "nietzsche":  # fast.ai's 56 symbols, less the one for padding
        assert len(Vocabulary.build(loaded.train, min_frequency=3, lower=True)) == 55
    if name == "timemachine":  # d2l's figures
        assert len(text.cleaned(whole)) == 170_580
        assert len(Vocabulary.build(text.cleaned(whole))) == 27


# The default.


def test_with_nothing_named_comes_nietzsche_if_it_can_be_had(online):
    assert text.load().name == "nietzsche"
    (online / "published-nietzsche.txt").unlink()
    assert text.load().name == "nietzsche"  # from the cache


def test_with_nothing_named_and_no_network_comes_pythons_source_and_says_why(network, capfd):
    loaded = text.load()
    assert loaded.name == "stdlib"
    start = (
        f"the source code of Python {platform.python_version()}'s standard library, since no text "
        f"was named and {network.as_uri()}/published-nietzsche.txt could not be reached ("
    )
    assert loaded.source.startswith(start)
    assert "\n" not in loaded.source
    assert len(loaded.train) == 540_000
    assert len(loaded.validation) == 60_000
    assert capfd.readouterr() == ("", "")
    named = text.load("stdlib")
    assert (named.train, named.validation) == (loaded.train, loaded.validation)
    assert named.source == start.split(",")[0]


def test_a_python_without_source_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path / "python.zip"))
    with told(
        f"{tmp_path}/python.zip holds no source code of Python's standard library; name a text "
        "file or a folder instead."
    ):
        text.load()


# Files and folders.


def test_a_name_is_no_path_unless_it_says_so(tmp_path, monkeypatch, online):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "nietzsche", "mine alone, and long")
    assert text.load("nietzsche").train.startswith("PREFACE")
    for path in ("./nietzsche", Path("nietzsche")):
        loaded = text.load(path)
        assert loaded.train + loaded.validation == "mine alone, and long"
        # Or it would be compared with what the lesson had.
        assert (loaded.name, len(loaded.validation)) == ("the file nietzsche", 2)


@pytest.mark.parametrize("name", ["shakespeare", "", "/nonexistent/a.txt", "Nietzsche", "a\0b"])
def test_an_unknown_name_is_told_with_those_that_are_known(name):
    with told(
        f"{name!r} is neither the name of a text (nietzsche, tinyshakespeare, timemachine, stdlib) "
        "nor a file or folder that exists."
    ):
        text.load(name)


def test_a_name_too_long_for_a_path_is_told():
    with pytest.raises(UserError, match=r"can't be read \(File name too long\); check its name\."):
        text.load("x" * 5000)


# Splitting and cleaning.


@pytest.mark.parametrize(
    ("length", "share", "cut"), [(1_115_394, 0.1, 1_003_854), (600_893, 0.2, 480_714), (4, 0.5, 2)]
)
def test_the_validation_text_is_the_last_share(length, share, cut):
    content = "abcdefg" * (length // 7 + 1)
    train, validation = text.split(content[:length], share)
    assert len(train) == cut
    assert train + validation == content[:length]


@pytest.mark.parametrize(("content", "share"), [("abc", 0.5), ("a" * 19, 0.05), ("abcd", 0.9)])
def test_a_text_too_short_to_split_is_told(content, share, tmp_path):
    path = write(tmp_path / "a.txt", content)
    with told(
        f"The file {path} has {len(content)} characters, too few to train on and to keep a share "
        f"of {share} to validate on; name a longer text."
    ):
        text.load(path, validation=share)


def test_one_character_is_too_few_even_without_validation(tmp_path):
    with pytest.raises(UserError, match="has 1 characters, too few"):
        text.load(write(tmp_path / "a.txt", "a"), validation=0)


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_that_is_none_is_told(share, folder):
    with told(f"The share to validate on is {share}: it must be at least 0 and below 1."):
        text.load("nietzsche", folder, validation=share)


def test_cleaning_is_d2ls(folder, tmp_path):
    loaded = text.load("timemachine", folder, clean=True)
    line = "the time machine by h g wells" + "i" + "the time traveller"
    assert loaded.train + loaded.validation == line * 5
    with pytest.raises(UserError, match=r"a.txt nothing is left when only the letters a to z"):
        text.load(write(tmp_path / "a.txt", "你好 123"), clean=True)
