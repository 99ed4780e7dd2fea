"""Every figure; the one module that draws. Each function returns a figure for `save_figure`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxlessons.files import replacing
from jaxlessons.lr_curve import Sweep
from jaxlessons.schedules import (
    Phase,
    StepsPerEpoch,
    lr_schedule,
    momentum_schedule,
    phase_steps,
)


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


def plot_heatmaps(
    images: np.ndarray,
    maps: Mapping[str, np.ndarray],
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    sections: Mapping[str, np.ndarray],
    title: str,
) -> Figure:
    """Photos `[n, h, w, 3]` uint8 with heat maps laid over them: a block of columns a section.

    maps: by kind, `[n, h, w]`, one a row below the photos; each is scaled to its own range.
    sections: by heading, which photos. Above each stand the class guessed and its probability,
    green where it is the label's, and else red with the true class.
    """
    columns = max(1, *(len(chosen) for chosen in sections.values()))
    rows = 1 + len(maps)
    size = (1.45 * columns + 1.0, (1.45 * rows + 0.75) * len(sections) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=14)
    blocks: Any = figure.subfigures(len(sections), 1, squeeze=False, hspace=0.02)
    for block, (heading, chosen) in zip(blocks[:, 0], sections.items(), strict=True):
        block.suptitle(heading, fontsize=12, fontweight="bold")
        grid = block.subplots(rows, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for column, i in enumerate(chosen):
            _title_guess(grid[0, column], probabilities[i], labels[i], classes)
            grid[0, column].imshow(images[i])
            for axes, heat in zip(grid[1:, column], maps.values(), strict=True):
                axes.imshow(_overlay(images[i], heat[i]))
        for axes, name in zip(grid[:, 0], ("photo", *maps), strict=True):
            axes.text(
                -0.06, 0.5, name, transform=axes.transAxes, rotation=90, ha="right", va="center"
            )
    return figure


def plot_zoom(
    images: np.ndarray,
    boxes: np.ndarray,
    crops: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    sections: Mapping[str, np.ndarray],
    title: str,
) -> Figure:
    """Photos with the box that was enlarged, and below each its contents and the new guess.

    boxes: `[n, 4]`, (top, left, bottom, right) in pixels. before, after: probabilities
    `[n, classes]`. sections: as in `plot_heatmaps`.
    """
    columns = max(1, *(len(chosen) for chosen in sections.values()))
    figure = Figure(figsize=(1.6 * columns, 4.0 * len(sections) + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=14)
    blocks: Any = figure.subfigures(len(sections), 1, squeeze=False, hspace=0.02)
    for block, (heading, chosen) in zip(blocks[:, 0], sections.items(), strict=True):
        block.suptitle(heading, fontsize=12, fontweight="bold")
        grid = block.subplots(2, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for (upper, lower), i in zip(grid.T, chosen, strict=False):
            top, left, bottom, right = boxes[i]
            corners = ((left, right, right, left, left), (top, top, bottom, bottom, top))
            upper.imshow(images[i])
            upper.plot(*(np.array(c) - 0.5 for c in corners), color="yellow", lw=2, clip_on=False)
            lower.imshow(crops[i])
            _title_guess(upper, before[i], labels[i], classes)
            _title_guess(lower, after[i], labels[i], classes)
    return figure


def _title_guess(axes: Any, probabilities: np.ndarray, label: int, classes: Sequence[str]) -> None:
    guess = int(np.argmax(probabilities))
    text = f"{classes[guess]} {probabilities[guess]:.0%}"
    if guess != label:
        text += f"\n({classes[label]})"
    axes.set_title(text, color="darkgreen" if guess == label else "firebrick", fontsize=9)


def _overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The photo in grey, the more coloured the hotter; 0..1."""
    low, high = heat.min(), heat.max()
    heat = (heat - low) / (high - low if high > low else 1)
    grey = np.repeat(image.mean(axis=-1, keepdims=True) / 255, 3, axis=-1)
    strength = 0.15 + 0.5 * heat[..., None]
    return (1 - strength) * grey + strength * colormaps["inferno"](heat)[..., :3]
