"""A file appears whole or not at all."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from jaxlessons import checkpoint
from jaxlessons.data import cifar10, images, mnist, names, photos, text
from jaxlessons.errors import UserError
from jaxlessons.files import expanded, is_leftover, remove_leftovers, replacing


def test_the_new_file_takes_the_place_of_the_old_one_at_the_end(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with replacing(path) as temporary:
        temporary.write_text("first")
        assert not path.exists()
    with replacing(path) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second"
    assert list(path.parent.iterdir()) == [path]


def test_after_an_error_the_old_file_is_there_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("first")

    def write():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_the_content_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    path, seen = tmp_path / "a.txt", []

    def fsync(descriptor):
        seen.append((os.path.samestat(os.fstat(descriptor), tmp_path.stat()), path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    with replacing(path) as temporary:
        temporary.write_text("first")
    # The file while it is not there yet, then the folder that it has come into.
    assert seen == [(False, False), (True, True)]


def test_what_a_killed_process_leaves_is_removed_and_nothing_else(tmp_path):
    script = (
        "import os, pathlib, signal, sys; from jaxlessons.files import replacing\n"
        "names = ('a.json', 'deep/00001.png', 'plain')\n"
        "begun = [replacing(pathlib.Path(sys.argv[1], name)) for name in names]\n"
        "for one in begun: one.__enter__().write_text('half')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)])
    assert done.returncode == -signal.SIGKILL
    left = [path for path in tmp_path.rglob(".*") if path.is_file()]
    assert len(left) == 3
    assert all(map(is_leftover, left))
    kept = [".hidden", "a.1.json", ".config.json", "deep/b.png", ".1.json"]
    for name in kept:
        (tmp_path / name).write_text("whole")
    (tmp_path / ".folder.12").mkdir()
    remove_leftovers(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == {
        *kept,
        "deep",
        ".folder.12",
    }


def test_an_error_of_the_disk_names_the_file_and_not_the_temporary(tmp_path):
    path = tmp_path / "a.txt"
    temporary = str(path.with_name(f".a.{os.getpid()}.txt"))
    of_rename = OSError(errno.EROFS, "read-only", temporary, None, str(path))
    for unnamed in (OSError(errno.ENOSPC, "full"), of_rename):
        with (
            pytest.raises(OSError, match=r"\] (full|read-only): '[^']*/a\.txt'$") as caught,
            replacing(path),
        ):
            raise unnamed
        assert caught.value.filename == str(path)
    with pytest.raises(OSError, match=r"reset$") as caught, replacing(path):
        raise OSError(errno.ECONNRESET, "reset")
    assert caught.value.filename is None


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/a.csv") == expanded(tmp_path / "a.csv") == tmp_path / "a.csv"


@pytest.mark.parametrize(
    "read",
    [
        expanded,
        names.load,
        lambda path: names.load("a.csv", path),
        lambda path: names.load(data_dir=path),
        text.load,
        lambda path: text.load("nietzsche", path),
        cifar10.load,
        lambda path: mnist.load("mnist", path),
        images.read,
        photos.load,
        checkpoint.latest_step,
    ],
)
def test_a_home_folder_that_nobody_has_is_told(read):
    message = (
        "~nobody-at-all/x begins with a home folder that is not known here: write the whole path."
    )
    with pytest.raises(UserError) as caught:
        read("~nobody-at-all/x")
    assert str(caught.value) == message
