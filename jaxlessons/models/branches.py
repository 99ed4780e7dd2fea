"""What the branches of Inception modules are: sizes and channels of their convolutions.

The papers are named in `inception`, whose `Inception` makes layers of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

Size = tuple[int, int]


class Branch(NamedTuple):
    """One way through a module: (features, (height, width)) of its convolutions, in order.

    pool: a 3x3 pool of stride 1 ahead of them. Layers are called name1, name2, ...
    """

    name: str
    convs: tuple[tuple[int, Size], ...]
    pool: Literal["none", "avg", "max"] = "none"


def branch(
    name: str, *convs: tuple[int, int], pool: Literal["none", "avg", "max"] = "none"
) -> Branch:
    """A branch of square convolutions, (features, size) each."""
    return Branch(name, tuple((features, (size, size)) for features, size in convs), pool)


# The tutorial's module: 16 + 24 + 24 + 24 = 88 channels.
TUTORIAL = (
    branch("branch1x1_", (16, 1)),
    branch("branch5x5_", (16, 1), (24, 5)),
    branch("branch3x3_", (16, 1), (24, 3), (24, 3)),
    branch("branch_pool", (24, 1), pool="avg"),
)


def googlenet_branches(
    one: int, reduce3: int, three: int, reduce5: int, five: int, pool: int
) -> tuple[Branch, ...]:
    """GoogLeNet's module, by a row of the paper's table 1: 1x1 convolutions reduce the channels."""
    return (
        branch("branch1x1_", (one, 1)),
        branch("branch3x3_", (reduce3, 1), (three, 3)),
        branch("branch5x5_", (reduce5, 1), (five, 5)),
        branch("branch_pool", (pool, 1), pool="max"),
    )


def factorized(branches: Sequence[Branch]) -> tuple[Branch, ...]:
    """The same branches with each n x n convolution, n > 1, as 1 x n and then n x 1.

    Both have its features: of n*n products a value 2n are left. Without a ReLU and a norm between
    the two they are the n x n convolution whose kernel is their outer product.
    """

    def split(features: int, size: Size) -> tuple[tuple[int, Size], ...]:
        height, width = size
        if min(size) == 1:
            return ((features, size),)
        return ((features, (1, width)), (features, (height, 1)))

    return tuple(
        each._replace(convs=tuple(part for conv in each.convs for part in split(*conv)))
        for each in branches
    )


def scaled(width: float, features: float) -> int:
    """The channels, one at least, that a network of this width has for the paper's `features`."""
    if not 0 < width < math.inf:
        raise ValueError(f"width is {width}: it must be above 0.")
    return max(1, round(width * features))


def residual_branches(stage: int, features: int) -> tuple[Branch, ...]:
    """Inception-ResNet's branches of a stage, 1 to 3, with a quarter of `features` or more each.

    The second and third stage have 7x7 and 3x3 convolutions, factorised. Branches are wider beside
    the block than the paper's: where its Inception-ResNet v2 has 32 channels for 384 there is a
    quarter here. Against each other the channels of the first stage are v2's, 32 to 48 to 64; those
    of the second and third are all the same, as in its v1, where v2's grow along a branch.
    """
    quarter = max(1, features // 4)
    one = branch("branch1x1_", (quarter, 1))
    if stage == 1:
        middle, last = max(1, 3 * features // 8), max(1, features // 2)
        three = branch("branch3x3_", (quarter, 1), (quarter, 3))
        return (one, three, branch("branch3x3x3_", (quarter, 1), (middle, 3), (last, 3)))
    size = 7 if stage == 2 else 3
    return (one, *factorized([branch(f"branch{size}x{size}_", (quarter, 1), (quarter, size))]))


# The paper's table 1: GoogLeNet's modules, by stage.
GOOGLENET = (
    {"3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64)},
    {
        "4a": (192, 96, 208, 16, 48, 64),
        "4b": (160, 112, 224, 24, 64, 64),
        "4c": (128, 128, 256, 24, 64, 64),
        "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128),
    },
    {"5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128)},
)
