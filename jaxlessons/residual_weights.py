"""A torchvision ResNet's state dict as variables of `models.residual.ResNet18` and its kin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxlessons.errors import UserError
from jaxlessons.models.residual import SQUEEZE, ResNet18
from jaxlessons.state_dicts import as_float32, check_names

BLOCK = re.compile(r"layer([1-9])\.(0|[1-9]\d{0,3})\.")
COUNTER = "num_batches_tracked"  # of batch norm; nothing is computed from it
WANTED = "give the state dict of a torchvision ResNet, whose names begin with conv1 and layer1"

# torchvision's name of each part within a block, by ours: (convolution, batch norm).
PARTS = {f"layer{n}": (f"conv{n}", f"bn{n}") for n in (1, 2, 3)}
PARTS["shortcut"] = ("downsample.0", "downsample.1")
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def resnet_from_torch(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """{"params", "batch_stats"}, float32, out of the state dict of a torchvision ResNet.

    state_dict: of resnet18, 34 or 50, or one of their kind with other widths, depths or classes;
    its values arrays (whatever `np.asarray` takes). The network that takes the variables, by
    `apply(variables, x)`, is `ResNet18(**resnet_settings(state_dict))`. torchvision's weights want
    images normalised as by `data.augment.normalize(images, weights.TORCH_MEAN, weights.TORCH_STD)`.

    Raises:
      UserError: when it is no mapping by names, a name is missing or is one too many, or an array
        has another shape than beside the others it must have, or holds something else than finite
        numbers, or a variance below 0.
    """
    network = ResNet18(**resnet_settings(state_dict))
    channels = _shape(state_dict, "conv1.weight", 4)[1]
    image = jax.ShapeDtypeStruct((1, 32, 32, channels), np.float32)
    shapes = flatten_dict(jax.eval_shape(network.init, jax.random.key(0), image))
    names = {path: _torch_name(path) for path in shapes}
    known = set(names.values())
    for name in state_dict:
        module, _, leaf = name.rpartition(".")
        counts = leaf == COUNTER and f"{module}.running_mean" in known
        if name not in known and not counts:
            raise UserError(f"The state dict has {name!r}, which no ResNet of its kind has.")
    arrays = {
        path: _array(state_dict, names[path], leaf.shape) for path, leaf in sorted(shapes.items())
    }
    return unflatten_dict(arrays)


def resnet_settings(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """layers, blocks, bottleneck and num_classes of the `ResNet18` that takes this state dict.

    Raises UserError when they can't be told from it, naming what is missing or has another shape.
    """
    _check_names(state_dict)
    blocks = _blocks(state_dict)
    bottleneck = "layer1.0.conv3.weight" in state_dict
    widening = SQUEEZE if bottleneck else 1
    return {
        "layers": tuple(
            widening * _shape(state_dict, f"layer{stage}.0.conv1.weight", 4)[0]
            for stage in range(1, len(blocks) + 1)
        ),
        "blocks": blocks,
        "bottleneck": bottleneck,
        "num_classes": _shape(state_dict, "fc.weight", 2)[0],
    }


def _check_names(state_dict: Any) -> None:
    """Raises UserError for what is no state dict, or one of something else than a ResNet."""
    check_names(state_dict, WANTED)
    if not any(name.startswith(("conv1.", "layer1.")) for name in state_dict):
        first = ", ".join(map(repr, list(state_dict)[:3])) or "nothing"
        raise UserError(f"The state dict has {first}: {WANTED}.")


def _blocks(state_dict: Mapping[str, Any]) -> tuple[int, ...]:
    """How many blocks each stage has, by the highest number named."""
    last: dict[int, int] = {}
    for name in state_dict:
        if match := BLOCK.match(name):
            stage, block = int(match[1]), int(match[2])
            last[stage] = max(last.get(stage, 0), block)
    counts = tuple(last.get(stage, 0) + 1 for stage in range(1, max(last, default=1) + 1))
    for stage, count in enumerate(counts, 1):
        for block in range(count):
            if (name := f"layer{stage}.{block}.conv1.weight") not in state_dict:
                raise UserError(f"The state dict lacks {name}.")
    return counts


def _torch_name(path: tuple[str, ...]) -> str:
    """torchvision's name of the array at this path of our variables."""
    _, module, *inner, leaf = path
    if module == "out":
        return f"fc.{LEAVES[leaf]}"
    part = 0 if inner[-1] == "conv" else 1
    if module == "stem":
        return f"{('conv1', 'bn1')[part]}.{LEAVES[leaf]}"
    stage, block = re.fullmatch(r"stage(\d+)_block(\d+)", module).groups()  # type: ignore[union-attr]
    return f"layer{stage}.{int(block) - 1}.{PARTS[inner[0]][part]}.{LEAVES[leaf]}"


def _shape(state_dict: Mapping[str, Any], name: str, rank: int) -> tuple[int, ...]:
    """The shape of an array that decides what the network is; none of its sides is 0."""
    if name not in state_dict:
        raise UserError(f"The state dict lacks {name}.")
    shape = as_float32(name, state_dict[name]).shape
    if len(shape) != rank or not all(shape):
        raise UserError(
            f"The state dict's {name} is {list(shape)}: it must have {rank} sides, none of them 0."
        )
    return shape


def _array(state_dict: Mapping[str, Any], name: str, wanted: tuple[int, ...]) -> np.ndarray:
    """The array of this name with the axes that ours has, whose shape is `wanted`."""
    if name not in state_dict:
        raise UserError(f"The state dict lacks {name}.")
    array = as_float32(name, state_dict[name])
    if name.endswith(f".{LEAVES['var']}") and (array < 0).any():
        raise UserError(f"The state dict's {name} holds a variance below 0.")
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(len(wanted), (0,))  # OIHW -> HWIO, OI -> IO
    theirs = tuple(wanted[axes.index(axis)] for axis in range(len(axes)))
    if array.shape != theirs:
        raise UserError(
            f"The state dict's {name} is {list(array.shape)}: beside its other weights it must be "
            f"{list(theirs)}."
        )
    return np.ascontiguousarray(array.transpose(axes))
