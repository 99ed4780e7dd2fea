"""The README's tables of the benchmark, from its record."""

from __future__ import annotations

from typing import Any

from experiments import markdown

HEAD = "| | side | a second | ours, times as fast | share of the peak | compiled in | memory |"
# What the sizes that can be varied are called in a table.
SIZES = {
    "batch_size": "images a batch",
    "image_size": "pixels a side",
    "streams": "streams",
    "features": "hidden units",
    "bptt": "characters a step",
    "picture": "pixels a side",
    "devices": "devices",
}


def table(result: dict[str, Any]) -> str:
    """A row for each workload and side."""
    rows = []
    for row in result["rows"]:
        low, high = row["quartiles"]
        memory = row["memory_megabytes"]
        cells = [
            row["workload"],
            row["side"],
            f"{row['per_second']:,.1f} {row['unit']}",
            "" if row["side"] == "ours" else f"{row['ours_to_this']:.2f} ({low:.2f} to {high:.2f})",
            f"{row['share_of_peak']:.0%}",
            f"{row['compile_seconds']:.1f} s",
            "" if memory is None else f"{memory:,.0f} MB",
        ]
        rows.append(cells)
    return markdown.table(HEAD, rows)


def growth_table(result: dict[str, Any]) -> str:
    """How many times as fast as PyTorch, a row for each workload and size that was varied."""
    found: dict[str, list[str]] = {}
    for row in result["growth"]:
        if row["side"] == "torch":
            name = f"{row['workload']}, {SIZES[row['size']]}"
            found.setdefault(name, []).append(f"{row['value']}: {row['ours_to_this']:.2f}")
    if not found:
        return ""
    most = max(map(len, found.values()))
    head = ["times as fast as PyTorch", *[""] * most]
    rows = [[name, *cells, *[""] * (most - len(cells))] for name, cells in found.items()]
    return markdown.table(markdown.row(head), rows)
