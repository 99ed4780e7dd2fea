"""Inception: branches of convolutions that all see the same input, joined on the channel axis.

`convnet` says what the networks take and return. GoogLeNet: Szegedy et al., Going deeper with
convolutions (2014); factorised: Rethinking the Inception architecture (2015); Inception-ResNet:
Inception-v4, Inception-ResNet and the impact of residual connections on learning (2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlessons.models.bn_layer import BatchNorm, BnLayer, DefaultNorm, NormPlacement
from jaxlessons.models.branches import (
    GOOGLENET,
    TUTORIAL,
    Branch,
    googlenet_branches,
    residual_branches,
    scaled,
)
from jaxlessons.models.branches import branch as branch
from jaxlessons.models.branches import factorized as factorized
from jaxlessons.models.conv import Conv
from jaxlessons.models.convnet import Features, MeanPooledNet
from jaxlessons.models.pooling import avg_pool3, max_pool3
from jaxlessons.models.tutorial import TutorialNet
from jaxlessons.models.vgg import Pool

POOLS = {"none": lambda x: x, "avg": avg_pool3, "max": max_pool3}


class Inception(nn.Module):
    """The branches, joined: `[batch, height, width, in]` -> `[batch, height, width, out]`.

    Each convolution is a BnLayer of the given norm. As it stands it is the tutorial's module:
    convolutions with bias and nothing between them.

    Raises ValueError for no branches, an unknown pool or a kernel with an even side.
    """

    branches: Sequence[Branch] = TUTORIAL
    norm: NormPlacement = "none"
    relu: bool = False
    batch_norm: BatchNorm = DefaultNorm
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        if not self.branches:
            raise ValueError("branches is empty: an Inception module has one or more.")
        joined = []
        for name, convs, pool in self.branches:
            if pool not in POOLS:
                raise ValueError(f"pool is {pool!r}: it must be 'none', 'avg' or 'max'.")
            out = POOLS[pool](x)
            for number, (features, size) in enumerate(convs, 1):
                layer = BnLayer(
                    features,
                    kernel_size=size,
                    norm=self.norm,
                    batch_norm=self.batch_norm,
                    dtype=self.dtype,
                    relu=self.relu,
                    name=f"{name}{number}",
                )
                out = layer(out, train)
            joined.append(out)
        return jnp.concatenate(joined, axis=-1)


class InceptionResidual(nn.Module):
    """relu(x + scale * up(joined branches)), where `up` is a 1x1 convolution to x's channels.

    As in the paper `up` has a bias and no norm. scale: 0.1 to 0.3 kept the paper's widest networks
    from dying early in training. With pre-activation the ReLU stands not behind the sum but ahead
    of `up`, which otherwise were one linear map with the last convolutions of the branches.
    """

    branches: Sequence[Branch]
    scale: float = 0.2
    norm: NormPlacement = "before"
    batch_norm: BatchNorm = DefaultNorm
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        branches = Inception(
            self.branches, self.norm, True, self.batch_norm, self.dtype, name="branches"
        )
        up = Conv(x.shape[-1], (1, 1), padding=((0, 0), (0, 0)), dtype=self.dtype, name="up")
        if self.norm == "pre":
            return x + self.scale * up(nn.relu(branches(x, train)))
        return nn.relu(x + self.scale * up(branches(x, train)))


class TutorialInceptionNet(TutorialNet):
    """The tutorial's network: two modules; 28x28 images have 1408 features before the Dense."""

    layers: Sequence[int] = (10, 20)

    def block(self, number: int, x: jax.Array) -> Features:
        """The module with the tutorial's branches."""
        name = f"incept{number}"
        return {name: Inception(dtype=self.dtype, name=name)(x)}


class GoogLeNet(MeanPooledNet):
    """GoogLeNet's nine modules behind a stem for 32x32 images: 32 -> 16 -> 8 -> 4.

    The stem is the paper's at CIFAR size: a 3x3 convolution of stride 1 for its 7x7 of stride 2,
    and the first of its two pools; 2x2 pools for 3x3. `norm="none"` is the paper's; it had no batch
    norm, but local response normalisation and two auxiliary classifiers, which are left out.
    width: the share of the paper's channels.
    """

    layers: Sequence[int] = (64, 64, 192)
    norm: NormPlacement = "before"
    dropout: float = 0.4
    width: float = 1.0

    def least_size(self) -> int:
        """The least height and width of an image: three pools halve it."""
        return 8

    def stem_features(self) -> int:
        """Channels of the first layer."""
        return scaled(self.width, self.layers[0])

    def body(self, x: jax.Array, train: bool) -> Features:
        """The stem, and the modules with a pool behind each stage but the last."""
        features: Features = {"stem": self.bn_stem(x, train, kernel_size=3)}
        x = features["stem_pool"] = Pool()(features["stem"])
        for number, (size, kernel_size) in enumerate(zip(self.layers[1:], (1, 3), strict=True), 2):
            size = scaled(self.width, size)
            layer = self.bn_layer(size, f"stem{number}", kernel_size=kernel_size)
            x = features[f"stem{number}"] = layer(x, train)
        for stage, blocks in enumerate(GOOGLENET, 3):
            if stage > 3:
                x = features[f"pool{stage - 1}"] = Pool()(x)
            for name, row in blocks.items():
                branches = googlenet_branches(*(scaled(self.width, size) for size in row))
                settings = (branches, self.norm, True, self.batch_norm, self.dtype)
                module = Inception(*settings, name=f"inception{name}")
                x = features[f"inception{name}"] = module(x, train)
        return features


class InceptionResnet(MeanPooledNet):
    """Inception-ResNet at CIFAR size: three stages of `InceptionResidual`, at 16, 8 and 4 pixels.

    A small one of the paper's kind, not one of its two networks. A stage begins with a BnLayer of
    stride 2, where the paper has branches of convolutions and a pool. width: factor of `layers`.
    """

    layers: Sequence[int] = (64, 128, 256)
    norm: NormPlacement = "before"
    dropout: float = 0.2
    blocks: Sequence[int] = (2, 2, 2)
    scale: float = 0.2
    width: float = 1.0

    def stem_features(self) -> int:
        """Channels of the first layer."""
        return scaled(self.width, self.layers[0] / 2)

    def body(self, x: jax.Array, train: bool) -> Features:
        """The stem and the stages."""
        features: Features = {"stem": self.bn_stem(x, train, kernel_size=3)}
        x = features["stem"]
        for stage, (count, size) in enumerate(zip(self.blocks, self.layers, strict=True), 1):
            size = scaled(self.width, size)
            name = f"stage{stage}_down"
            x = features[name] = self.bn_layer(size, name, stride=2)(x, train)
            branches = residual_branches(stage, size)
            settings = (branches, self.scale, self.norm, self.batch_norm, self.dtype)
            for i in range(1, count + 1):
                name = f"stage{stage}_block{i}"
                x = features[name] = InceptionResidual(*settings, name=name)(x, train)
        return features
