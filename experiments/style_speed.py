"""Time and memory of a style transfer against the same loss in PyTorch with its L-BFGS.

    python -m experiments.style_speed --content photo.jpg --style painting.jpg

Both start from the same picture and take turns in one process, a few evaluations each, since a
shared machine's speed drifts: trust the ratios. Before that, the loss at the start is checked to
agree. PyTorch has to be installed; compilation is not counted, and is printed by itself.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments import command_line, config_checks, measuring, style_config, style_torch
from experiments.provenance import provenance
from experiments.run_directory import RunDirectory
from experiments.style_pictures import load_pictures, prepare
from experiments.style_torch import TorchTransfer
from jaxlessons import minimize, style_inputs, weights
from jaxlessons.errors import UserError
from jaxlessons.style_objective import make_features, make_objective
from jaxlessons.style_settings import Settings
from jaxlessons.stylize import make_minimizer, targets_of
from jaxlessons.weights import Weights

EXPERIMENT = "style_speed"
# What PyTorch's side doesn't have.
UNCOMPARED = (
    *("scales", "optimizer", "normalization", "pool", "color", "tv_weight", "average"),
    "compute_dtype",
)


@dataclass(frozen=True)
class Config(style_config.Config):
    """Time a style transfer."""

    turn: int = 10
    """Evaluations of a turn."""
    pause: float = 0.1
    """Seconds between turns, in which the other library's threads go to sleep."""


class Ours:
    """A picture on its way, as `stylize` makes it, with the seconds that compilation took."""

    def __init__(self, config: Config, trained: Weights, inputs: Any, start: np.ndarray) -> None:
        features = make_features(config, trained.mean)
        params = jax.tree.map(jnp.asarray, trained.params)
        self.data = (params, targets_of(config, features, params, inputs))
        method = make_minimizer(config)
        self.descent = minimize.begin(method, jnp.asarray(start))
        each = 1 if jax.default_backend() == "cpu" else config.turn
        call = minimize.make_call(method, make_objective(config, trained.mean), each)
        began = time.perf_counter()
        self.call = call.lower(self.descent, self.data).compile()
        self.compile_seconds, self.each = time.perf_counter() - began, each
        self.values: list[float] = []

    def advance(self, evaluations: int) -> None:
        """So many evaluations more; the loss of each goes into `values`."""
        records = []
        for _ in range(evaluations // self.each):
            self.descent, record = self.call(self.descent, self.data)
            records.append(record["value"])
        self.values += np.concatenate(jax.block_until_ready(records)).tolist()


def sides(config: Config) -> dict[str, Callable[[], Any]]:
    """What makes each library's transfer of the same pictures, from the same start."""
    trained = weights.vgg16(config.weights)
    settings = style_config.settings(config)
    inputs = prepare(config, load_pictures(config))
    start = style_inputs.start(settings, inputs)
    pictures = (inputs.content, inputs.styles[0], start)
    return {
        "ours": lambda: Ours(config, trained, inputs, start),
        "torch": lambda: TorchTransfer(settings, trained.params, trained.mean, *pictures),
    }


def advancing(config: Config, name: str) -> Callable[[], None]:
    """One library's transfer, of which each call is a turn."""
    side = sides(config)[name]()
    return lambda: side.advance(config.turn)


def compare(config: Config) -> dict[str, Any]:
    """The figures of both, and their ratio."""
    both = {name: make() for name, make in sides(config).items()}
    ours, theirs = both["ours"], both["torch"]
    seconds: dict[str, list[float]] = {name: [] for name in both}
    for turn in range(config.evaluations // config.turn):
        for name, one in both.items():
            time.sleep(config.pause)
            began = time.perf_counter()
            one.advance(config.turn)
            seconds[name].append(time.perf_counter() - began)
        if turn == 0:
            np.testing.assert_allclose(ours.values[0], theirs.values[0], rtol=1e-3)
        print(
            f"{(turn + 1) * config.turn:5} evaluations: loss ours {min(ours.values):.5g}, torch "
            f"{min(theirs.values):.5g}; seconds ours {seconds['ours'][-1]:.1f}, torch "
            f"{seconds['torch'][-1]:.1f}",
            flush=True,
        )
    return figures(config, ours, theirs, seconds)


def figures(
    config: Config, ours: Ours, theirs: TorchTransfer, seconds: dict[str, list[float]]
) -> dict[str, Any]:
    """The result: seconds an evaluation and their ratio, losses, and the time to equal loss."""
    # The first turn holds what each library does but once.
    own, other = (seconds[name][1:] for name in ("ours", "torch"))
    ratio = measuring.ratio(own, other)
    target = max(min(ours.values), min(theirs.values))
    reached = {
        name: next(i for i, v in enumerate(one.values, 1) if v <= target)
        for name, one in (("ours", ours), ("torch", theirs))
    }
    each = {"ours": statistics.median(own), "torch": statistics.median(other)}
    each = {name: value / config.turn for name, value in each.items()}
    return {
        "seconds_per_evaluation": each,
        "ratio": ratio.median,
        "quartiles": [ratio.low, ratio.high],
        "compile_seconds": ours.compile_seconds,
        "loss_at_equal_evaluations": {"ours": min(ours.values), "torch": min(theirs.values)},
        "evaluations_to_equal_loss": reached,
        "ratio_to_equal_loss": each["torch"] * reached["torch"] / (each["ours"] * reached["ours"]),
        "memory_megabytes": {
            "ours": minimize.call_bytes(ours.call) / 2**20,
            "torch": None if (peak := theirs.peak_bytes()) is None else peak / 2**20,
        },
    }


def main() -> None:
    """Parses the command line, compares, and writes result.json."""
    default = Config(**dataclasses.asdict(style_config.defaults(None, "lesson")))
    config = tyro.cli(
        Config, default=default, prog=f"python -m experiments.{EXPERIMENT}", description=__doc__
    )
    style_config.check(config)
    config_checks.above_zero(config, ("turn",))
    if style_torch.torch is None:
        raise UserError("PyTorch is not installed, and there is nothing to compare with: add it.")
    for field in UNCOMPARED:
        if getattr(config, field) != getattr(Settings(), field):
            raise UserError(f"{config_checks.flag(field)} is not compared: leave it out.")
    if not (config.content_weight and config.style_weight):
        raise UserError("Compared are content and style together: leave their weights above 0.")
    if len(config.style) > 1:
        raise UserError(f"--style names {len(config.style)}: compared is one.")
    if config.evaluations < 2 * config.turn:
        raise UserError(f"--evaluations is {config.evaluations}: it must be two turns or more.")
    run = RunDirectory.new(config.runs_dir, EXPERIMENT, config.name, f"{config.size}px")
    makes = {name: partial(advancing, config, name) for name in ("ours", "torch")}
    resident = measuring.peak_megabytes(makes)
    found = compare(config) | {"resident_megabytes": resident}
    about = provenance()
    about["versions"] |= {"torch": style_torch.torch.__version__}
    result = {"experiment": EXPERIMENT, **found, **about, "config": dataclasses.asdict(config)}
    run.write_json("result.json", result)
    low, high = found["quartiles"]
    print(
        f"{found['ratio']:.2f} times PyTorch's evaluations a second (quartiles {low:.2f} to "
        f"{high:.2f}), {found['ratio_to_equal_loss']:.2f} times as fast to the same loss. "
        f"Everything is in {run.path}."
    )


if __name__ == "__main__":
    command_line.run(main)
