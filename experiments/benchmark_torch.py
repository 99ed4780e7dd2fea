"""The benchmark's workloads in PyTorch, with our parameters; needs PyTorch.

compiled: through `torch.compile`. Images come as `[batch, height, width, channel]` and go through
as PyTorch likes them best: channels first on a CPU, last on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from experiments import peak
from experiments.style_torch import TorchTransfer
from jaxlessons.style_settings import Settings

try:
    import torch
except ImportError:
    torch = None

Call = Callable[[], np.ndarray]


def device() -> str:
    """Where PyTorch computes."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def tensor(array: Any) -> Any:
    """A tensor on the device; by way of bytes, so that a PyTorch without NumPy will do."""
    array = np.ascontiguousarray(array)
    kind = {"f": torch.float32, "i": torch.int64}[array.dtype.kind]
    plain = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
    flat = torch.frombuffer(bytearray(plain.tobytes()), dtype=kind)
    return flat.reshape(plain.shape).to(device())


def matmul_peak(dtype: str, size: int, repeats: int = 8, rounds: int = 5) -> float:
    """As `peak.matmul_peak`, by PyTorch."""
    kind = getattr(torch, dtype)
    x = torch.randn(size, size, device=device()).to(kind)
    factor = x / size**0.5

    def run() -> None:
        product = x
        for _ in range(repeats):
            product = product @ factor
        product[0, 0].item()  # waits for a GPU

    return peak.best_rate(run, 2 * size**3 * repeats, rounds)


def resnet2_training(
    variables: Mapping[str, Any], images: np.ndarray, labels: np.ndarray, dtype: str, compiled: bool
) -> Call:
    """A training step a call: SGD with momentum 0.9 and rate 0.01; gives the batch's loss."""
    weights = _resnet2_weights(variables)
    inputs, targets = _images(images), tensor(labels)
    trained = [w.requires_grad_() for name, w in weights.items() if "running" not in name]
    optimizer = torch.optim.SGD(trained, 0.01, momentum=0.9)

    def loss() -> Any:
        with _autocast(dtype):
            logits = _resnet2(weights, inputs, train=True)
        return torch.nn.functional.cross_entropy(logits.float(), targets)

    objective = torch.compile(loss) if compiled else loss

    def call() -> np.ndarray:
        optimizer.zero_grad()
        value = objective()
        value.backward()
        optimizer.step()
        return np.asarray([value.item()])

    return call


def resnet2_inference(
    variables: Mapping[str, Any], images: np.ndarray, dtype: str, compiled: bool
) -> Call:
    """The logits of a batch a call; gives those of the first image."""
    weights, inputs = _resnet2_weights(variables), _images(images)

    def forward() -> Any:
        with _autocast(dtype):
            return _resnet2(weights, inputs, train=False)

    objective = torch.compile(forward) if compiled else forward

    def call() -> np.ndarray:
        with torch.no_grad():
            return np.asarray(objective()[0].float().tolist())

    return call


def lstm_training(
    params: Mapping[str, Any], tokens: np.ndarray, dtype: str, compiled: bool
) -> Call:
    """A step of truncated backpropagation a call, with Adam at 1e-3; gives the window's loss.

    tokens: `[batch, length + 1]`, the same each time; the hidden state goes on from call to call.
    """
    weights = _lstm_weights(params)
    text = tensor(tokens.T)
    trained = [weights["embedding"], *weights["lstm"].parameters(), *weights["output"]]
    optimizer = torch.optim.Adam([w.requires_grad_() for w in trained], 1e-3)
    carry: list[Any] = [None]

    def loss(carried: Any) -> Any:
        with _autocast(dtype):
            logits, after = _lstm(weights, text[:-1], carried)
        flat = logits.float().flatten(0, 1)
        return torch.nn.functional.cross_entropy(flat, text[1:].flatten()), after

    objective = torch.compile(loss) if compiled else loss

    def call() -> np.ndarray:
        optimizer.zero_grad()
        value, after = objective(carry[0])
        carry[0] = tuple(part.detach() for part in after)
        value.backward()
        optimizer.step()
        return np.asarray([value.item()])

    return call


