"""A disk that fills up, or that can't be written any more, ends a run in one sentence."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from crash_endings import assert_one_sentence, assert_same_end

pytestmark = pytest.mark.slow


@dataclass
class Disk:
    """A small disk of its own."""

    path: Path

    def remount(self, *options):
        """Whether it went: a disk on which a file is being written does not become read-only."""
        command = ["mount", "-o", ",".join(["remount", *options]), str(self.path)]
        return subprocess.run(command, capture_output=True).returncode == 0

    def fill(self):
        """Leaves no byte free."""
        with (self.path / "filler").open("wb", buffering=0) as file:
            for size in (2**16, 2**12, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue


@pytest.fixture
def disk(tmp_path):
    """A tmpfs of 8 MB."""
    words = ["mount", "-t", "tmpfs", "-o", "size=8m", "crash", str(tmp_path)]
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip(f"a tmpfs can't be mounted here: {done.stderr.strip()}")
    yield Disk(tmp_path)
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def refused(process, sentence):
    """Waits for the end, in one sentence that has this."""
    with process:
        assert process.end() == 1, process.err
        assert_one_sentence(process, sentence)


def goes_on(run, whole):
    """Resumes, from what was saved before, to the end that it should have."""
    saved = run.good_steps()
    assert saved
    with run.resume() as process:
        assert process.end() == 0, process.err
    assert f"| {saved[-1]}/660" in process.err
    assert_same_end(run, whole)


def test_a_disk_that_a_run_fills(runs, unbroken, disk):
    run = runs("char", "fills", runs_dir=disk.path)
    # Two checkpoints go on it, the four that are there later do not.
    assert disk.remount("size=400k")
    refused(run.begin(), "make room")
    assert disk.remount("size=64m")
    goes_on(run, unbroken("char"))


def test_a_disk_that_something_else_fills(runs, unbroken, disk):
    run = runs("char", "filled", runs_dir=disk.path)
    with run.begin() as process:
        assert process.wait_for(lambda: len(run.good_steps()) > 1)
        disk.fill()
        refused(process, "make room")
    refused(run.resume(), "make room")
    assert disk.remount("size=64m")
    goes_on(run, unbroken("char"))


def test_a_disk_that_becomes_read_only(runs, unbroken, disk):
    run = runs("char", "locked", runs_dir=disk.path)
    with run.begin() as process:
        assert process.wait_for(lambda: len(run.good_steps()) > 1)
        assert process.wait_for(lambda: disk.remount("ro"))
        refused(process, "Read-only file system")
    refused(run.resume(), "config.json can't be used (Read-only file system)")
    refused(runs("char", "new", runs_dir=disk.path).begin(), "(Read-only file system)")
    assert disk.remount("rw")
    goes_on(run, unbroken("char"))
