"""Residual blocks of two and three convolutions, and the networks made of them.

He et al., Deep residual learning for image recognition (2015), and, for pre-activation, Identity
mappings in deep residual networks (2016). The lesson's own residual networks, with one convolution
a layer, are in `resnet`; `convnet` says what all of them take and return.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlessons.models.bn_layer import BatchNorm, BnLayer, DefaultNorm, NormPlacement
from jaxlessons.models.convnet import Features, MeanPooledNet
from jaxlessons.models.pooling import max_pool3
from jaxlessons.models.tutorial import TutorialNet

SQUEEZE = 4  # a bottleneck's output has so many times the channels of its 3x3 convolution


def squeezed(features: int) -> int:
    """Channels of the 3x3 convolution in a bottleneck with so many features."""
    if features % SQUEEZE:
        raise ValueError(f"features is {features}: a bottleneck's are a multiple of {SQUEEZE}.")
    return features // SQUEEZE


class ResidualBlock(nn.Module):
    """relu(x + change(x)), by default He et al.'s basic block: `[..., in]` -> `[..., features]`.

    The change is 3x3 -> 3x3, or with `bottleneck` 1x1 -> 3x3 -> 1x1 with a quarter of the channels
    in the middle; each convolution is a BnLayer. The stride is that of the first 3x3, as in
    torchvision. Where that is not 1, or the input has other channels, it goes through a 1x1
    convolution of that stride first.

    norm="none" is the tutorial's block: convolutions with bias. norm="pre" is pre-activation: the
    sum is passed on as it is. There the 1x1 convolution of the input has a norm and a ReLU ahead of
    it as well, with parameters of its own, where the paper shares those of the first convolution.

    Raises ValueError for a bottleneck whose features are no multiple of four.
    """

    features: int
    stride: int = 1
    bottleneck: bool = False
    norm: NormPlacement = "before"
    batch_norm: BatchNorm = DefaultNorm
    dtype: Any = jnp.float32

    def sizes(self) -> list[tuple[int, int, int]]:
        """(features, kernel size, stride) of each convolution."""
        if self.bottleneck:
            inner = squeezed(self.features)
            return [(inner, 1, 1), (inner, 3, self.stride), (self.features, 1, 1)]
        return [(self.features, 3, self.stride), (self.features, 3, 1)]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        pre = self.norm == "pre"

        def layer(features: int, kernel: int, stride: int, name: str, relu: bool) -> BnLayer:
            settings = (self.norm, self.batch_norm, self.dtype)
            return BnLayer(features, stride, kernel, *settings, relu=relu or pre, name=name)

        sizes, change = self.sizes(), x
        for number, (features, kernel, stride) in enumerate(sizes, 1):
            last = number == len(sizes)
            change = layer(features, kernel, stride, f"layer{number}", relu=not last)(change, train)
        # Not by the sizes: an image of one pixel has the same behind a stride of 2.
        if self.stride != 1 or x.shape[-1] != self.features:
            x = layer(self.features, 1, self.stride, "shortcut", relu=False)(x, train)
        return x + change if pre else nn.relu(x + change)


class TutorialResidualNet(TutorialNet):
    """The tutorial's network: a block of two convolutions behind each of its two convolutions.

    28x28 images have 4 * 4 * 32 = 512 features before the Dense.
    """

    layers: Sequence[int] = (16, 32)

    def block(self, number: int, x: jax.Array) -> Features:
        """The tutorial's residual block, without batch norm."""
        name = f"rblock{number}"
        made = ResidualBlock(x.shape[-1], norm="none", dtype=self.dtype, name=name)
        return {name: made(x)}


class BlockResnet(MeanPooledNet):
    """A stem, stages of `ResidualBlock`, the mean over the image, one Dense.

    layers: channels of each stage's output; blocks: how many each has. All stages but the first
    halve the image in their first block. As it stands it is the paper's ResNet-20 for CIFAR-10,
    32 -> 16 -> 8, but for its shortcuts: where channels grow they are convolutions (the paper's
    option B), not zeros. norm="pre" ends with a batch norm and a ReLU.
    """

    layers: Sequence[int] = (16, 32, 64)
    norm: NormPlacement = "before"
    blocks: Sequence[int] = (3, 3, 3)
    bottleneck: bool = False

    def stem_features(self) -> int:
        """Channels of the first layer: those of the first stage's 3x3 convolutions."""
        return squeezed(self.layers[0]) if self.bottleneck else self.layers[0]

    def stem(self, x: jax.Array, train: bool) -> Features:
        """A 3x3 BnLayer at full size."""
        return {"stem": self.bn_stem(x, train, kernel_size=3)}

    def body(self, x: jax.Array, train: bool) -> Features:
        """The stem and the blocks."""
        features = self.stem(x, train)
        x = list(features.values())[-1]
        for stage, (count, size) in enumerate(zip(self.blocks, self.layers, strict=True), 1):
            for i in range(1, count + 1):
                stride = 2 if stage > 1 and i == 1 else 1
                name = f"stage{stage}_block{i}"
                settings = (self.bottleneck, self.norm, self.batch_norm, self.dtype)
                block = ResidualBlock(size, stride, *settings, name=name)
                x = features[name] = block(x, train)
        return features


class BottleneckResnet(BlockResnet):
    """ResNet-29 for CIFAR-10: the stages of ResNet-20 with bottlenecks instead of basic blocks."""

    layers: Sequence[int] = (64, 128, 256)
    bottleneck: bool = True


class PreactResnet(BlockResnet):
    """BlockResnet with pre-activation."""

    norm: NormPlacement = "pre"


class PreactBottleneckResnet(BottleneckResnet):
    """BottleneckResnet with pre-activation."""

    norm: NormPlacement = "pre"


class ResNet18(BlockResnet):
    """ResNet-18 for larger images, 224 -> 112 -> 56 -> 28 -> 14 -> 7; torchvision's resnet18.

    `weights.resnet_from_torch` has its parameters out of torchvision's.
    """

    layers: Sequence[int] = (64, 128, 256, 512)
    num_classes: int = 1000
    blocks: Sequence[int] = (2, 2, 2, 2)

    def stem(self, x: jax.Array, train: bool) -> Features:
        """A 7x7 BnLayer of stride 2, and a 3x3 max pool of stride 2."""
        stem = self.bn_stem(x, train, kernel_size=7, stride=2)
        return {"stem": stem, "stem_pool": max_pool3(stem, stride=2)}


class ResNet34(ResNet18):
    """ResNet-34 for larger images; torchvision's resnet34."""

    blocks: Sequence[int] = (3, 4, 6, 3)


class ResNet50(ResNet34):
    """ResNet-50 for larger images: ResNet-34 with bottlenecks; torchvision's resnet50."""

    layers: Sequence[int] = (256, 512, 1024, 2048)
    bottleneck: bool = True
