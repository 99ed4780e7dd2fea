"""The README's tables of recurrent networks, from recorded runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from experiments import markdown

# (cell, layers x features, epochs) -> validation nats a character of the lesson's.
LESSON = {
    ("rnn", 1, 256): "1.486",
    ("gru", 1, 256): "1.369",
    ("lstm", 2, 512): "1.315 (17 epochs), 1.252 (80)",
}
HEAD = "| network | text | lesson | validation, nats | bits | perplexity | seeds | device | time |"


def table(results: Sequence[dict[str, Any]]) -> str:
    """One row for all seeds of a network, preset and text: the best of each run's epochs."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for result in results:
        config = result["config"]
        names = ("preset", "cell", "layers", "features")
        key = (result["data"], *(config[n] for n in names), result["epochs"], result["device"])
        groups.setdefault(key, []).append(result)
    return markdown.table(HEAD, [_row(groups[key]) for key in sorted(groups)])


def _row(runs: list[dict[str, Any]]) -> list[str]:
    first = runs[0]
    config = first["config"]
    size = (config["cell"], config["layers"], config["features"])
    compared = config["preset"].startswith("lesson") and first["data"] == "nietzsche"
    lesson = LESSON.get(size, "not in the lesson") if compared else "not in the lesson"
    name = f"{size[1]} x {size[2]} {size[0].upper()}, {first['epochs']:.3g} epochs"
    minutes = statistics.mean(run["train_seconds"] for run in runs) / 60
    return [
        f"{name} (`--preset {config['preset']}`)",
        first["data"],
        lesson,
        markdown.mean([run["best_validation_loss"] for run in runs], 3),
        markdown.mean([run["bits_per_character"] for run in runs], 3),
        markdown.mean([run["perplexity"] for run in runs], 2),
        str(len(runs)),
        first["device"],
        f"{minutes:.1f} min",
    ]


def speed_table(result: dict[str, Any]) -> str:
    """One row a contestant, one column a length: the ratio to the reference, with its quartiles."""
    rows = result["rows"]
    lengths = sorted({row["length"] for row in rows})
    head = "| | " + " | ".join(f"{length} steps" for length in lengths) + " |"
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows):
        own = {row["length"]: row for row in rows if row["name"] == name}
        cells = [
            "{:.2f} ({:.2f} to {:.2f})".format(own[n]["ratio"], *own[n]["quartiles"])
            for n in lengths
        ]
        lines.append([name, *cells])
    return markdown.table(head, lines)
