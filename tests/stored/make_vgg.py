"""Writes vgg.json: VGG16's features in torch, float64, with weights by a formula.

Run with any Python that has torch: `python tests/stored/make_vgg.py`. "caffe" takes blue, green
and red minus their means, as Keras does; "torchvision" takes red, green and blue, scaled.
"""

import json
import math
from itertools import pairwise
from pathlib import Path

import torch
from make_networks import formula, rounded
from torch import nn

BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
SHOWN = (
    "block1_conv1",
    "block2_pool",
    "block3_conv3",
    "block4_pool",
    "block5_conv3",
    "block5_pool",
)


def conv(name: str, inputs: int, outputs: int) -> nn.Conv2d:
    """With flax's (height, width, in, out) kernels, named by layer."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1).double()
    kernel = 2 / math.sqrt(9 * inputs) * formula(f"{name}/kernel", 3, 3, inputs, outputs)
    layer.weight.data = kernel.permute(3, 2, 0, 1).contiguous()
    layer.bias.data = 0.2 * formula(f"{name}/bias", outputs)
    return layer


def torch_conv(place: int, inputs: int, outputs: int) -> nn.Conv2d:
    """With torchvision's names and axes."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1).double()
    scale = 2 / math.sqrt(9 * inputs)
    layer.weight.data = scale * formula(f"features.{place}.weight", outputs, inputs, 3, 3)
    layer.bias.data = 0.2 * formula(f"features.{place}.bias", outputs)
    return layer


def layers(pool: nn.Module, by_place: bool = False) -> list[tuple[str, nn.Module]]:
    """(name, module), where what a convolution's name stands for ends with its ReLU."""
    widths = iter(pairwise([3, *(c for n, c in BLOCKS for _ in range(n))]))
    found: list[tuple[str, nn.Module]] = []
    place = 0
    for block, (count, _) in enumerate(BLOCKS, 1):
        for i in range(1, count + 1):
            name = f"block{block}_conv{i}"
            made = torch_conv(place, *next(widths)) if by_place else conv(name, *next(widths))
            found.append((name, nn.Sequential(made, nn.ReLU())))
            place += 2
        found.append((f"block{block}_pool", pool))
        place += 1
    return found


def figures(network: list[tuple[str, nn.Module]], images: torch.Tensor, prepare) -> dict:
    """Of the shown layers the first values and the mean, and the gradient at the images."""
    images = images.clone().requires_grad_()
    x, found = prepare(images).permute(0, 3, 1, 2), {}
    for name, module in network:
        x = module(x)
        if name in SHOWN:
            last = x.permute(0, 2, 3, 1)
            found[name] = [*last.flatten()[:6].tolist(), last.mean().item()]
    (last**2).sum().backward()
    gradient = images.grad.flatten()
    found["gradient"] = [*gradient[:6].tolist(), gradient.norm().item()]
    return found


def caffe(images: torch.Tensor) -> torch.Tensor:
    return images.flip(-1) - torch.tensor([103.939, 116.779, 123.68], dtype=torch.float64)


def torchvision(images: torch.Tensor) -> torch.Tensor:
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)
    std = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)
    return (images / 255 - mean) / std


if __name__ == "__main__":
    images = 127.5 * (1 + formula("photos", 2, 32, 32, 3))
    stored = {
        "max": figures(layers(nn.MaxPool2d(2)), images, caffe),
        "avg": figures(layers(nn.AvgPool2d(2)), images, caffe),
        "torchvision": figures(layers(nn.MaxPool2d(2), by_place=True), images, torchvision),
    }
    text = json.dumps(rounded(stored), separators=(",", ":"))
    Path(__file__).with_name("vgg.json").write_text(text + "\n")
