"""What classifiers got right: predictions, confusions, calibration, accuracies side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxlessons.metrics import Reliability

LARGEST_SIDE = 20  # inches, of a confusion matrix
MOST_COUNTED = 30  # classes, above which its counts would be too small to read
MOST_TICKS = 60


def plot_predictions(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    title: str,
    columns: int = 8,
) -> Figure:
    """Images with their true class, predicted class and its probability.

    images: `[n, h, w, channel]` uint8, grey or in colour. probabilities: `[n, classes]`. Right
    answers are titled in green, wrong ones in red.
    """
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.6 * columns, 2.0 * rows + 0.5), layout="constrained")
    figure.suptitle(title)
    for i, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.set_axis_off()
        if i >= len(images):
            continue
        axes.imshow(images[i], cmap="gray", vmin=0, vmax=255)
        guess = int(np.argmax(probabilities[i]))
        axes.set_title(
            f"true: {classes[labels[i]]}\n{classes[guess]} {probabilities[i, guess]:.0%}",
            color="darkgreen" if guess == labels[i] else "firebrick",
            fontsize=9,
        )
    return figure


def plot_confusion(matrix: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """A confusion matrix of counts `[true, predicted]`, coloured by its share of the row.

    With many classes the colours stand alone, and not every class is named.
    """
    side = min(max(7.5, 0.55 * len(classes)), LARGEST_SIDE)
    figure = Figure(figsize=(side, side - 0.7), layout="constrained")
    axes: Any = figure.subplots()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set(title=title, xlabel="predicted class", ylabel="true class")
    named = range(0, len(classes), -(-len(classes) // MOST_TICKS))
    axes.set_xticks(named, [classes[k] for k in named], rotation=45, ha="right")
    axes.set_yticks(named, [classes[k] for k in named])
    for (row, column), count in np.ndenumerate(matrix if len(classes) <= MOST_COUNTED else []):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, f"{count}", ha="center", va="center", color=colour, fontsize=8)
    return figure


def plot_reliability(found: Reliability, title: str) -> Figure:
    """Accuracy against confidence, bin by bin, and below it how many predictions each bin has.

    What lies under the diagonal is surer than it is right. A bin without predictions is left out.
    """
    figure = Figure(figsize=(5.6, 6.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    some, width = found.counts > 0, np.diff(found.edges)
    places, widths = found.edges[:-1][some], width[some]
    confidence, accuracy = found.confidence[some], found.accuracy[some]
    upper.bar(places, accuracy, widths, align="edge", color="C0", edgecolor="white", alpha=0.5)
    upper.plot(confidence, accuracy, "o-", color="C0", markersize=4, label="the classifier")
    upper.plot([0, 1], [0, 1], "--", color="grey", lw=1, label="calibrated")
    upper.set(title=title, ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    upper.legend(loc="upper left")
    lower.bar(places, found.counts[some], widths, align="edge", color="C0", edgecolor="white")
    lower.set(xlabel="confidence (highest probability)", ylabel="predictions")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
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


def plot_shares(shares: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """For each name a bar a kind of cost, as a share of what the name is compared with.

    shares: name -> kind -> share; all have the same kinds. A line stands at 1: as much as that.
    """
    kinds = list(next(iter(shares.values())))
    figure = Figure(figsize=(8, 1.2 + 0.7 * len(shares)), layout="constrained")
    axes: Any = figure.subplots()
    places = np.arange(len(shares))[::-1]
    height = 0.8 / len(kinds)
    for number, kind in enumerate(kinds):
        values = [row[kind] for row in shares.values()]
        at = places + 0.4 - (number + 0.5) * height
        bars = axes.barh(at, values, height, label=kind)
        axes.bar_label(bars, fmt="%.2f", padding=2, fontsize=7)
    axes.axvline(1, color="grey", ls="--", lw=1)
    axes.set_yticks(places, list(shares))
    axes.set(title=title, xlabel="share", xlim=(0, 1.1 * max(axes.get_xlim()[1], 1)))
    axes.grid(alpha=0.3, axis="x")
    figure.legend(loc="outside lower center", ncols=len(kinds))
    return figure


def plot_accuracies(values: Sequence[float], title: str, reference: float | None = None) -> Figure:
    """The accuracy in per cent of each training, by its number, with their mean as a line.

    reference: another line, for the accuracy that was published.
    """
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes: Any = figure.subplots()
    axes.plot(range(len(values)), values, "o", markersize=5)
    axes.axhline(np.mean(values), color="C0", label="mean")
    if reference is not None:
        axes.axhline(reference, color="grey", ls="--", label="published")
    axes.set(title=title, xlabel="seed", ylabel="accuracy (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
