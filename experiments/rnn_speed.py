"""Steps a second of recurrent layers: our backends, PyTorch's, and cells that need no loop.

    python -m experiments.rnn_speed                   # the LSTM; PyTorch too where it is installed
    python -m experiments.rnn_speed --study parallel  # QRNN, minGRU, minLSTM at 64, 512, 4096 steps

Timed is the loss's value and its gradient with respect to the parameters and the input. All
contestants of one length take turns in one process, since a shared machine's speed drifts: trust
the ratios. Before that, their outputs and gradients are checked to agree.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments import command_line, config_checks, measuring
from experiments.provenance import provenance
from experiments.run_directory import RunDirectory
from jaxlessons.errors import UserError
from jaxlessons.models import rnn_cudnn
from jaxlessons.models.rnn import Recurrent

try:
    import torch
except ImportError:
    torch = None

PARALLEL = ("qrnn", "mingru", "minlstm")
# The loss, and the gradients with respect to the input and to each parameter, by name.
Found = tuple[Any, Any, dict[str, Any]]
Call = Callable[[], Found]


@dataclass(frozen=True)
class Config:
    """Time recurrent layers."""

    study: Literal["backends", "parallel"] = "backends"
    """backends: one cell by each backend, and PyTorch's; parallel: cells without a loop against
    the LSTM and the GRU."""
    cell: Literal["rnn", "gru", "lstm"] = "lstm"
    """The cell of the study of backends."""
    batch_size: int = 64
    """Sequences."""
    features: int = 512
    """Hidden units, and inputs."""
    layers: int = 2
    """Layers."""
    lengths: tuple[int, ...] = (8, 32, 70)
    """Steps of a sequence; the study of parallel cells usually takes 64, 512 and 4096."""
    rounds: int = 15
    """Turns; the median of the ratios counts."""
    pause: float = 0.02
    """Seconds between turns, in which the other library's threads go to sleep."""
    runs_dir: Path = Path("runs")
    """Where run folders go."""


def ours(cell: Any, backend: Any, config: Config, x: np.ndarray, params: Any) -> Call:
    """A call of `Recurrent`."""
    layer = Recurrent(cell, config.features, config.layers, backend=backend)
    inputs = jnp.asarray(x)

    def loss(params: Any, x: jax.Array) -> jax.Array:
        return jnp.mean(layer.apply({"params": params}, x)[0] ** 2)

    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))

    def call() -> Found:
        value, (grads, d_inputs) = jax.block_until_ready(step(params, inputs))
        return value, d_inputs, grads

    return call


def pytorch(config: Config, x: np.ndarray, params: Mapping[str, Any]) -> Call:
    """A call of torch.nn.LSTM, GRU or RNN with the same weights, on as many threads."""
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[config.cell]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    layer = kind(config.features, config.features, config.layers).to(device)
    with torch.no_grad():
        for name, weight in layer.named_parameters():
            weight.copy_(torch.tensor(np.asarray(params[name]).tolist()))
    # PyTorch's own order of axes, time first, with which it is fastest.
    inputs = torch.tensor(x.swapaxes(0, 1).tolist(), device=device, requires_grad=True)

    def call() -> Found:
        layer.zero_grad()
        inputs.grad = None
        loss = (layer(inputs)[0] ** 2).mean()
        loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()
        return loss, inputs.grad, {name: weight.grad for name, weight in layer.named_parameters()}

    return call


def contestants(config: Config, length: int) -> dict[str, Call]:
    """By name, all that take turns on sequences of this length; the first is the reference."""
    x = np.random.RandomState(0).randn(config.batch_size, length, config.features)
    x = x.astype(np.float32)

    def params(cell: Any) -> Any:
        layer = Recurrent(cell, config.features, config.layers)
        return layer.init(jax.random.key(0), jnp.asarray(x[:, :1]))["params"]

    if config.study == "parallel":
        pairs = [(cell, backend) for cell in PARALLEL for backend in ("fused", "associative")]
        pairs = [("lstm", "fused"), ("gru", "fused"), *pairs]
        return {f"{c} {b}": ours(c, b, config, x, params(c)) for c, b in pairs}
    weights, backends = params(config.cell), ["scan", "fused"]
    backends += ["cudnn"] if config.cell == "lstm" and rnn_cudnn.is_available() else []
    found = {backend: ours(config.cell, backend, config, x, weights) for backend in backends}
    return found if torch is None else {"torch": pytorch(config, x, weights), **found}


def check_agreement(found: Mapping[str, Found]) -> None:
    """Raises when two ways to compute the same cell differ by more than rounding explains."""
    sums = {name: _sums(one) for name, one in found.items()}
    for name, own in sums.items():
        # In the study of parallel cells only the same cell's backends compute the same.
        same = [other for other in sums if " " not in name or other.split()[0] == name.split()[0]]
        np.testing.assert_allclose(own, sums[same[0]], rtol=2e-3, err_msg=f"{name}, {same[0]}")


def _sums(found: Found) -> list[float]:
    """The loss, and the sum of the squares of each gradient."""
    loss, d_inputs, grads = found
    return [float(loss), *(float((g**2).sum()) for g in (d_inputs, *map(grads.get, sorted(grads))))]


def compare(config: Config, length: int) -> list[dict[str, Any]]:
    """The row of each contestant: its speed, and how many times the reference's it is."""
    calls = contestants(config, length)
    check_agreement({name: call() for name, call in calls.items()})
    seconds = measuring.take_turns(calls, config.rounds, config.pause)
    reference = next(iter(calls))
    rows: list[dict[str, Any]] = []
    for name, own in seconds.items():
        ratio = measuring.ratio(own, seconds[reference])
        row = {
            "name": name,
            "length": length,
            "steps_per_second": round(config.batch_size * length / statistics.median(own), 1),
            "ratio": round(ratio.median, 3),
            "quartiles": [round(ratio.low, 3), round(ratio.high, 3)],
            "reference": reference,
        }
        rows.append(row)
        print(
            f"{length:5} steps  {name:20} {row['steps_per_second']:12,.0f} steps/s, "
            f"{ratio.median:.2f} times {reference} (quartiles {ratio.low:.2f} to {ratio.high:.2f})",
            flush=True,
        )
    return rows


def main() -> None:
    """Times every length asked for."""
    config = tyro.cli(Config, prog="python -m experiments.rnn_speed", description=__doc__)
    config_checks.above_zero(config, ("batch_size", "features", "layers", "rounds"))
    if not config.lengths or min(config.lengths) < 1:
        raise UserError(f"--lengths is {config.lengths}: name one or more, each 1 or more.")
    if torch is None and config.study == "backends":
        print("PyTorch is not installed: our backends are compared with each other alone.")
    rows = [row for length in config.lengths for row in compare(config, length)]
    run = RunDirectory.new(config.runs_dir, "rnn_speed", None, f"{config.study}-{config.cell}")
    versions = {} if torch is None else {"torch": torch.__version__}
    found = provenance()
    found["versions"] |= versions
    result = {
        "experiment": "rnn_speed",
        "rows": rows,
        **found,
        "config": dataclasses.asdict(config),
    }
    run.write_json("result.json", result)
    print(f"Everything is in {run.path}.")


if __name__ == "__main__":
    command_line.run(main)
