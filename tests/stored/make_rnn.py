"""Writes rnn.json: PyTorch's recurrent layers, float64, with weights by a formula.

Run with any Python that has torch: `python tests/stored/make_rnn.py`. For each layer, with and
without lengths, it holds the outputs, the carry h and c, and the gradients of
sum(outputs * formula("loss")), to which each part of the carry is added in the same way, by the
name "loss" and its number: layer by layer and direction by direction, h and then c.
"""

import json
import math
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

BATCH, TIME, INPUTS, FEATURES, LAYERS = 3, 5, 3, 4, 2
LENGTHS = [2, 5, 1]


def formula(name: str, *shape: int) -> torch.Tensor:
    """sin(i^2 + i + the sum of the name's letters), as in make_networks.py."""
    index = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.sin(index * index + index + sum(map(ord, name))).reshape(shape)


def stacked(kind: type[nn.RNNBase], bidirectional: bool, **options) -> nn.RNNBase:
    layer = kind(
        INPUTS, FEATURES, LAYERS, batch_first=True, bidirectional=bidirectional, **options
    ).double()
    for name, value in layer.named_parameters():
        value.data = 0.6 * formula(name, *value.shape)
    return layer


def figures(layer: nn.RNNBase, lengths: list[int] | None) -> dict:
    x = formula("x", BATCH, TIME, INPUTS).requires_grad_()
    directions = 2 if layer.bidirectional else 1
    parts = "hc" if isinstance(layer, nn.LSTM) else "h"
    state = [formula(p, LAYERS * directions, BATCH, FEATURES).requires_grad_() for p in parts]
    inputs = x
    if lengths is not None:
        inputs = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    outputs, last = layer(inputs, tuple(state) if len(state) == 2 else state[0])
    if lengths is not None:
        outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=TIME)
    last = last if isinstance(last, tuple) else (last,)
    loss = (outputs * formula("loss", *outputs.shape)).sum()
    parted = torch.stack(last, 1).reshape(-1, BATCH, FEATURES)
    for number, value in enumerate(parted):
        loss = loss + (value * formula(f"loss{number}", *value.shape)).sum()
    layer.zero_grad()
    loss.backward()
    return {
        "outputs": outputs.tolist(),
        "carry": [value.tolist() for value in last],
        "d_x": x.grad.tolist(),
        "d_carry": [value.grad.tolist() for value in state],
        "d_params": {name: value.grad.tolist() for name, value in layer.named_parameters()},
    }


def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list) else float(f"{value:.9g}")


if __name__ == "__main__":
    kinds = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
    stored = {}
    for bidirectional in (False, True):
        layers = {name: stacked(kind, bidirectional) for name, kind in kinds.items()}
        layers["rnn relu"] = stacked(nn.RNN, bidirectional, nonlinearity="relu")
        for name, layer in layers.items():
            name += " bidirectional" if bidirectional else ""
            stored[name] = figures(layer, None)
            stored[name + " lengths"] = figures(layer, LENGTHS)
    text = json.dumps(rounded(stored), separators=(",", ":"))
    Path(__file__).with_name("rnn.json").write_text(text + "\n")
