"""The course of a training, of a sweep, and of the loss between two networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxlessons.lr_curve import Sweep


def plot_curves(
    records: Sequence[Mapping[str, Any]], rates: np.ndarray, per_epoch: int, title: str
) -> Figure:
    """Loss and accuracy by epoch, and the learning rate by step.

    records: one mapping an epoch with "epoch" and any of "train_loss", "validation_loss",
    "train_accuracy", "validation_accuracy"; what a record lacks is left out. rates: `[steps]`,
    of which `per_epoch` make an epoch.
    """
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    figure.suptitle(title)
    panels: list[Any] = list(figure.subplots(1, 3))
    for axes, name, unit in zip(panels, ("loss", "accuracy"), (" (nats)", ""), strict=False):
        for split in ("train", "validation"):
            key = f"{split}_{name}"
            points = [(r["epoch"], r[key]) for r in records if r.get(key) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=split)
        axes.set_ylabel(name + unit)
        if axes.lines:
            axes.legend()
    panels[2].plot(np.arange(len(rates)) / per_epoch, rates)
    panels[2].set_ylabel("learning rate")
    for axes in panels:
        axes.set(xlabel="epoch", xlim=(0, None))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    return figure


def plot_lr_find(sweep: Sweep, title: str = "") -> Figure:
    """The loss against the swept value, raw and smoothed, with the suggestions marked.

    The end of a sweep, where the loss explodes, is cut off lest it flatten the rest.
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes: Any = figure.subplots()
    axes.plot(sweep.values, sweep.losses, color="C0", alpha=0.35, lw=1, label="loss of the batch")
    axes.plot(sweep.values, sweep.smoothed, color="C0", lw=2, label="smoothed")
    axes.set(title=title, xlabel=sweep.name, ylabel="loss")
    if sweep.is_geometric():
        axes.set_xscale("log")
    suggestions = sweep.suggestions()
    for colour, (name, value) in zip(("C1", "C2", "C3"), suggestions.items(), strict=False):
        height = np.interp(value, sweep.values, sweep.smoothed)
        axes.axvline(value, color=colour, lw=1, ls="--")
        axes.plot([value], [height], "o", color=colour, label=f"{name}: {value:.2g}")
    if suggestions:
        shown = sweep.losses[sweep.values <= sweep.minimum()]
        low, high = min(shown.min(), sweep.smoothed.min()), shown.max()
        axes.set_ylim(low - 0.1 * (high - low), high + 0.5 * (high - low))
    else:
        axes.text(0.5, 0.95, "the loss never fell", transform=axes.transAxes, ha="center", va="top")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def plot_line(
    positions: Sequence[float], losses: Mapping[str, Sequence[float]], title: str
) -> Figure:
    """Loss along the line last + t (average - last); t = 0 is the last iterate, 1 the average.

    losses: by split, one value a position.
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes: Any = figure.subplots()
    for name, values in losses.items():
        axes.plot(positions, values, marker=".", label=name)
    for position, name in ((0, "last iterate"), (1, "average")):
        axes.axvline(position, color="grey", lw=0.8, ls="--")
        place = axes.get_xaxis_transform()
        axes.text(position, 0.97, f" {name}", transform=place, va="top", fontsize=9)
    axes.set(title=title, xlabel="t", ylabel="loss (nats)")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper center")
    return figure
