"""What Inception's and ResNet's forms save against the plain convolutions that they replace.

    python -m experiments.inception_cost

For each form and the plain convolution of the same input and output channels: parameters, FLOPs an
image (multiplications and additions of the convolutions), and the measured time of a forward pass,
in turns in one process, since a shared machine's speed drifts: trust the ratios. The table is
printed, and drawn with the result in runs/inception_cost/<name>/.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import tyro

from experiments import command_line, config_checks, markdown, measuring
from experiments.provenance import provenance
from experiments.run_directory import RunDirectory
from jaxlessons import plotting, summary
from jaxlessons.errors import UserError
from jaxlessons.models.branches import (
    GOOGLENET,
    TUTORIAL,
    Branch,
    branch,
    factorized,
    googlenet_branches,
    residual_branches,
)
from jaxlessons.models.inception import Inception, InceptionResidual
from jaxlessons.models.residual import ResidualBlock

HEAD = "| form | instead of | input | parameters | share | FLOPs an image | share | time, share |"


class Form(NamedTuple):
    """A module and the plain one that it replaces, for images of this height, width, channels."""

    made: nn.Module
    instead_of: str
    plain: nn.Module
    shape: tuple[int, int, int]


def _module(*branches: Branch) -> Inception:
    """Convolutions with bias, as the tutorial has them."""
    return Inception(branches)


def _forms() -> dict[str, Form]:
    reduced = branch("reduced", (16, 1), (32, 5))
    googlenet = googlenet_branches(*GOOGLENET[0]["3a"])
    whole = _module(branch("plain", (256, 5)))
    seven, five = branch("plain", (128, 7)), branch("plain", (96, 5))
    residual = InceptionResidual(residual_branches(1, 128), norm="none")
    basic, bottleneck = (ResidualBlock(256, bottleneck=b, norm="none") for b in (False, True))
    return {
        "tutorial's module": Form(
            _module(*TUTORIAL), "5x5, 88 channels", _module(branch("p", (88, 5))), (12, 12, 20)
        ),
        "1x1 to 16, then 5x5": Form(
            _module(reduced), "5x5, 32 channels", _module(branch("p", (32, 5))), (28, 28, 192)
        ),
        "GoogLeNet's module 3a": Form(
            _module(*googlenet), "5x5, 256 channels", whole, (28, 28, 192)
        ),
        "3x3 and 3x3": Form(
            _module(branch("two", (96, 3), (96, 3))), "5x5", _module(five), (17, 17, 96)
        ),
        "3x1 after 1x3": Form(
            _module(*factorized([branch("two", (96, 3))])),
            "3x3",
            _module(branch("p", (96, 3))),
            (17, 17, 96),
        ),
        "7x1 after 1x7": Form(_module(*factorized([seven])), "7x7", _module(seven), (17, 17, 128)),
        "Inception-ResNet's block": Form(
            residual, "3x3, 128 channels", _module(branch("p", (128, 3))), (16, 16, 128)
        ),
        "bottleneck block": Form(bottleneck, "basic block", basic, (14, 14, 256)),
    }


FORMS = _forms()


@dataclass(frozen=True)
class Config:
    """Compare forms of convolutions."""

    forms: tuple[str, ...] = tuple(FORMS)
    """Which of them."""
    batch_size: int = 32
    """Images a forward pass."""
    rounds: int = 15
    """Turns; the median of the ratios counts."""
    pause: float = 0.05
    """Seconds ahead of each call."""
    runs_dir: Path = Path("runs")
    """Where run folders go."""


def cost(module: nn.Module, shape: tuple[int, int, int]) -> tuple[int, int]:
    """Parameters, and FLOPs of the convolutions an image."""
    table = summary.layer_table(module, jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    return sum(layer.parameters for layer in table), sum(layer.flops for layer in table)


def forward(module: Any, shape: tuple[int, int, int], batch_size: int) -> Callable[[], Any]:
    """A call of the compiled forward pass, which has been called once."""
    images = jax.random.normal(jax.random.key(0), (batch_size, *shape))
    variables = jax.jit(module.init)(jax.random.key(1), images[:1])
    run = jax.jit(module.apply)

    def call() -> None:
        jax.block_until_ready(run(variables, images))

    call()
    return call


def compare(name: str, config: Config) -> dict[str, Any]:
    """Both costs of a form, its share of each, and its share of the time."""
    form = FORMS[name]
    (parameters, flops), plain = (cost(m, form.shape) for m in (form.made, form.plain))
    calls = {
        kind: forward(module, form.shape, config.batch_size)
        for kind, module in (("made", form.made), ("plain", form.plain))
    }
    for call in calls.values():  # the first has grown cold while the second was compiled
        call()
    times = measuring.take_turns(calls, config.rounds, config.pause)
    # `ratio` says how many times as fast; a share of the time is its inverse.
    median, low, high = measuring.ratio(times["plain"], times["made"])
    return {
        "form": name,
        "instead_of": form.instead_of,
        "input": list(form.shape),
        "parameters": [parameters, plain[0]],
        "flops": [flops, plain[1]],
        "milliseconds": [1e3 * statistics.median(times[kind]) for kind in ("made", "plain")],
        "shares": {"parameters": parameters / plain[0], "FLOPs": flops / plain[1], "time": median},
        "time_quartiles": [low, high],
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The comparison as Markdown."""
    lines = []
    for row in rows:
        shares, (low, high) = row["shares"], row["time_quartiles"]
        cells = (
            row["form"],
            row["instead_of"],
            " x ".join(map(str, row["input"])),
            f"{row['parameters'][0]:,}",
            f"{shares['parameters']:.2f}",
            f"{row['flops'][0] / 1e6:,.1f} M",
            f"{shares['FLOPs']:.2f}",
            f"{shares['time']:.2f} ({low:.2f} to {high:.2f})",
        )
        lines.append(cells)
    return markdown.table(HEAD, lines)


def _check_forms(names: Sequence[str]) -> None:
    """Raises UserError for no form, one that is none, or one named twice."""
    if not names:
        raise UserError(f"--forms names none: name some of {', '.join(FORMS)}.")
    for number, name in enumerate(names):
        if name not in FORMS:
            raise UserError(f"--forms has {name!r}: it must be of {', '.join(FORMS)}.")
        if name in names[:number]:
            raise UserError(f"--forms has {name!r} twice: each can be there once.")


def main() -> None:
    """Compares every form asked for; then the table and the figure."""
    config = tyro.cli(Config, prog="python -m experiments.inception_cost", description=__doc__)
    config_checks.above_zero(config, ("batch_size", "rounds"))
    config_checks.from_zero(config, {"pause": 60})
    _check_forms(config.forms)
    rows = [compare(name, config) for name in config.forms]
    print(table(rows))
    run = RunDirectory.new(config.runs_dir, "inception_cost", None, jax.default_backend())
    figure = plotting.plot_shares(
        {f"{row['form']}\n(instead of {row['instead_of']})": row["shares"] for row in rows},
        "Share of the plain convolution's cost",
    )
    plotting.save_figure(figure, run.path / "shares.png")
    found = {"experiment": "inception_cost", "rows": rows}
    run.write_json("result.json", {**found, **provenance(), "config": dataclasses.asdict(config)})
    print(f"Everything is in {run.path}.")


if __name__ == "__main__":
    command_line.run(main)
