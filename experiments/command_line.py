"""What every experiment's command line shares: parsing, one-sentence errors, stopping cleanly."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import jax
import tyro

from experiments import compiled, config_checks, device_config, memory, silence
from experiments.run_directory import RunDirectory
from experiments.stopping import Stopped, handling
from jaxlessons.errors import UserError
from jaxlessons.files import DISK_ERRORS

C = TypeVar("C")

# What may differ when a run is resumed: where things are, and what a loss that became NaN asks for.
FREE_ON_RESUME = {
    "data_dir",
    *("text", "train_file", "test_file"),  # whose content is compared with what was trained on
    "runs_dir",
    "name",
    "resume",
    "keep",
    "summary",
    *("lr", "fine_lr"),
    "clip_norm",
    "compute_dtype",
    *(field.name for field in dataclasses.fields(device_config.Devices)),
    "tta",
    "output",
    *(
        "sample",
        "predict",
        "top",
        "checkpoint",
        "length",
        "samples",
        "temperature",
        "top_k",
        "top_p",
        "greedy",
        "beams",
    ),
}


def parse(
    experiment: str,
    defaults: Callable[[str | None, str | None], C],
    description: str | None,
    argv: Sequence[str] | None = None,
    choice: str = "model",
    parallel: bool = False,
    fit: Callable[[C, str | None], C] = lambda config, dataset: config,
) -> C:
    """The config that the command line asks for.

    defaults: (--model, --preset, None where not given) -> the config whose fields stand for the
    flags left out, so that --help shows what would really run. With --resume these are the
    saved run's own, and flags that contradict them are refused. choice: what the first of the two
    flags is called instead. parallel: whether the config has the flags of `device_config.Devices`.
    fit: (those defaults, --dataset) -> the defaults for that data.
    """
    argv = sys.argv[1:] if argv is None else argv
    early = _peek(argv, choice)
    if parallel and not early.help:
        device_config.start(early.devices, early.coordinator, early.process_id, early.processes)
    saved = None
    if early.resume and not early.help:
        saved = RunDirectory.existing(early.runs_dir, experiment, early.name)
    default = fit(defaults(early.model, early.preset), early.dataset)
    if saved is not None:
        default = device_config.forgotten(saved.read_config(default))
    prog = f"python -m experiments.{experiment}"
    config = tyro.cli(
        type(default), default=default, args=list(argv), prog=prog, description=description
    )
    if saved is not None:
        _check_unchanged(default, config, saved.path)
        return dataclasses.replace(config, name=saved.path.name)  # type: ignore[type-var]
    return config


def _peek(argv: Sequence[str], choice: str) -> argparse.Namespace:
    """The flags that decide the others' defaults; tyro judges them all afterwards."""
    runs = Path("runs")
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(f"--{choice}", dest="model", nargs="?")
    for name in ("--preset", "--name", "--dataset"):
        parser.add_argument(name, nargs="?")
    parser.add_argument("--runs-dir", "--runs_dir", type=Path, default=runs, const=runs, nargs="?")
    for name, kind in (
        ("devices", int),
        ("coordinator", str),
        ("process-id", int),
        ("processes", int),
    ):
        parser.add_argument(f"--{name}", f"--{name.replace('-', '_')}", type=kind)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--help", "-h", action="store_true")
    try:
        return parser.parse_known_args(list(argv))[0]
    except argparse.ArgumentError:
        return parser.parse_args([])


def _check_unchanged(saved: Any, asked: Any, path: Path) -> None:
    for field in dataclasses.fields(saved):
        then, now = getattr(saved, field.name), getattr(asked, field.name)
        if then != now and field.name not in FREE_ON_RESUME:
            flag = config_checks.flag(field.name)
            raise UserError(
                f"{path} was begun with {flag} {then}, and --resume goes on with the same: leave "
                f"out {flag} {now}, or start a new run without --resume."
            )


def _stop(number: int, _frame: Any) -> None:
    raise Stopped(number)


def run(main: Callable[[], None]) -> None:
    """Calls `main`; wrong input ends in one sentence and code 1, Ctrl-C in 130, SIGTERM in 143.

    One of several processes ends so at once, and the others as soon as they miss it.
    """
    memory.one_heap()
    silence.silence_libraries()
    compiled.keep()
    try:
        _run(main)
    except BaseException as error:
        if not jax.distributed.is_initialized():
            raise
        _leave_the_others(error)


# What the libraries say when another process is gone.
SIGNS_OF_DEATH = (
    "Gloo",
    "NCCL",
    "coordination",
    "heartbeat",
    "Barrier",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
)


def _leave_the_others(error: BaseException) -> NoReturn:
    """Without the ordinary end, in which each process waits for all."""
    code = error.code if isinstance(error, SystemExit) else 1
    if any(word in str(error) for word in SIGNS_OF_DEATH):
        device_config.end_too()
    elif not isinstance(error, SystemExit):
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def _run(main: Callable[[], None]) -> None:
    try:
        with handling(_stop):
            main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        print(
            "error: The device's memory is not enough: ask for a smaller size or batch; the "
            "checkpoints so far are kept.",
            file=sys.stderr,
        )
        sys.exit(1)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        where = error.filename or "The disk"
        print(
            f"error: {where} can't be used ({error.strerror}): make room, change its permissions "
            "or choose another place with --runs-dir; the checkpoints so far are kept.",
            file=sys.stderr,
        )
        sys.exit(1)
    except Stopped as stop:
        print(stop, file=sys.stderr)
        sys.exit(128 + stop.number)
