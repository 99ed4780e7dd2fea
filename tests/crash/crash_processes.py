"""Training as real processes: begun, watched from outside, and ended by a signal."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TEMPORARY = re.compile(r"\..+\.\d+(\.[^.]+)?")  # of jaxlessons.files.replacing
CHECKPOINT_TEMPORARY = ".orbax-checkpoint-tmp"
STEPPED = "lr="  # in the progress bar from the first step on
PATIENCE = 300  # seconds, for a process that should end or get somewhere

_numbers = itertools.count()


@dataclass(frozen=True)
class Case:
    """What is trained: the program, its name under runs/, and its flags."""

    program: tuple[str, ...]
    experiment: str
    words: tuple[str, ...]


class Process:
    """A training in `folder`; its output goes to files of its own."""

    def __init__(self, case, folder, words, environment):
        log = folder / "logs" / str(next(_numbers))
        log.parent.mkdir(exist_ok=True)
        self.files = log.with_suffix(".out"), log.with_suffix(".err")
        command = [sys.executable, *case.program, *map(str, words)]
        with self.files[0].open("wb") as out, self.files[1].open("wb") as err:
            self.popen = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=out, stderr=err
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.popen.kill()
        self.popen.wait()

    @property
    def out(self):
        return self.files[0].read_text(encoding="utf-8", errors="replace")

    @property
    def err(self):
        return self.files[1].read_text(encoding="utf-8", errors="replace")

    @property
    def stepped(self):
        return STEPPED in self.err

    def end(self):
        """The exit code, once it ends by itself."""
        return self.popen.wait(PATIENCE)

    def wait_for(self, condition, pause=0.001):
        """Whether `condition()` came true while the process lived."""
        deadline = time.monotonic() + PATIENCE
        while self.popen.poll() is None:
            if condition():
                return True
            assert time.monotonic() < deadline, self.err
            time.sleep(pause)
        return False

    def send(self, number):
        """The exit code that follows the signal; negative where the signal itself ended it."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.end()

    def kill(self):
        """Whether SIGKILL found it alive."""
        return self.send(signal.SIGKILL) == -signal.SIGKILL


def environment(compiled):
    """The children's: this checkout's code, the CPU, and programs compiled once in `compiled`."""
    return os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONUNBUFFERED": "1",
        "MPLBACKEND": "Agg",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


@dataclass(frozen=True)
class Run:
    """A run by its name and seed: how it is begun and gone on with, and where its files are."""

    case: Case
    folder: Path
    name: str
    seed: int
    environment: dict[str, str]
    runs_dir: Path = Path("runs")

    @property
    def path(self):
        return self.folder / self.runs_dir / self.case.experiment / self.name

    def begin(self, *more):
        """A process that begins the run."""
        words = [*self.case.words, "--seed", self.seed, *more]
        return self._process(words)

    def resume(self, *more):
        return self._process(["--resume", *more])

    def go_on(self):
        """Begins it, or resumes it once it is a run."""
        return self.resume() if (self.path / "config.json").exists() else self.begin()

    def _process(self, words):
        own = ["--name", self.name, "--runs-dir", self.runs_dir]
        return Process(self.case, self.folder, [*words, *own], self.environment)

    def records(self):
        """The lines of metrics.jsonl, each of which must be whole."""
        text = (self.path / "metrics.jsonl").read_text(encoding="utf-8")
        assert text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]

    def good_steps(self):
        """The steps whose checkpoint is finished, ascending."""
        found = (self.path / "checkpoints").glob("[0-9]*/checksums.json")
        return sorted(int(path.parent.name) for path in found)


def writings(path):
    """What is half written in the run's folder right now, and when it last changed.

    One of "checkpoint", "unfinished" (a step without its checksums) and "temporary" -> the names,
    each with its inode and time, so that a new one is told from what was left behind earlier.
    """
    found = {"checkpoint": set(), "unfinished": set(), "temporary": set()}
    for entry in _entries(path):
        if TEMPORARY.fullmatch(entry.name):
            found["temporary"].add(_identity(entry))
    for entry in _entries(path / "checkpoints"):
        if CHECKPOINT_TEMPORARY in entry.name:
            found["checkpoint"].add(_identity(entry))
        elif entry.name.isdigit() and not os.path.exists(os.path.join(entry, "checksums.json")):
            found["unfinished"].add(_identity(entry))
    return found


def last_line(path):
    """How long metrics.jsonl is and when it was written; None before."""
    try:
        seen = os.stat(path / "metrics.jsonl")
    except FileNotFoundError:
        return None
    return seen.st_size, seen.st_mtime_ns, seen.st_ino


def _entries(folder):
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _identity(entry):
    try:
        seen = entry.stat()
    except FileNotFoundError:
        return entry.name, 0, 0
    return entry.name, seen.st_ino, seen.st_mtime_ns
