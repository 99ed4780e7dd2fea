"""Writes networks.json: the lesson's networks in torch, float64, with weights by a formula.

Run with any Python that has torch: `python tests/stored/make_networks.py`. It holds logits in
training and in evaluation mode, the running statistics after one training step, and gradients.
"""

import json
import math
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

CLASSES, LABELS, SIZE = 5, [0, 3, 4, 1], 16


def formula(name: str, *shape: int) -> torch.Tensor:
    """sin(i^2 + i + the sum of the name's letters); shapes are flax's (height, width, in, out)."""
    index = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.sin(index * index + index + sum(map(ord, name))).reshape(shape)


def conv(name: str, size: int, inputs: int, outputs: int, stride=1, padding=0, bias=True):
    layer = nn.Conv2d(inputs, outputs, size, stride, padding, bias=bias).double()
    scale = 2 / math.sqrt(size * size * inputs)
    kernel = scale * formula(f"{name}/kernel", size, size, inputs, outputs)
    layer.weight.data = kernel.permute(3, 2, 0, 1).contiguous()
    if bias:
        layer.bias.data = 0.2 * formula(f"{name}/bias", outputs)
    return layer


def norm(name: str, size: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(size).double()
    layer.weight.data = 1 + 0.3 * formula(f"{name}/scale", size)
    layer.bias.data = 0.2 * formula(f"{name}/bias", size)
    layer.running_mean = 0.3 * formula(f"{name}/mean", size)
    layer.running_var = 1 + 0.5 * formula(f"{name}/var", size)
    return layer


class BnLayer(nn.Module):
    def __init__(self, name, inputs, outputs, stride=1, size=3, order="after"):
        super().__init__()
        bias = order == "none"
        self.conv = conv(f"{name}/conv", size, inputs, outputs, stride, size // 2, bias)
        normed = inputs if order == "pre" else outputs
        self.bn = nn.Identity() if bias else norm(f"{name}/bn", normed)
        self.order = order

    def forward(self, x):
        if self.order == "pre":
            return self.conv(F.relu(self.bn(x)))
        if self.order == "before":
            return F.relu(self.bn(self.conv(x)))
        return self.bn(F.relu(self.conv(x)))


class Network(nn.Module):
    """Stem, stages of one stride-2 layer and `extra` of stride 1, maximum, linear."""

    def __init__(self, layers, extra=(), residual=False, big_stem=False, order="after"):
        super().__init__()
        stem, size = layers[0], 7 if big_stem else 5
        if big_stem and order != "pre":
            self.stem = BnLayer("stem", 3, stem, size=7, order=order)
        else:
            self.stem = conv("stem", size, 3, stem, padding=size // 2)
        self.stages = nn.ModuleList()
        for i, (inputs, outputs) in enumerate(pairwise(layers), 1):
            down = BnLayer(f"stage{i}_down", inputs, outputs, stride=2, order=order)
            names = [f"stage{i}_{name}" for name in extra]
            more = [BnLayer(name, outputs, outputs, order=order) for name in names]
            self.stages.append(nn.ModuleList([down, *more]))
        self.residual = residual
        self.last = (
            nn.Sequential(norm("last_bn", layers[-1]), nn.ReLU())
            if order == "pre"
            else nn.Identity()
        )
        self.out = output_layer(layers[-1])

    def forward(self, x):
        x = self.stem(x)
        for down, *more in self.stages:
            x = down(x)
            for layer in more:
                x = x + layer(x) if self.residual else layer(x)
        return self.out(F.adaptive_max_pool2d(self.last(x), 1).flatten(1))


class ConvNet(nn.Module):
    def __init__(self, layers, padding):
        super().__init__()
        sizes = list(enumerate(zip((3, *layers), layers, strict=False), 1))
        self.convs = nn.ModuleList([conv(f"conv{i}", 3, a, b, 2, padding) for i, (a, b) in sizes])
        self.out = output_layer(layers[-1])

    def forward(self, x):
        for layer in self.convs:
            x = F.relu(layer(x))
        return self.out(F.adaptive_max_pool2d(x, 1).flatten(1))


def output_layer(inputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, CLASSES).double()
    kernel = 2 / math.sqrt(inputs) * formula("out/kernel", inputs, CLASSES)
    layer.weight.data, layer.bias.data = kernel.T, 0.2 * formula("out/bias", CLASSES)
    return layer


def figures(network: nn.Module) -> dict:
    """Running variances are given as flax keeps them, with the batch's biased variance."""
    images = formula("images", len(LABELS), SIZE, SIZE, 3).permute(0, 3, 1, 2)
    with torch.no_grad():
        evaluated = network.eval()(images).tolist()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [m.running_var.clone() for m in norms]
    counts = []
    for module in norms:
        module.register_forward_hook(lambda m, x, y: counts.append((m, y.numel() // y.shape[1])))
    logits = network.train()(images)
    F.cross_entropy(logits, torch.tensor(LABELS)).backward()
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    kernel = first.weight.grad.permute(2, 3, 1, 0).flatten()
    found = {
        "eval": evaluated,
        "train": logits.tolist(),
        "first_kernel_gradient": [*kernel[:8].tolist(), kernel.norm().item()],
        "out_kernel_gradient": network.out.weight.grad.T.flatten().tolist(),
    }
    if norms:
        n = dict(counts)[norms[-1]]
        batch_var = (norms[-1].running_var - 0.9 * before[-1]) / 0.1 * (n - 1) / n
        found["last_mean"] = norms[-1].running_mean.tolist()
        found["last_var"] = (0.9 * before[-1] + 0.1 * batch_var).tolist()
    return found


def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list) else float(f"{value:.7g}")


if __name__ == "__main__":
    sizes = (4, 6, 8)
    networks = {
        "ConvNet": ConvNet(sizes, 0),
        "ConvNet2": ConvNet(sizes, 1),
        "ConvBnNet": Network(sizes),
        "ConvBnNet before": Network(sizes, order="before"),
        "ConvBnNet none": Network(sizes, order="none"),
        "ConvBnNet2": Network(sizes, ["same"]),
        "Resnet": Network(sizes, ["res1", "res2"], residual=True),
        "Resnet2": Network(sizes, ["res1", "res2"], residual=True, big_stem=True),
        "Resnet2 pre": Network(sizes, ["res1", "res2"], residual=True, big_stem=True, order="pre"),
    }
    stored = rounded({name: figures(network) for name, network in networks.items()})
    text = json.dumps(stored, separators=(",", ":"))
    Path(__file__).with_name("networks.json").write_text(text + "\n")