def lstm_sampling(
    params: Mapping[str, Any], prompt: np.ndarray, length: int, dtype: str, compiled: bool
) -> Call:
    """`length` characters a call, one at a time, the likeliest each time; gives them."""
    weights, start = _lstm_weights(params), tensor(prompt)[:, None]

    def step(token: Any, carry: Any) -> Any:
        with _autocast(dtype):
            logits, carry = _lstm(weights, token, carry)
        return logits[-1:].argmax(dim=-1), carry

    objective = torch.compile(step) if compiled else step

    def call() -> np.ndarray:
        written = []
        with torch.no_grad():
            token, carry = objective(start, None)
            for _ in range(length):
                written.append(token)
                token, carry = objective(token, carry)
        return np.asarray(torch.cat(written).flatten().tolist())

    return call


def painting(
    settings: Settings,
    params: Mapping[str, Any],
    mean: tuple[float, ...],
    pictures: tuple[np.ndarray, np.ndarray, np.ndarray],
    evaluations: int,
    compiled: bool,
) -> Call:
    """So many evaluations a call of a style transfer; gives the loss of the start.

    pictures: content, style and start, as `TorchTransfer` takes them.
    """
    transfer = TorchTransfer(settings, params, mean, *pictures)
    plain = transfer.loss

    def loss() -> Any:
        with _autocast(settings.compute_dtype):
            return plain()

    transfer.loss = torch.compile(loss) if compiled else loss  # type: ignore[method-assign]

    def call() -> np.ndarray:
        transfer.advance(evaluations)
        return np.asarray(transfer.values[:1])

    return call


def _autocast(dtype: str) -> Any:
    return torch.autocast(device(), torch.bfloat16, enabled=dtype == "bfloat16")


def _images(images: np.ndarray) -> Any:
    x = tensor(images.transpose(0, 3, 1, 2))
    return x.to(memory_format=torch.channels_last) if device() == "cuda" else x


def _resnet2_weights(variables: Mapping[str, Any]) -> dict[str, Any]:
    """By our names: "stem.conv", "stem.bn.scale", "stem.bn.running_mean", ..., "out.kernel"."""
    found = {}
    for path, leaf in jax.tree.flatten_with_path(dict(variables))[0]:
        kind, *names = (key.key for key in path)
        name = ".".join(
            f"running_{n}" if kind == "batch_stats" and n in ("mean", "var") else n for n in names
        )
        array = np.asarray(leaf)
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        found[name] = tensor(array)
    return found


def _resnet2(weights: Mapping[str, Any], x: Any, train: bool) -> Any:
    functional = torch.nn.functional

    def layer(x: Any, name: str, stride: int = 1) -> Any:
        kernel = weights[f"{name}.conv.kernel"]
        x = functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2).relu()
        statistics = (weights[f"{name}.bn.running_{kind}"] for kind in ("mean", "var"))
        scale, bias = weights[f"{name}.bn.scale"], weights[f"{name}.bn.bias"]
        return functional.batch_norm(x, *statistics, scale, bias, training=train)

    x = layer(x, "stem")
    stages = sum(name.endswith("_down.conv.kernel") for name in weights)
    for stage in range(1, stages + 1):
        x = layer(x, f"stage{stage}_down", 2)
        for i in (1, 2):
            x = x + layer(x, f"stage{stage}_res{i}")
    return functional.linear(x.amax((2, 3)), weights["out.kernel"], weights["out.bias"])


def _lstm_weights(params: Mapping[str, Any]) -> dict[str, Any]:
    recurrent = params["recurrent"]
    rows, features = recurrent["weight_hh_l0"].shape
    layers = sum(name.startswith("weight_ih") for name in recurrent)
    lstm = torch.nn.LSTM(recurrent["weight_ih_l0"].shape[1], features, layers).to(device())
    assert rows == 4 * features
    with torch.no_grad():
        for name, weight in lstm.named_parameters():
            weight.copy_(tensor(recurrent[name]))
    output = params["output"]
    return {
        "embedding": tensor(params["embedding"]["embedding"]),
        "lstm": lstm,
        "output": [tensor(np.asarray(output["kernel"]).T), tensor(output["bias"])],
    }


def _lstm(weights: Mapping[str, Any], tokens: Any, carry: Any) -> Any:
    """tokens `[time, batch]`: PyTorch's own order of axes, with which it is fastest."""
    embedded = torch.nn.functional.embedding(tokens, weights["embedding"])
    outputs, carry = weights["lstm"](embedded, carry)
    return torch.nn.functional.linear(outputs, *weights["output"]), carry
