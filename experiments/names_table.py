"""The README's table of name classifiers, from recorded runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from experiments import markdown

HEAD = (
    "| network | parameters | test | names that are not in the training file | balanced | "
    "calibration error | seeds | device | time |"
)


def table(results: Sequence[dict[str, Any]]) -> str:
    """One row for all seeds of a cell and preset; the tutorial's first, then by accuracy."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for result in results:
        config = result["config"]
        key = (*(config[n] for n in ("preset", "cell", "layers", "features")), result["device"])
        groups.setdefault(key, []).append(result)

    def place(runs: list[dict[str, Any]]) -> tuple[bool, float]:
        mean = statistics.mean(run["test_accuracy"] for run in runs)
        return runs[0]["config"]["preset"] != "tutorial", -mean

    return markdown.table(HEAD, [_row(runs) for runs in sorted(groups.values(), key=place)])


def _row(runs: list[dict[str, Any]]) -> list[str]:
    first = runs[0]
    config = first["config"]
    network = f"{config['layers']} x {config['features']} {config['cell']}"
    minutes = statistics.mean(run["train_seconds"] for run in runs) / 60
    return [
        f"{network}, {first['epochs']:.3g} epochs (`--preset {config['preset']}`)",
        f"{first['parameters']:,}",
        _percent([run["test_accuracy"] for run in runs]),
        _percent([run["in_both_files"]["accuracy_of_others"] for run in runs]),
        _percent([run["balanced_accuracy"] for run in runs]),
        _percent([run["expected_calibration_error"] for run in runs]),
        str(len(runs)),
        first["device"],
        f"{minutes:.1f} min",
    ]


def _percent(found: list[float | None]) -> str:
    """Mean and deviation; a dash where a run has none, such as of names that no run lacked."""
    shares = [share for share in found if share is not None]
    if not shares:
        return "-"
    return markdown.mean([100 * share for share in shares]) + " %"
