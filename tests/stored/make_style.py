"""Writes style.json: what style transfer minimises, in torch, float64, by the papers' formulas.

Run with any Python that has torch: `python tests/stored/make_style.py`. It holds the losses of
features by a formula, the whole loss of a picture under VGG16's first layers with make_vgg.py's
weights, its gradient by autograd, and the recolourings.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from make_networks import formula, rounded
from make_vgg import caffe, conv

SIZE = 16
LAYERS = ("block1_conv1", "block2_conv1")

CASES = {
    "lesson": {"weights": (1.0,), "masked": False, "pool": "max", "by": "lesson"},
    "gatys": {"weights": (1.0, 3.0), "masked": False, "pool": "avg", "by": "gatys"},
    "masked": {"weights": (1.0, 3.0), "masked": True, "pool": "max", "by": "lesson"},
}
# Of content, style and variation, such that each has its share of the loss.
LOSS_WEIGHTS = {"lesson": (2e-2, 2e-2, 30.0), "gatys": (1e-3, 1e-5, 30.0)}


def gram(features: torch.Tensor, by: str, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Features [height, width, channel]; the sum over positions, place by place of the mask."""
    flat = features.flatten(0, 1)
    counted = torch.ones(len(flat)).double() if mask is None else mask.flatten() ** 2
    product = torch.einsum("nc,nd,n->cd", flat, flat, counted)
    return product / (counted.sum() * (flat.shape[1] if by == "lesson" else 1))


def style_loss(features, target, by, mask=None) -> torch.Tensor:
    """The lesson's mean; the paper's E = sum (F^T F - A)^2 / (4 N^2 M^2), M over the mask."""
    if by == "lesson":
        return F.mse_loss(gram(features, by, mask), target)
    channels = features.shape[-1]
    positions = features.shape[0] * features.shape[1] if mask is None else (mask**2).sum()
    whole = positions * gram(features, by, mask) - positions * target
    return (whole**2).sum() / (4 * channels**2 * positions**2)


def total_variation(picture: torch.Tensor) -> torch.Tensor:
    """d2l's, of an image [height, width, channel]."""
    down = (picture[1:] - picture[:-1]).abs().mean()
    right = (picture[:, 1:] - picture[:, :-1]).abs().mean()
    return 0.5 * (down + right)


def losses() -> dict:
    features, other = formula("features", 2, 5, 6, 4), formula("other", 2, 5, 6, 4)
    mask = (1 + formula("mask", 5, 6)) / 2
    found = {
        "content": F.mse_loss(features, other).item(),
        "total_variation": total_variation(features[0]).item(),
    }
    for by in ("lesson", "gatys"):
        found[by] = {
            "gram": [gram(f, by).tolist() for f in features],
            "masked_gram": gram(features[0], by, mask).tolist(),
            "style": style_loss(features[0], gram(other[0], by), by).item(),
            "masked_style": style_loss(features[0], gram(other[0], by), by, mask).item(),
        }
    return found


def network(picture: torch.Tensor, pool: str) -> dict[str, torch.Tensor]:
    """Picture [height, width, 3], 0 to 1 -> both layers' features [height, width, channel]."""
    x = caffe(255 * picture).permute(2, 0, 1)[None]
    first = F.relu(conv("block1_conv1", 3, 64)(x))
    second = F.relu(conv("block1_conv2", 64, 64)(first))
    pooled = (F.max_pool2d if pool == "max" else F.avg_pool2d)(second, 2)
    third = F.relu(conv("block2_conv1", 64, 128)(pooled))
    return {name: x[0].permute(1, 2, 0) for name, x in zip(LAYERS, (first, third), strict=True)}


def picture(name: str) -> torch.Tensor:
    return (1 + formula(name, SIZE, SIZE, 3)) / 2


def halved(mask: torch.Tensor) -> torch.Tensor:
    size = (SIZE // 2, SIZE // 2)
    return F.interpolate(mask[None, None], size, mode="bilinear", antialias=True)[0, 0]


def objective(weights: tuple[float, ...], masked: bool, pool: str, by: str) -> dict:
    """Every style has a loss of its own: nothing is mixed."""
    at = picture("picture").requires_grad_()
    seen, content = network(at, pool), network(picture("content"), pool)
    style = torch.zeros([]).double()
    for number, weight in enumerate(weights, 1):
        aim = network(picture(f"style{number}"), pool)
        mask = (1 + formula(f"mask{number}", SIZE, SIZE)) / 2 if masked else None
        masks = [None, None] if mask is None else [mask, halved(mask)]
        count = len(weights) if masked else 1
        for layer, own in zip(LAYERS, masks, strict=True):
            one = style_loss(seen[layer], gram(aim[layer], by), by, own)
            style = style + count * weight / sum(weights) * one
    parts = [F.mse_loss(seen[LAYERS[1]], content[LAYERS[1]]), style, total_variation(at)]
    parts = [w * part for w, part in zip(LOSS_WEIGHTS[by], parts, strict=True)]
    total = sum(parts)
    total.backward()
    gradient = at.grad
    # The first of it, its length, and its sum under weights of its own.
    shown = [
        *gradient.flatten()[:6].tolist(),
        gradient.norm().item(),
        (gradient * formula("weights", SIZE, SIZE, 3)).sum().item(),
    ]
    return {
        "loss_weights": list(LOSS_WEIGHTS[by]),
        "parts": [part.item() for part in parts],
        "total": total.item(),
        "gradient": shown,
    }


def root(matrix: torch.Tensor) -> torch.Tensor:
    """The square root by Denman and Beavers' iteration."""
    y, z = matrix, torch.eye(len(matrix)).double()
    for _ in range(40):
        y, z = (y + z.inverse()) / 2, (z + y.inverse()) / 2
    return y


def recoloured() -> dict:
    style, content = (1 + formula("style", 3, 4, 3)) / 2, (1 + formula("content", 2, 5, 3)) / 2
    s, c = style.flatten(0, 1), content.flatten(0, 1)
    matrix = root(torch.cov(c.T, correction=0)) @ root(torch.cov(s.T, correction=0)).inverse()
    luma = torch.tensor([0.299, 0.587, 0.114]).double()
    grey, other = s @ luma, c @ luma
    z = (grey - grey.mean()) / grey.std(correction=0)
    return {
        "luminance": grey.tolist(),
        "match_luminance": (z * other.std(correction=0) + other.mean()).tolist(),
        "match_colors": ((s - s.mean(0)) @ matrix.T + c.mean(0)).tolist(),
    }


if __name__ == "__main__":
    stored = {
        "losses": losses(),
        "objective": {name: objective(**case) for name, case in CASES.items()},
        "colors": recoloured(),
    }
    text = json.dumps(rounded(stored), separators=(",", ":"))
    Path(__file__).with_name("style.json").write_text(text + "\n")
