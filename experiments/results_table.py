"""The README's tables, from the recorded runs in experiments/results/.

    python -m experiments.results_table              # prints the tables
    python -m experiments.results_table RUN ...      # first records these finished runs

A run is recorded as it stands in its result.json, but for where on the machine things were.
"""

from __future__ import annotations

import json
import shlex
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from experiments import (
    benchmark_table,
    char_table,
    cifar_cnn,
    cifar_inception,
    cifar_resnet,
    command_line,
    comparison_rows,
    inception_cost,
    markdown,
    names_table,
    speedrun_config,
    speedrun_report,
    style_table,
)
from experiments.comparison_rows import Row
from jaxlessons.data import names
from jaxlessons.data import text as char_text
from jaxlessons.errors import UserError
from jaxlessons.files import replacing

# What a record leaves out: where on a machine things were, and how the run was asked for.
LOCAL = (
    "data_source",
    "data_dir",
    "train_file",
    "test_file",
    "checkpoint",
    "weights",
    "runs_dir",
    "name",
    "resume",
    "keep",
    "summary",
    "lr_find",
)
# Files that a picture was made from: a record has their names alone.
PICTURES = ("content", "style", "mask", "output")
RESULTS = Path(__file__).parent / "results"

# --model -> the network's name and what the lesson says of it, in the ladder's order.
LADDER = {
    "simple": ("SimpleNet", "46.9 %"),
    "conv": ("ConvNet", "59.9 %"),
    "conv2": ("ConvNet2", "not given"),
    "bn": ("ConvBnNet", "68.1 %"),
    "deep_bn": ("ConvBnNet2", "64.6 %"),
    "resnet": ("Resnet", "82.2 %"),
    "resnet2": ("Resnet2", "84.9 % with TTA"),
    "fast": ("FastResnet", "not in the lesson"),
    "small": ("SmallResnet", "not in the lesson"),
    "tutorial": ("TutorialResidualNet", "not in the lesson"),
    "basic": ("BlockResnet, 20 layers", "not in the lesson"),
    "preact": ("BlockResnet, pre-activation", "not in the lesson"),
    "bottleneck": ("BottleneckResnet, 29 layers", "not in the lesson"),
    "preact_bottleneck": ("BottleneckResnet, pre-activation", "not in the lesson"),
    "inception": ("TutorialInceptionNet", "not in the lesson"),
    "googlenet": ("GoogLeNet", "not in the lesson"),
    "inception_resnet": ("InceptionResnet", "not in the lesson"),
}
# The rungs' defaults, by experiment: a record tells apart what --norm and --width make of them.
DEFAULTS: dict[str, Callable[[str, str], Any]] = {
    "cifar_cnn": cifar_cnn.defaults,
    "cifar_resnet": cifar_resnet.defaults,
    "cifar_inception": cifar_inception.defaults,
}
HEAD = "| network | parameters | lesson | ours (test) | seeds | device | time | command |"


