"""A run's config.json, metrics.jsonl and result.json."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from reader import Reader, Seed

from experiments import (
    cats_dogs_config,
    char_config,
    cifar_ablation,
    cifar_cnn,
    cifar_resnet,
    fast_style_config,
    style_config,
)
from experiments.run_directory import RunDirectory

CONFIGS: dict[str, Any] = {
    "cats_dogs": cats_dogs_config.Config(fine_lr=1.0, weights=Path("a.h5")),
    "char_rnn": char_config.Config(group_weight_decay={"cell": 0.1}, cycles=(1, 2)),
    "ablation": cifar_ablation.Config(variants=("a", "b")),
    "cnn": cifar_cnn.Config(),
    "resnet": cifar_resnet.Config(ema=0.9),
    "fast_style": fast_style_config.Config(),
    "style": style_config.Config(style=(Path("a"), Path("b")), style_weights=(0.5, 1.0)),
}
METRICS = [{"step": 1, "seconds": 0.5, "train_loss": 2.0, "samples": ["ä"]}]
METRICS += [{"step": 2, "seconds": 1, "train_loss": float("nan"), "validation_loss": None}]
METRICS += [{"step": 3, "seconds": 0.25, "train_loss": 1.5, "rates": {"a": 1.0}}]
RESULT = {"test_accuracy": 0.5, "steps": 3, "versions": {"jax": "1"}, "command": "python"}


def make() -> list[Reader]:
    lines = "".join(json.dumps(record) + "\n" for record in METRICS)
    line = json.dumps(METRICS[1]).encode()
    return [
        Reader("config.json", config_seeds(), read_config),
        Reader(
            "metrics.jsonl",
            (
                Seed("metrics.jsonl", lines.encode()),
                Seed("metrics.jsonl", line, within(lines.encode(), line), json=True),
            ),
            in_run(read_metrics),
        ),
        Reader(
            "result.json",
            (Seed("result.json", json.dumps(RESULT, indent=2).encode(), json=True),),
            in_run(read_result),
        ),
    ]


def config_seeds() -> tuple[Seed, ...]:
    seeds = []
    for name, config in CONFIGS.items():
        written = dataclasses.asdict(config) | {"data": "CIFAR-10", "command": f"python {name}"}
        blob = json.dumps(written | {"name": name}, indent=2, default=str).encode()
        seeds.append(Seed("config.json", blob, json=True))
    return tuple(seeds)


def within(lines: bytes, line: bytes) -> Callable[[bytes], bytes]:
    return lambda damaged: lines.replace(line, damaged)


def in_run(read: Callable[[RunDirectory], None]) -> Callable[[Path], None]:
    return lambda path: read(RunDirectory(path.parent))


def read_config(path: Path) -> None:
    """By the experiment that its command names, else by one of them."""
    blob = path.read_bytes()
    names = [name for name in CONFIGS if f"python {name}".encode() in blob]
    run = RunDirectory(path.parent)
    config = run.read_config(CONFIGS[names[0] if names else "cnn"])
    for name, hint in typing.get_type_hints(type(config)).items():
        assert fits(getattr(config, name), hint), name
    assert isinstance(run.command(), str)
    json.dumps(dataclasses.asdict(config), default=str)


def fits(value: Any, hint: Any) -> bool:
    """The test's own reading of a type hint."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return type(value) is str and value in inner
    if origin is tuple:
        each = [inner[0]] * len(value) if inner[-1] is ... else inner
        return type(value) is tuple and all(map(fits, value, each)) and len(value) == len(each)
    if origin is dict:
        return type(value) is dict and all(fits(v, inner[1]) for v in value.values())
    if inner:
        return any(fits(value, one) for one in inner)
    if hint is float:
        return type(value) in (int, float)
    return isinstance(value, hint) and (hint is bool or type(value) is not bool)


def read_metrics(run: RunDirectory) -> None:
    records = run.metrics()
    assert all(isinstance(record, dict) for record in records)
    assert run.train_seconds() >= 0
    run.forget_metrics_after(1)
    assert all(record["step"] <= 1 for record in run.metrics())


def read_result(run: RunDirectory) -> None:
    assert isinstance(run.result(), dict)
