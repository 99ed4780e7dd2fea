"""Figures of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

COLUMNS = 80


def plot_reactions(text: str, reactions: np.ndarray, units: Sequence[int], title: str) -> Figure:
    """The text once for each unit, a character's ground coloured by what the unit says to it.

    reactions: `[characters, len(units)]`; blue is below 0 and red above, each unit to its own
    greatest (Karpathy et al., 2015). units: their numbers, for the headings. Line breaks are shown
    as spaces, lines are 80 characters.
    """
    rows = -(-len(text) // COLUMNS)
    figure = Figure(figsize=(11, 0.5 + len(units) * (0.2 * rows + 0.35)), layout="constrained")
    figure.suptitle(title)
    panels: Any = figure.subplots(len(units), 1, squeeze=False)[:, 0]
    for axes, unit, reaction in zip(panels, units, reactions.T, strict=True):
        grid = np.full(rows * COLUMNS, np.nan)
        grid[: len(text)] = reaction
        limit = max(float(np.abs(reaction).max()), 1e-12)
        axes.imshow(
            grid.reshape(rows, COLUMNS), cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto"
        )
        axes.set_title(f"unit {unit}, to ±{limit:.2f}", loc="left", fontsize=8)
        axes.set(xticks=[], yticks=[])
        for place, symbol in enumerate(text):
            if symbol.isprintable() and not symbol.isspace():
                row, column = divmod(place, COLUMNS)
                dark = abs(reaction[place]) > 0.6 * limit
                axes.text(
                    column,
                    row,
                    symbol,
                    ha="center",
                    va="center",
                    fontsize=7,
                    family="monospace",
                    color="white" if dark else "black",
                    parse_math=False,
                )
    return figure
