"""Every figure; the one module that draws. Each function returns a figure for `save_figure`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxlessons.files import replacing


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG, replacing an older one only when it is whole. Needs no screen."""
    FigureCanvasAgg(figure)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)


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


def plot_predictions(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    title: str,
    columns: int = 8,
) -> Figure:
    """Images `[n, h, w, 3]` uint8 with their true class, predicted class and its probability.

    probabilities: `[n, classes]`. Right answers are titled in green, wrong ones in red.
    """
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.6 * columns, 2.0 * rows + 0.5), layout="constrained")
    figure.suptitle(title)
    for i, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.set_axis_off()
        if i >= len(images):
            continue
        axes.imshow(images[i])
        guess = int(np.argmax(probabilities[i]))
        axes.set_title(
            f"true: {classes[labels[i]]}\n{classes[guess]} {probabilities[i, guess]:.0%}",
            color="darkgreen" if guess == labels[i] else "firebrick",
            fontsize=9,
        )
    return figure


def plot_confusion(matrix: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """A confusion matrix of counts `[true, predicted]`, coloured by its share of the row."""
    figure = Figure(figsize=(7.5, 6.8), layout="constrained")
    axes: Any = figure.subplots()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set(title=title, xlabel="predicted class", ylabel="true class")
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    for (row, column), count in np.ndenumerate(matrix):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, f"{count}", ha="center", va="center", color=colour, fontsize=8)
    return figure
