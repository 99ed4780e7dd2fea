"""Writes training.json: losses and optimizers as torch computes them, in float64.

Run with any Python that has torch: `python tests/stored/make_training.py`.
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F

STEPS = 6
LOGITS = [[2.0, -1.0, 0.5, 0.0], [-3.0, 4.0, 1.0, 1.5], [0.1, 0.2, 0.3, -8.0]]
LABELS = [0, 2, 3]
PROBABILITIES = [[0.7, 0.3, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25], [0.0, 0.1, 0.0, 0.9]]


def cross_entropies() -> dict:
    logits = torch.tensor(LOGITS, dtype=torch.float64)
    labels = torch.tensor(LABELS)
    probabilities = torch.tensor(PROBABILITIES, dtype=torch.float64)
    each = {}
    for smoothing in (0.0, 0.1, 0.5):
        for kind, target in (("labels", labels), ("probabilities", probabilities)):
            value = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="none")
            each[f"{kind} {smoothing}"] = value.tolist()
    return {"logits": LOGITS, "labels": LABELS, "probabilities": PROBABILITIES, "each": each}


def problem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs [5, 3], targets [5, 2] and the weights [3, 2] to start from, by a formula."""

    def sines(*shape: int, phase: float) -> torch.Tensor:
        index = torch.arange(math.prod(shape), dtype=torch.float64)
        return torch.sin(phase + index * index + index).reshape(shape)

    return sines(5, 3, phase=0.1), 3 * sines(5, 2, phase=0.5), sines(3, 2, phase=0.9)


def path(make, lrs, momenta=None, shrink=0.0) -> list:
    """The weights after each step on the sum of squares; shrink: decoupled decay, by hand."""
    inputs, targets, start = problem()
    weights = start.clone().requires_grad_()
    optimizer = make([weights])
    weights_by_step = []
    for step, lr in enumerate(lrs):
        group = optimizer.param_groups[0]
        group["lr"] = lr
        if momenta is not None and "betas" in group:
            group["betas"] = (momenta[step], group["betas"][1])
        elif momenta is not None:
            group["momentum"] = momenta[step]
        optimizer.zero_grad()
        (0.5 * ((inputs @ weights - targets) ** 2).sum()).backward()
        with torch.no_grad():
            weights.mul_(1 - lr * shrink)
        optimizer.step()
        weights_by_step.append(weights.detach().flatten().tolist())
    return weights_by_step


def optimizers() -> dict:
    optim = torch.optim
    flat = [0.05] * STEPS
    # Linear over three steps, then flat: (0.1 -> 0.04 or 0.9 -> 0.6), then its end.
    lrs = [0.1, 0.08, 0.06, 0.04, 0.04, 0.04]
    momenta = [0.9, 0.8, 0.7, 0.6, 0.6, 0.6]

    def sgd(momentum, **settings):
        return lambda weights: optim.SGD(weights, lr=1.0, momentum=momentum, **settings)

    def adam(kind=optim.Adam, **settings):
        return lambda weights: kind(weights, lr=1.0, **settings)

    def rmsprop(**settings):
        return lambda weights: optim.RMSprop(weights, lr=1.0, **settings)

    return {
        "plain sgd": path(sgd(0.0), flat),
        "sgd": path(sgd(0.9), flat),
        "sgd, coupled decay": path(sgd(0.9, weight_decay=0.3), flat),
        "sgd, decoupled decay": path(sgd(0.9), flat, shrink=0.3),
        "nesterov": path(sgd(0.8, nesterov=True), flat),
        "nesterov, coupled decay": path(sgd(0.8, nesterov=True, weight_decay=0.3), flat),
        "nesterov, decoupled decay": path(sgd(0.8, nesterov=True), flat, shrink=0.3),
        "adam": path(adam(), flat),
        "adam, betas": path(adam(betas=(0.7, 0.95)), flat),
        "adam, coupled decay": path(adam(weight_decay=0.3), flat),
        "adam, decoupled decay": path(adam(optim.AdamW, weight_decay=0.3), flat),
        "adamw": path(adam(optim.AdamW, weight_decay=0.3), flat),
        "rmsprop": path(rmsprop(momentum=0.9), flat),
        "rmsprop, alpha and no momentum": path(rmsprop(alpha=0.8), flat),
        "rmsprop, coupled decay": path(rmsprop(momentum=0.5, weight_decay=0.3), flat),
        "rmsprop, decoupled decay": path(rmsprop(momentum=0.5), flat, shrink=0.3),
        "sgd, two phases": path(sgd(0.9), lrs, momenta),
        "adam, two phases": path(adam(weight_decay=0.0), lrs, momenta),
    }


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list) else value


if __name__ == "__main__":
    stored = {"losses": cross_entropies(), "optimizers": optimizers()}
    text = json.dumps(rounded(stored), separators=(",", ":"))
    Path(__file__).with_name("training.json").write_text(text + "\n")
