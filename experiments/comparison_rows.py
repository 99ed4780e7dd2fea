"""What a comparison's trials come to: a row a variant, with mean and deviation over the seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments import markdown


class Row(NamedTuple):
    """One variant's accuracies in per cent: mean and standard deviation over its trials."""

    name: str
    trials: int
    validation: tuple[float, float]
    test: tuple[float, float]


def summarize(records: Sequence[Mapping[str, Any]], prefix: str = "") -> list[Row]:
    """A row a variant; prefix: "averaged_" for the figures of the averaged networks."""
    rows = []
    for name in dict.fromkeys(record["variant"] for record in records):
        trials = [r for r in records if r["variant"] == name and f"{prefix}test_accuracy" in r]
        if trials:
            values = (
                mean_and_deviation([100 * r[f"{prefix}{part}_accuracy"] for r in trials])
                for part in ("validation", "test")
                if f"{prefix}{part}_accuracy" in trials[0]
            )
            *validation, test = values
            rows.append(Row(name, len(trials), validation[0] if validation else test, test))
    return rows


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """The sample's mean and standard deviation, which is 0 for one value."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = []
    for row in rows:
        validation, test = (f"{mean:.1f} ± {dev:.1f} %" for mean, dev in (row.validation, row.test))
        lines.append([row.name, validation, test, str(row.trials)])
    return markdown.table("| variant | validation | test | seeds |", lines)
