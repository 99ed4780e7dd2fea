"""Every schedule of lesson 13, in one figure and as a table of values.

    python -m experiments.lr_schedules

The lesson (fast.ai 2018, lesson 13: the training phase API) holds the rate for a third of the time,
lets it fall to a tenth by one of four curves, and holds it again; then come SGDR and 1cycle, in
three phases of which the last one changes the optimizer. `experiments.cifar_schedules` trains with
each of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from experiments import command_line, config_checks
from experiments.provenance import provenance
from experiments.run_directory import RunDirectory
from jaxlessons import plotting
from jaxlessons.schedules import (
    Phase,
    lr_schedule,
    momentum_schedule,
    one_cycle,
    sgdr,
    step_decay,
    total_steps,
)


@dataclass(frozen=True)
class Config:
    """Draw the lesson's schedules."""

    epochs: float = 3.0
    """Length of each."""
    lr: float = 0.01
    """The highest learning rate."""
    steps_per_epoch: int = 200
    """Steps an epoch; the table is read off at every half epoch."""
    runs_dir: Path = Path("runs")
    """Where run folders go."""


def schedules(lr: float, epochs: float, optimizer: str = "sgd") -> dict[str, list[Phase]]:
    """The lesson's lists of phases, by name, all of the same length and highest rate."""
    third = epochs / 3

    def fall(decay: str | tuple[str, float]) -> list[Phase]:
        return [
            Phase(third, lr, optimizer=optimizer),
            Phase(third, (lr, lr / 10), decay, optimizer=optimizer),
            Phase(third, lr / 10, optimizer=optimizer),
        ]

    cycle = one_cycle(lr, epochs, optimizer=optimizer)
    # Adam's steps are about as long as its rate, whatever the gradient: it wants a smaller one.
    adam = dataclasses.replace(cycle[-1], lr=(lr / 50, lr / 5000), optimizer="adam")
    return {
        "step": step_decay(lr, [third, third, third], optimizer=optimizer),
        "linear": fall("linear"),
        "cosine": fall("cosine"),
        "exponential": fall("exponential"),
        "polynomial 2": fall(("polynomial", 2)),
        "polynomial 0.5": fall(("polynomial", 0.5)),
        "sgdr": sgdr(lr, 2, cycle_length=third, cycle_mult=2, optimizer=optimizer),
        "1cycle, then adam": [*cycle[:-1], adam],
    }


def table(named: Mapping[str, Sequence[Phase]], steps_per_epoch: int) -> str:
    """Rate and momentum at every half epoch, a line each."""
    epochs = max(total_steps(p, steps_per_epoch) for p in named.values()) / steps_per_epoch
    marks = np.arange(0, epochs + 0.25, 0.5)
    steps = np.round(marks * steps_per_epoch).astype(int)
    lines = [f"{'epoch':28}" + "".join(f"{mark:>10.1f}" for mark in marks)]
    for name, phases in named.items():
        for what, schedule in (("lr", lr_schedule), ("momentum", momentum_schedule)):
            values = np.asarray(schedule(phases, steps_per_epoch)(steps))
            lines.append(f"{name:18} {what:9}" + "".join(f"{value:>10.4g}" for value in values))
    return "\n".join(lines)


def main() -> None:
    """Prints the table and draws the figure."""
    config = tyro.cli(Config, prog="python -m experiments.lr_schedules", description=__doc__)
    config_checks.above_zero(config, ("epochs", "lr", "steps_per_epoch"))
    named = schedules(config.lr, config.epochs)
    print(table(named, config.steps_per_epoch))
    run = RunDirectory.new(config.runs_dir, "lr_schedules", None, "schedules")
    picture = run.path / "schedules.png"
    plotting.save_figure(plotting.plot_schedules(named, config.steps_per_epoch), picture)
    run.write_json("result.json", {**provenance(), "config": dataclasses.asdict(config)})
    print(f"The figure is {picture}.")


if __name__ == "__main__":
    command_line.run(main)
