"""Tables for the README."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence


def table(head: str, rows: Iterable[Sequence[str]]) -> str:
    """The rows' cells under `head`, which is a row of the table as it stands."""
    lines = [head, "|" + "---|" * (head.count("|") - 1)]
    return "\n".join(lines + [row(cells) for cells in rows])


def row(cells: Sequence[str]) -> str:
    """A line of the table."""
    return "| " + " | ".join(cells) + " |"


def mean(values: Sequence[float], digits: int = 1) -> str:
    """The mean and, of several values, their standard deviation."""
    text = f"{statistics.mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {statistics.stdev(values):.{digits}f}"
