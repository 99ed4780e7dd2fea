"""How fast something is: beside something else, and by its size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter


def plot_speeds(rows: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """How many times as fast we are as each side, a bar from 1 and a line between the quartiles.

    On a logarithmic axis, where twice and half as fast are as far from 1.

    rows: with "workload", "side" (that of "ours" is left out), "ours_to_this" and "quartiles".
    """
    others = [row for row in rows if row["side"] != "ours"]
    figure = Figure(figsize=(8, 1.4 + 0.4 * max(1, len(others))), layout="constrained")
    axes: Any = figure.subplots()
    places = np.arange(len(others))[::-1]
    for place, row in zip(places, others, strict=True):
        middle, (low, high) = row["ours_to_this"], row["quartiles"]
        color = "C2" if middle >= 1 else "C3"
        axes.barh(place, middle - 1, left=1, color=color, height=0.6)
        axes.plot([low, high], [place, place], color="black", lw=1.5, marker="|")
        axes.text(max(high, 1), place, f"  {middle:.2f}", va="center")
    axes.axvline(1, color="grey", lw=1, ls="--")
    axes.set_yticks(places, [f"{row['workload']}, {row['side']}" for row in others])
    axes.set(title=title, xlabel="times as fast as that side (median and quartiles)")
    axes.set_xscale("log")
    quartiles = [value for row in others for value in row["quartiles"]]
    least, most = min([1.0, *quartiles]), max([1.0, *quartiles])
    axes.set_xlim(0.95 * least, 1.1 * most * (most / least) ** 0.15)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    return figure


def plot_growth(rows: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Speed by size: a panel for each workload and size, four to a row, a line for each side.

    rows: with "workload", "size", "value", "side", "unit" and "per_second".
    """
    panels = list(dict.fromkeys((row["workload"], row["size"], row["unit"]) for row in rows))
    across = min(4, len(panels))
    down = math.ceil(len(panels) / across)
    figure = Figure(figsize=(4.2 * across, 3.6 * down), layout="constrained")
    figure.suptitle(title)
    for place, (workload, size, unit) in enumerate(panels, start=1):
        axes = figure.add_subplot(down, across, place)
        own = [row for row in rows if (row["workload"], row["size"]) == (workload, size)]
        for side in dict.fromkeys(row["side"] for row in own):
            points = [(row["value"], row["per_second"]) for row in own if row["side"] == side]
            axes.plot(*zip(*points, strict=True), marker="o", label=side)
        axes.set(title=workload, xlabel=size.replace("_", " "), ylabel=f"{unit} a second")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.grid(alpha=0.3)
        axes.legend()
    return figure