def record(run: Path) -> Path:
    """Copies a finished run's result.json into experiments/results/, without local paths."""
    try:
        result = json.loads((run / "result.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{run} holds no finished run's result.json ({error}).") from error
    for place in LOCAL:
        result.pop(place, None)
        result["config"].pop(place, None)
    result["command"] = _without(result["command"], "--data-dir", "--runs-dir", "--weights")
    result["command"] = shlex.join(map(_file, _words(result["command"])))
    for place in PICTURES:
        if named := result["config"].get(place):
            one = isinstance(named, str)
            result["config"][place] = _file(named) if one else [_file(path) for path in named]
    path = RESULTS / f"{_name(result)}.json"
    with replacing(path) as file:
        file.write_text(json.dumps(result, indent=2) + "\n")
    return path


def _file(word: str) -> str:
    """A path's last part, or the word as it is."""
    return Path(word).name if "/" in word else word


def _name(result: dict[str, Any]) -> str:
    device, config = result["device"].split(",")[0], result["config"]
    if result["experiment"] in ("style_transfer", "style_speed"):
        return style_table.name(result, device)
    # A measurement of costs, or a comparison with all its seeds in one file.
    if result["experiment"] in ("benchmark", "inception_cost") or "trials" in result:
        return f"{result['experiment']}-{device}"
    if "study" in config:  # a measurement of speed
        return "-".join([result["experiment"], config["study"], config["cell"], device])
    if result["experiment"] == "cifar_speedrun":
        kind = [config["target"], config["optimizer"], result["told"]]
        kind += [words.replace(" ", "_") for words in speedrun_config.changed(config)]
        return "-".join([result["experiment"], *kind, device]).replace("-test", "")
    kind = [config[name] for name in ("model", "cell", "preset") if name in config]
    kind += [f"{name}-{value}" for name, value in _own(result).items()]
    if "cell" in config or config.get("dataset", "cifar10") != "cifar10":
        kind.append(result["data"].replace(" ", "-"))
    return "-".join([result["experiment"], *kind, device, str(config["seed"])])


def _own(result: dict[str, Any]) -> dict[str, str]:
    """The norm and the width of a rung's run, where they are not its preset's."""
    config = result["config"]
    if result["experiment"] not in DEFAULTS:
        return {}
    usual = DEFAULTS[result["experiment"]](config["model"], config["preset"])
    found = {}
    for name, show in (("norm", str), ("width", "{:g}".format)):
        value = getattr(usual, name, None)
        if config.get(name, value) != value:
            found[name] = show(config[name])
    return found


def table(results: Iterable[dict[str, Any]]) -> str:
    """One row for all seeds of a network, preset and device: mean and standard deviation.

    What is asked for of another norm or width than its preset's is a network of its own.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for result in results:
        config = result["config"]
        rung = list(LADDER).index(config["model"])
        own = tuple(_own(result).items())
        key = (rung, config["epochs"], config["preset"], own, result["device"])
        groups.setdefault(key, []).append(result)
    return markdown.table(HEAD, [_row(groups[key]) for key in sorted(groups)])


def _row(runs: list[dict[str, Any]]) -> tuple[str, ...]:
    first = min(runs, key=lambda run: run["config"]["seed"])
    config = first["config"]
    network, lesson = LADDER[config["model"]]
    if (width := config.get("width", 1.0)) != 1:
        network += f", width {width:g}"
    if norm := _own(first).get("norm"):
        network += f", norm {norm}"
    ours = f"{markdown.mean([100 * run['test_accuracy'] for run in runs])} %"
    if all(run.get("tta") for run in runs):
        views = [100 * run["tta"]["test_accuracy"] for run in runs]
        ours += f", with TTA {markdown.mean(views)} %"
    minutes = statistics.mean(run["train_seconds"] for run in runs) / 60
    return (
        f"{network}, {config['epochs']:g} epoch{'s' * (config['epochs'] != 1)}",
        f"{first['parameters']:,}",
        lesson,
        ours,
        f"{len(runs)}",
        first["device"],
        f"{minutes:.1f} min",
        f"`{_without(first['command'], '--name', '--seed')}`",
    )


def _without(command: str, *flags: str) -> str:
    """A command line without the flags and their values."""
    words = iter(_words(command))
    return shlex.join([word for word in words if word not in flags or not next(words)])


def _words(command: str) -> list[str]:
    """A command line's words, --flag=value as two."""
    return [
        part
        for word in shlex.split(command)
        for part in (word.split("=", 1) if word.startswith("--") else [word])
    ]


def recorded() -> list[dict[str, Any]]:
    """Every CIFAR-10 run and comparison, all of texts, names and speed, all pictures' records."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    of_interest = ("CIFAR-10", names.NAME, *char_text.NAMES)
    measured = ("rnn_speed", "style_transfer", "style_speed", "benchmark", "inception_cost")
    return [r for r in found if r.get("data") in of_interest or r.get("experiment") in measured]


def tables(results: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The ladder's table, and the others by the names of their experiments."""
    speeds = [result for result in results if result["experiment"] == "rnn_speed"]
    timed = [result for result in results if result["experiment"] == "benchmark"]
    chars = [result for result in results if result["experiment"] == "char_rnn"]
    # A file of a user's own may be called as a text is.
    classifiers = [r for r in results if r["experiment"] == "names" and r["data"] == names.NAME]
    painted = style_table.tables(results)
    fastest = [result for result in results if result["experiment"] == "cifar_speedrun"]
    trained = [
        result
        for result in results
        if result["experiment"].startswith("cifar_") and result not in fastest
    ]
    compared = {
        result["experiment"]: comparison_rows.table([Row(**row) for row in result["rows"]])
        for result in trained
        if "trials" in result
    }
    found = {"ladder": table(r for r in trained if "trials" not in r), **compared}
    if fastest:
        found["cifar_speedrun"] = speedrun_report.table(fastest)
    if chars:
        found["char_rnn"] = char_table.table(chars)
    if classifiers:
        found["names"] = names_table.table(classifiers)
    for result in speeds:
        config = result["config"]
        found[f"rnn_speed {config['study']} {config['cell']}"] = char_table.speed_table(result)
    for result in timed:
        found[f"benchmark {result['device']}"] = benchmark_table.table(result)
        if growth := benchmark_table.growth_table(result):
            found[f"benchmark's growth {result['device']}"] = growth
    for result in results:
        if result["experiment"] == "inception_cost":
            found["inception_cost"] = inception_cost.table(result["rows"])
    return found | painted


def main() -> None:
    """Records the runs named, and prints the tables."""
    for run in sys.argv[1:]:
        record(Path(run))
    for name, text in tables(recorded()).items():
        print(f"{name}\n\n{text}\n")


if __name__ == "__main__":
    command_line.run(main)
