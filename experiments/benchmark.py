"""This project's speed against PyTorch's, where that is installed, and against the machine's peak.

    python -m experiments.benchmark
    python -m experiments.benchmark --workloads lstm_training --grow streams features bptt

The same weights, batch and type on all sides: this project, PyTorch as it comes, and PyTorch
through torch.compile. They take turns, since a shared machine's speed drifts: trust the ratios.
Each has a process of its own, so that it takes a CPU or a GPU, which several can use; this
project's keeps the memory that it frees, as all runs here do, and with --torch-keeps PyTorch's too.
Before that, what they compute is checked to agree. --grow varies one size at a time.
"""

from __future__ import annotations

import dataclasses
import math
import os
import statistics
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from experiments import benchmark_torch, command_line, config_checks, measuring, peak
from experiments.benchmark_ours import Sizes
from experiments.benchmark_workloads import WORKLOADS, Workload, check_agreement
from experiments.provenance import provenance
from experiments.run_directory import RunDirectory
from jaxlessons import plotting
from jaxlessons.errors import UserError

# What --grow varies, on which workloads, and how.
GROWTH: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "batch_size": (("resnet2_training", "resnet2_inference"), (16, 64, 256, 512)),
    "image_size": (("resnet2_training", "resnet2_inference"), (16, 32, 64)),
    "streams": (("lstm_training",), (16, 64, 256)),
    "features": (("lstm_training", "lstm_sampling"), (128, 256, 512, 1024)),
    "bptt": (("lstm_training",), (8, 32, 128)),
    "picture": (("style",), (128, 256, 512)),
    "devices": (("resnet2_training", "resnet2_inference"), (1, 2)),
}


@dataclass(frozen=True)
class Config:
    """Time the workloads."""

    workloads: tuple[str, ...] = tuple(WORKLOADS)
    """Of resnet2_training, resnet2_inference, lstm_training, lstm_sampling and style."""
    grow: tuple[str, ...] = ()
    """Sizes to vary, one at a time, to see how the cost grows."""
    sizes: tyro.conf.OmitArgPrefixes[Sizes] = field(default_factory=Sizes)
    rounds: int = 15
    """Turns; the median of the ratios counts."""
    checked: int = 2
    """Turns ahead of those, in which the figures are checked to agree, and all is compiled."""
    turn: float = 0.5
    """Seconds that a turn takes at least: steps in a row, as in a training, since the first after
    the other library's is slower by what that left in the caches."""
    pause: float = 0.1
    """Seconds between turns, in which the other library's threads go to sleep."""
    torch_keeps: bool = False
    """PyTorch too keeps the memory that it frees, which on a CPU saves it many page faults."""
    compiled: bool = True
    """Also time torch.compile, which takes a minute or more a workload to compile."""
    memory: bool = True
    """Also measure each side's memory, in one more process of its own, that keeps nothing."""
    runs_dir: Path = Path("runs")
    """Where run folders go."""
    name: str | None = None
    """Name of the run's folder; one is made up otherwise."""


def compare(workload: Workload, config: Config, top: float) -> list[dict[str, Any]]:
    """The row of each side. top: the machine's peak, operations a second."""
    makes = {
        side: make
        for side, make in workload.makes.items()
        if config.compiled or side != "torch compiled"
    }
    keeping = makes if config.torch_keeps else ("ours",)
    begun = {
        side: partial(measuring.keeping_memory, make) if side in keeping else make
        for side, make in makes.items()
    }
    checked: dict[str, list[float]] = {side: [] for side in begun}
    with measuring.apart(begun) as calls:
        for _ in range(config.checked):
            found = {}
            for side, call in calls.items():
                began = time.perf_counter()
                found[side] = call()
                checked[side].append(time.perf_counter() - began)
            check_agreement(workload.name, found, workload.rtol)
        # The same for all sides, so that these stay at the same step of their training.
        times = max(1, math.ceil(config.turn / min(map(min, checked.values()))))
        turns = {side: partial(call, times) for side, call in calls.items()}
        seconds = measuring.take_turns(turns, config.rounds, config.pause)
    memory = measuring.peak_megabytes(makes) if config.memory else {}
    rows = []
    for side, own in seconds.items():
        median = statistics.median(own) / times
        # Times ours: above 1 is a side that is faster than this project.
        ours = measuring.ratio(seconds["ours"], own)
        rows.append(
            {
                "workload": workload.name,
                "side": side,
                "unit": workload.unit,
                "per_second": workload.items / median,
                "ours_to_this": ours.median,
                "quartiles": [ours.low, ours.high],
                "compile_seconds": max(0.0, checked[side][0] - median),
                "share_of_peak": workload.flops / median / top,
                "memory_megabytes": memory.get(side),
            }
        )
    return rows


