"""The README's table of the benchmark, from its record."""

from __future__ import annotations

from typing import Any

HEAD = "| | side | a second | ours, times as fast | share of the peak | compiled in | memory |"


def table(result: dict[str, Any]) -> str:
    """A row for each workload and side."""
    lines = [HEAD, "|" + "---|" * (HEAD.count("|") - 1)]
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
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
