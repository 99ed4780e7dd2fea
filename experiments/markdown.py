"""Tables for the README."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: str, rows: Iterable[Sequence[str]]) -> str:
    """The rows' cells under `head`, which is a row of the table as it stands."""
    lines = [head, "|" + "---|" * (head.count("|") - 1)]
    return "\n".join(lines + [row(cells) for cells in rows])


def row(cells: Sequence[str]) -> str:
    """A line of the table."""
    return "| " + " | ".join(cells) + " |"
