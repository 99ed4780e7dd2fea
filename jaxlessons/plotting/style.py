"""How a picture came about: the loss by evaluation, and pictures side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure


def plot_losses(history: Mapping[str, np.ndarray], title: str) -> Figure:
    """The loss and its weighted parts by evaluation, on a logarithmic axis.

    history: as `stylize.Stylized` has it. A dashed line is where a finer scale begins; points
    that the method refused are left out.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes: Any = figure.subplots()
    taken = np.asarray(history["taken"], bool)
    steps = np.flatnonzero(taken) + 1
    for name, label in (("value", "loss"), ("content", ""), ("style", ""), ("variation", "")):
        values = np.asarray(history[name])[taken]
        if np.any(values > 0):
            axes.plot(steps, values, label=label or name, lw=2 if label else 1.2)
    for begin in np.flatnonzero(np.diff(history["scale"])) + 1.5:
        axes.axvline(begin, color="grey", ls="--", lw=1)
    axes.set(title=title, xlabel="evaluation", ylabel="loss", yscale="log", xlim=(0, None))
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:  # a loss of nothing but zeros has no curve
        axes.legend()
    return figure


def plot_loss_parts(records: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """The loss and its weighted parts by epoch, in training and (dashed) in validation.

    records: one mapping an epoch with "epoch", and with "loss", "content", "style" and "variation"
    behind "train_" or "validation_"; what a record lacks is left out, and so is what is 0.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes: Any = figure.subplots()
    for number, name in enumerate(("loss", "content", "style", "variation")):
        for split, line in (("train", "-"), ("validation", "--")):
            key = f"{split}_{name}"
            points = [(r["epoch"], r[key]) for r in records if r.get(key)]
            if points:
                epochs, values = zip(*points, strict=True)
                label = f"{split} {name}"
                axes.plot(epochs, values, color=f"C{number}", ls=line, marker=".", label=label)
    axes.set(title=title, xlabel="epoch", ylabel="loss", yscale="log", xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(ncols=2)
    return figure


def plot_pictures(pictures: Mapping[str, np.ndarray], title: str) -> Figure:
    """Pictures `[height, width, 3]` in a row, all of one height, under their names."""
    widths = [picture.shape[1] / picture.shape[0] for picture in pictures.values()]
    figure = Figure(figsize=(3.6 * sum(widths), 4.2), layout="constrained")
    figure.suptitle(title)
    panels: Any = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)
    for axes, (name, picture) in zip(panels.flat, pictures.items(), strict=True):
        axes.imshow(picture)
        axes.set_title(name)
        axes.set_axis_off()
    return figure
