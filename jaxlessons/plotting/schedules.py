"""Learning rate and momentum, phase by phase."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxlessons.schedules import (
    Phase,
    StepsPerEpoch,
    lr_schedule,
    momentum_schedule,
    phase_steps,
)


def plot_schedule(phases: Sequence[Phase], steps_per_epoch: StepsPerEpoch) -> Figure:
    """Learning rate and momentum by epoch, the phases marked and labelled: the lesson's plot_lr."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    rate_axes, momentum_axes = figure.subplots(1, 2)
    _draw_curve(rate_axes, phases, steps_per_epoch, "learning rate", lr_schedule)
    _draw_curve(momentum_axes, phases, steps_per_epoch, "momentum", momentum_schedule)
    _mark_phases(rate_axes, phases, [_lr_label(phase) for phase in phases])
    _mark_phases(momentum_axes, phases, [_optimizer_name(phase) for phase in phases])
    return figure


def plot_schedules(
    schedules: Mapping[str, Sequence[Phase]], steps_per_epoch: int, columns: int = 4
) -> Figure:
    """Every named list of phases: its rate in a panel of its own, and below it its momentum."""
    rows = -(-len(schedules) // columns)
    figure = Figure(figsize=(4.2 * columns, 4.4 * rows), layout="constrained")
    ratios = [2.2, 1] * rows
    grid: Any = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=ratios)
    for axes in grid.flat:
        axes.set_axis_off()
    for k, (name, phases) in enumerate(schedules.items()):
        row, column = 2 * (k // columns), k % columns
        upper, lower = grid[row, column], grid[row + 1, column]
        for axes in (upper, lower):
            axes.set_axis_on()
        _draw_curve(upper, phases, steps_per_epoch, "learning rate", lr_schedule)
        _draw_curve(lower, phases, steps_per_epoch, "momentum", momentum_schedule)
        _mark_phases(upper, phases, [_optimizer_name(phase) for phase in phases])
        _mark_phases(lower, phases, [""] * len(phases))
        upper.set(title=name, xlabel="")
        lower.set_ylim(0, 1)
    return figure


def _draw_curve(
    axes: Any,
    phases: Sequence[Phase],
    steps_per_epoch: StepsPerEpoch,
    name: str,
    schedule: Callable[..., Any],
) -> None:
    lengths = phase_steps(phases, steps_per_epoch)
    values = np.asarray(schedule(phases, steps_per_epoch)(np.arange(sum(lengths))))
    # Where phases differ in their steps an epoch, a phase's steps still fill its epochs.
    starts = np.cumsum([0, *(phase.epochs for phase in phases)])
    epochs = [starts[k] + np.arange(n) * phases[k].epochs / n for k, n in enumerate(lengths)]
    axes.plot(np.concatenate(epochs), values)
    axes.set(xlabel="epoch", ylabel=name, xlim=(0, starts[-1]))
    axes.grid(alpha=0.3)


def _mark_phases(axes: Any, phases: Sequence[Phase], labels: Sequence[str]) -> None:
    """A line at each boundary, and a label over each phase that is wide enough for one."""
    starts = np.cumsum([0, *(phase.epochs for phase in phases)])
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.18 * (high - low))
    for k, label in enumerate(labels):
        if k:
            axes.axvline(starts[k], color="grey", lw=0.8, ls=":")
        if phases[k].epochs > 0.06 * starts[-1]:
            middle = (starts[k] + starts[k + 1]) / 2
            place = axes.get_xaxis_transform()
            axes.text(middle, 0.97, label, transform=place, ha="center", va="top", fontsize=8)


def _optimizer_name(phase: Phase) -> str:
    kind = phase.optimizer
    return kind if isinstance(kind, str) else getattr(kind, "__name__", repr(kind))


def _lr_label(phase: Phase) -> str:
    decay = phase.lr_decay
    if isinstance(decay, str):
        return "constant" if decay == "none" else decay
    return f"{decay[0]} {decay[1]:g}"