def line(row: dict[str, Any]) -> str:
    """A row as it is printed."""
    low, high = row["quartiles"]
    against = f"ours is {row['ours_to_this']:.2f} times as fast ({low:.2f} to {high:.2f})"
    memory = row["memory_megabytes"]
    return (
        f"{row['workload']:18} {row['side']:15} {row['per_second']:10,.1f} {row['unit']}/s, "
        + ("" if row["side"] == "ours" else against + ", ")
        + f"{row['share_of_peak']:.1%} of peak, compiled in {row['compile_seconds']:.1f} s"
        + ("" if memory is None else f", {memory:,.0f} MB")
    )


def grow(config: Config, name: str, top: float) -> list[dict[str, Any]]:
    """The rows of the workloads that depend on one size, for several values of it."""
    plain = dataclasses.replace(config, compiled=False, memory=False)
    workloads, values = GROWTH[name]
    rows = []
    for key in workloads:
        for value in values if key in config.workloads else ():
            change: Any = {name: value}
            sizes = dataclasses.replace(config.sizes, **change)
            for row in compare(WORKLOADS[key](sizes), plain, top):
                rows.append({"size": name, "value": value, **row})
                print(f"{name} {value:5}  {line(row)}", flush=True)
    return rows


def check(config: Config) -> None:
    """Raises UserError, naming the flag, for a value that makes no sense."""
    for flag, names, known in (
        ("--workloads", config.workloads, WORKLOADS),
        ("--grow", config.grow, GROWTH),
    ):
        for name in names:
            if name not in known:
                raise UserError(f"{flag} has {name!r}: it must be of {', '.join(known)}.")
    config_checks.above_zero(config, ("rounds", "checked"))
    config_checks.from_zero(config, {"turn": np.inf, "pause": np.inf})
    numbers = [x.name for x in dataclasses.fields(Sizes) if x.name != "compute_dtype"]
    config_checks.above_zero(config.sizes, numbers)
    if config.sizes.batch_size % (config.sizes.devices or 1):
        raise UserError(
            f"--devices is {config.sizes.devices}: a batch of {config.sizes.batch_size} images "
            "can't be shared out evenly."
        )


def main() -> None:
    """Times every workload asked for, and how its cost grows."""
    config = tyro.cli(Config, prog="python -m experiments.benchmark", description=__doc__)
    check(config)
    # Else jax would take most of a GPU's memory for itself, and leave PyTorch none.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if benchmark_torch.torch is None:
        print("PyTorch is not installed: this project is timed alone.")
    run = RunDirectory.new(config.runs_dir, "benchmark", config.name, jax.default_backend())
    size = 2048 if jax.default_backend() == "cpu" else 8192
    top = peak.matmul_peak(config.sizes.compute_dtype, size)
    if benchmark_torch.torch is not None:
        top = max(top, benchmark_torch.matmul_peak(config.sizes.compute_dtype, size))
    print(f"A matrix product reaches {top / 1e9:,.1f} GFLOP/s in {config.sizes.compute_dtype}.")
    rows = []
    for name in config.workloads:
        found = compare(WORKLOADS[name](config.sizes), config, top)
        print(*map(line, found), sep="\n", flush=True)
        rows += found
    growth = [row for name in config.grow for row in grow(config, name, top)]
    about = provenance()
    if benchmark_torch.torch is not None:
        about["versions"] |= {"torch": benchmark_torch.torch.__version__}
    result = {
        "experiment": "benchmark",
        "peak_flops_per_second": top,
        "rows": rows,
        "growth": growth,
        **about,
        "config": dataclasses.asdict(config),
    }
    # Ahead of the figures: there is no going on with a run whose times are lost.
    run.write_json("result.json", result)
    title = f"{about['device']}, {config.sizes.compute_dtype}"
    plotting.save_figure(plotting.plot_speeds(rows, title), run.path / "speeds.png")
    if growth:
        plotting.save_figure(plotting.plot_growth(growth, title), run.path / "growth.png")
    print(f"Everything is in {run.path}.")


if __name__ == "__main__":
    command_line.run(main)
