"""Where in a photo a network saw its class: heat maps, and zooms on what was hot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure


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
