"""What classifiers got right: predictions, confusions, accuracies side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure


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


def plot_comparison(rows: Sequence[Any], title: str) -> Figure:
    """Test accuracy of each variant, a point at the mean and a bar of one standard deviation.

    rows: with `name`, and `test` and `validation` as (mean, deviation) in per cent.
    """
    figure = Figure(figsize=(8, 1.2 + 0.42 * len(rows)), layout="constrained")
    axes: Any = figure.subplots()
    places = np.arange(len(rows))[::-1]
    for part, marker, shift in (("test", "o", 0.1), ("validation", "s", -0.1)):
        means, deviations = zip(*(getattr(row, part) for row in rows), strict=True)
        axes.errorbar(
            means, places + shift, xerr=deviations, fmt=marker, capsize=3, markersize=5, label=part
        )
    axes.set_yticks(places, [row.name for row in rows])
    axes.set(title=title, xlabel="accuracy (%), mean and standard deviation over the seeds")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
