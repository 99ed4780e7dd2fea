"""A run's folder, runs/<experiment>/<name>/: its config, metrics, figures, checkpoints, result."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shlex
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from experiments import provenance, saved_config
from jaxlessons import checkpoint, checkpoint_files, devices
from jaxlessons.errors import UserError
from jaxlessons.files import expanded, is_leftover, naming, remove_leftovers, replacing
from jaxlessons.train_state import TrainState

C = TypeVar("C")
S = TypeVar("S", bound=TrainState)


class RunDirectory:
    """Reads and writes the files of one run; nothing in it is replaced by half a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.snapshots = path / "snapshots"
        self.averaged = path / "averaged"

    @classmethod
    def open(cls, config: Any, experiment: str, data: str, default: str) -> RunDirectory:
        """With `config.resume` the old run, else a new one (as `new`) with its config.json.

        config: of the run, with runs_dir and name too. data: the name of what it trains on.
        What a killed process left half written in an old run is gone then.

        Raises:
          UserError: as `existing` and `new`, and when the old run was begun on other data.
        """
        if config.resume:
            run = cls.existing(config.runs_dir, experiment, config.name)
            run.check_data(data)
            if devices.is_main():
                remove_leftovers(run.path)
                run.forget_cut_line()
        elif devices.is_main():
            run = cls.new(config.runs_dir, experiment, config.name, default)
            run.write_config(config, data)
            devices.from_main(str(run.path))
        else:
            run = cls(Path(devices.from_main("")))
        return run

    @classmethod
    def new(cls, runs_dir: Path, experiment: str, name: str | None, default: str) -> RunDirectory:
        """A folder of its own; without a name `default`, `default-2`, ... whichever is free.

        A folder called `name` that is empty is taken: a process was killed as it began the run.

        Raises:
          UserError: when `name` exists already, or the folder can't be made.
        """
        _check_name(name)
        parent = expanded(runs_dir) / experiment
        checkpoint_files.check_directory(parent / (name or default))
        number = 1
        while True:
            path = parent / (name or (default if number == 1 else f"{default}-{number}"))
            try:
                path.mkdir(parents=True)
                return cls(path)
            except FileExistsError:
                if path.parent.is_dir() and name is None:
                    number += 1
                    continue
                if _is_unbegun(path):
                    remove_leftovers(path)
                    return cls(path)
                raise UserError(
                    f"{path} exists already: go on with it by --resume, or choose another --name."
                ) from None
            except OSError as error:
                raise UserError(
                    f"The run's folder {path} can't be made ({error.strerror}): choose another "
                    "place with --runs-dir."
                ) from error

    @classmethod
    def existing(cls, runs_dir: Path, experiment: str, name: str | None) -> RunDirectory:
        """The run of that name, or the one begun last; UserError when there is none."""
        _check_name(name)
        parent = expanded(runs_dir) / experiment
        configs = [parent / name / "config.json"] if name else list(parent.glob("*/config.json"))
        configs = [path for path in configs if path.is_file()]
        if not configs:
            raise UserError(
                f"There is no run to resume in {parent / (name or '')}: start one without --resume."
            )
        return cls(max(configs, key=lambda path: path.stat().st_mtime).parent)

    def write_json(self, name: str, content: Any) -> None:
        """Writes `content` as `name`; paths become text."""
        self.write_text(name, json.dumps(content, indent=2, default=str) + "\n")

    def write_text(self, name: str, content: str) -> None:
        """Writes `content` as `name`, in UTF-8; of several processes the first one does."""
        if not devices.is_main():
            return
        with replacing(self.path / name) as file:
            file.write_text(content, encoding="utf-8")

    def write_config(self, config: Any, data: str) -> None:
        """config.json: the dataclass' fields, with the folder's name, the data's, the command."""
        begun = (self.path / "config.json").exists()
        command = self._config()["command"] if begun else provenance.command()
        own = {"name": self.path.name, "data": data, "command": command}
        self.write_json("config.json", dataclasses.asdict(config) | own)

    def check_data(self, name: str) -> None:
        """Raises UserError when the run was begun on another data set than `name`."""
        begun_on = self._config().get("data")
        if begun_on != name:
            raise UserError(
                f"{self.path} was begun on {begun_on}, and what was found now is {name}: name the "
                f"folder with {begun_on} by --data-dir, or start a new run."
            )

    def read_config(self, default: C) -> C:
        """config.json as a dataclass of `default`'s type; fields it lacks are `default`'s.

        Raises UserError, naming the file and the field, for a value that is of another type.
        """
        known = saved_config.fields(self.path / "config.json", self._config(), type(default))
        return dataclasses.replace(default, **known)  # type: ignore[type-var]

    def _config(self) -> dict[str, Any]:
        path = self.path / "config.json"
        saved = saved_config.read_object(path, "a run's config", "start a new run")
        if not isinstance(saved.get("command"), str):
            raise UserError(f"{path} lacks the command that began the run: start a new run.")
        data = saved.get("data")
        # A file's name may have spaces that Python does not call printable.
        if not isinstance(data, str) or any(unicodedata.category(c) in ("Cc", "Cs") for c in data):
            raise UserError(f"{path} lacks the name of the run's data: start a new run.")
        return saved

    def command(self) -> str:
        """The command that began the run, also when it was resumed."""
        return str(self._config()["command"])

    def resume_command(self) -> str:
        """What to type to go on from the latest checkpoint."""
        runs_dir, experiment = self.path.parents[1], self.path.parent.name
        words = ["python", "-m", f"experiments.{experiment}", "--resume", "--name", self.path.name]
        return shlex.join(
            words + ([] if runs_dir == Path("runs") else ["--runs-dir", str(runs_dir)])
        )

    def restore(self, state: S, check: Callable[[int], None] = lambda step: None) -> S:
        """The state of the latest good checkpoint, or `state` where none was finished yet.

        Forgets the metrics that a run resumed from it will write again. check: called with its
        step ahead of restoring, to refuse a checkpoint that doesn't fit.
        """
        step = checkpoint.latest_good_step(self.checkpoints)
        if step is not None:
            check(step)
            state = checkpoint.restore(self.checkpoints, state, step)
        self.forget_metrics_after(int(state.step))
        return state

    def result(self) -> dict[str, Any] | None:
        """result.json, or None before the run is finished; UserError when it can't be read."""
        path = self.path / "result.json"
        advice = "delete it, and --resume makes it anew"
        return saved_config.read_object(path, "a run's result", advice) if path.exists() else None

    def write_result(self, found: dict[str, Any], config: Any) -> None:
        """result.json: what was found, the provenance, the command that began it, the config."""
        own = {"command": self.command(), "config": dataclasses.asdict(config)}
        self.write_json("result.json", found | provenance.provenance() | own)

    def append_metrics(self, record: dict[str, Any]) -> None:
        """One more line of metrics.jsonl; of several processes the first one writes it."""
        if not devices.is_main():
            return
        path = self.path / "metrics.jsonl"
        with naming(path), path.open("a") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl so far; a last one that was cut short doesn't count.

        Raises UserError, naming the file and the line, for any other that is damaged.
        """
        path = self.path / "metrics.jsonl"
        try:
            content = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise UserError(f"{path} can't be read ({error.strerror}).") from error
        *lines, _ = content.split(b"\n")
        return [saved_config.record(path, number, line) for number, line in enumerate(lines, 1)]

    def train_seconds(self) -> float:
        """What the records so far took, to a tenth of a second."""
        return round(sum(record["seconds"] for record in self.metrics()), 1)

    def forget_cut_line(self) -> None:
        """Drops a last line that was cut short, or the next would become one with it."""
        path = self.path / "metrics.jsonl"
        if path.exists() and path.read_bytes()[-1:] not in (b"", b"\n"):
            self.forget_metrics_after(math.inf)

    def forget_metrics_after(self, step: float) -> None:
        """Drops the lines that a resumed run will write again."""
        kept = [record for record in self.metrics() if record["step"] <= step]
        self.write_text("metrics.jsonl", "".join(json.dumps(record) + "\n" for record in kept))


def _is_unbegun(path: Path) -> bool:
    """Whether it is a folder with nothing in it but what a killed process left half written."""
    return path.is_dir() and all(is_leftover(entry) for entry in path.iterdir())


def _check_name(name: str | None) -> None:
    if name is not None and (name in ("", ".", "..") or Path(name).name != name):
        raise UserError(f"--name is {name!r}: it must be a plain folder name.")
