"""The README's tables of style transfers, from recorded runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import markdown

# Evaluations -> loss, of the lesson (fast.ai 2018, lesson 13); its network has batch norm.
LESSON = {
    "content of layer 37": {"100": 0.785, "1000": 0.081},
    "content and style": {"100": 1802.0, "1000": 646.0},
}
# The lesson's number of a layer in VGG16 with batch norm -> ours.
NUMBERS = {"block5_conv1": "37", "block4_conv3": "32"}
HEAD = "| picture | size | evaluations | loss | seconds | memory | device |"
SPEED_HEAD = "| size | evaluations a second | speed to the same loss | memory | device |"


def name(result: dict[str, Any], device: str) -> str:
    """The record's name, without .json."""
    config = result["config"]
    files = [config["content"], *(config["style"] or [])]
    words = [Path(file).stem for file in files if file] or ["demo"]
    kind = [result["experiment"], *words]
    if result["experiment"] == "style_speed":
        return "-".join([*kind, f"{config['size']}px", device])
    if config["preset"] == "lesson":
        kind.append(_losses_of(config).replace(" ", "_"))
    else:
        kind.append(f"{config['size']}px")
    return "-".join([*kind, config["preset"], device, str(config["seed"])])


def tables(results: Sequence[dict[str, Any]]) -> dict[str, str]:
    """By name, the tables that there are records for."""
    runs = [result for result in results if result["experiment"] == "style_transfer"]
    quick = [run for run in runs if run["config"]["preset"] == "quick"]
    lesson = [run for run in runs if run["config"]["preset"] == "lesson"]
    speeds = [result for result in results if result["experiment"] == "style_speed"]
    found = {}
    if quick:
        found["style_transfer"] = markdown.table(HEAD, [_row(run) for run in quick])
    if lesson:
        found["style_transfer lesson"] = losses(lesson)
    if speeds:
        found["style_speed"] = markdown.table(SPEED_HEAD, [_speed_row(speed) for speed in speeds])
    return found


def losses(runs: Sequence[dict[str, Any]]) -> str:
    """The loss after 100, 200, ... evaluations, ours and the lesson's, a row each."""
    rows = {_losses_of(run["config"]): run["losses"] for run in runs}
    ends = sorted({int(end) for row in [*rows.values(), *LESSON.values()] for end in row})
    lines = []
    for kind in sorted(rows.keys() | LESSON.keys()):
        for whose, table in (("lesson", LESSON), ("ours", rows)):
            if kind in table:
                own = table[kind]
                cells = [f"{own[str(end)]:.4g}" if str(end) in own else "" for end in ends]
                lines.append([kind, whose, *cells])
    return markdown.table("| loss | | " + " | ".join(map(str, ends)) + " |", lines)


def _losses_of(config: dict[str, Any]) -> str:
    if not config["content_weight"]:
        return "style"
    if config["style_weight"]:
        return "content and style"
    return f"content of layer {NUMBERS.get(config['content_layer'], config['content_layer'])}"


def _row(run: dict[str, Any]) -> list[str]:
    config = run["config"]
    files = [config["content"], *(config["style"] or [])]
    height, width = run["size"]
    return [
        " + ".join(file for file in files if file) or "the demonstration",
        f"{width} x {height}",
        str(run["evaluations"]),
        f"{run['value']:.4g}",
        f"{run['seconds']:.0f}",
        f"{run['memory_megabytes']:.0f} MB",
        run["device"],
    ]


def _speed_row(speed: dict[str, Any]) -> list[str]:
    low, high = speed["quartiles"]
    memory = speed["resident_megabytes"] or speed["memory_megabytes"]
    return [
        f"{speed['config']['size']} px",
        f"{speed['ratio']:.2f} ({low:.2f} to {high:.2f})",
        f"{speed['ratio_to_equal_loss']:.2f}",
        f"{memory['ours']:.0f} MB, PyTorch's {memory['torch']:.0f}",
        speed["device"],
    ]
