"""The first five rungs of the CIFAR-10 ladder: one hidden layer, convolutions, batch norm.

Every network takes images `[batch, height, width, channel]` and returns logits
`[batch, num_classes]`; with `return_features=True` it returns `(logits, features)`, where
`features` maps each layer's name to its output, as the lesson gets them with forward hooks.

The lesson's networks begin as in PyTorch. With flax's kernels, of three times the variance, the
last layer, which sees maxima, begins with logits so large that Resnet learns slower for epochs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlessons.errors import UserError
from jaxlessons.models.bn_layer import BatchNorm, BnLayer, DefaultNorm, NormPlacement
from jaxlessons.models.conv import Conv
from jaxlessons.models.initializers import FLAX, PYTORCH, Initializers

Features = dict[str, jax.Array]


def global_max_pool(x: jax.Array) -> jax.Array:
    """`[batch, height, width, channel]` -> `[batch, channel]`, PyTorch's AdaptiveMaxPool2d(1)."""
    return jnp.max(x, axis=(1, 2))


def check_size(images: jax.Array, least: int = 1) -> None:
    """UserError unless images `[batch, height, width, channel]` are `least` high and wide."""
    if images.ndim != 4:
        raise UserError(
            f"The images are of shape {list(images.shape)}: give them as "
            "[batch, height, width, channel]."
        )
    height, width = images.shape[1:3]
    if min(height, width) < least:
        raise UserError(
            f"The images are {height} x {width}: this network takes {least} x {least} or more."
        )


def dense(
    x: jax.Array, features: int, name: str, dtype: Any, initializers: Initializers
) -> jax.Array:
    """A dense layer of `x`, `[batch, inputs]` -> `[batch, features]`."""
    own = initializers.of(x.shape[-1])
    return nn.Dense(features, dtype=dtype, name=name, **own)(x)


def outputs(logits: jax.Array, features: Features, return_features: bool) -> Any:
    """What a network returns: float32 logits, with the features beside them when asked."""
    logits = logits.astype(jnp.float32)
    return (logits, features | {"out": logits}) if return_features else logits


class SimpleNet(nn.Module):
    """One hidden layer: flatten, Dense -> ReLU for each entry of `layers`, Dense to logits."""

    layers: Sequence[int] = (40,)
    num_classes: int = 10
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, return_features: bool = False) -> Any:
        check_size(x)
        features: Features = {}
        x = x.reshape(x.shape[0], -1)
        for i, size in enumerate(self.layers, 1):
            x = nn.relu(dense(x, size, f"hidden{i}", self.dtype, PYTORCH))
            features[f"hidden{i}"] = x
        logits = dense(x, self.num_classes, "out", self.dtype, PYTORCH)
        return outputs(logits, features, return_features)


class ConvNet(nn.Module):
    """Stride-2 3x3 convolutions with ReLU, then the maximum over the image and one Dense.

    As in the lesson the first version does not pad (`padding=0`): 32 -> 15 -> 7 -> 3.
    """

    layers: Sequence[int] = (20, 40, 80)
    num_classes: int = 10
    padding: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, return_features: bool = False) -> Any:
        check_size(x, 1 if self.padding else 2 ** (len(self.layers) + 1) - 1)
        features: Features = {}
        pad = ((self.padding, self.padding),) * 2
        for i, size in enumerate(self.layers, 1):
            own = PYTORCH.of(9 * x.shape[-1])
            settings = {"strides": 2, "padding": pad, "dtype": self.dtype, **own}
            x = features[f"conv{i}"] = nn.relu(Conv(size, (3, 3), name=f"conv{i}", **settings)(x))
        x = features["pool"] = global_max_pool(x)
        logits = dense(x, self.num_classes, "out", self.dtype, PYTORCH)
        return outputs(logits, features, return_features)


class ConvNet2(ConvNet):
    """ConvNet refactored into padded layers: 32 -> 16 -> 8 -> 4."""

    padding: int = 1


class PooledNet(nn.Module):
    """What networks with batch norm share: layers by name, a pool over the image, one Dense.

    Subclasses give the layers in `body`, made of `bn_layer` so that all have the same settings.
    """

    layers: Sequence[int] = ()
    num_classes: int = 10
    norm: NormPlacement = "after"
    batch_norm: BatchNorm = DefaultNorm
    dropout: float = 0.0
    dtype: Any = jnp.float32
    initializers: Initializers = FLAX

    def body(self, x: jax.Array, train: bool) -> Features:
        """Outputs of the layers ahead of the pool, by name and in order."""
        raise NotImplementedError

    def pool(self, x: jax.Array) -> jax.Array:
        """`[batch, height, width, channel]` -> `[batch, channel]`."""
        return global_max_pool(x)

    def least_size(self) -> int:
        """The least height and width of an image."""
        return 1

    def stem_features(self) -> int:
        """Channels of the first layer."""
        return self.layers[0]

    def plain_stem(self, x: jax.Array, kernel_size: int, stride: int = 1) -> jax.Array:
        """A convolution with bias."""
        pad = ((kernel_size // 2,) * 2,) * 2
        size, width = (kernel_size, kernel_size), self.stem_features()
        own = self.initializers.of(kernel_size**2 * x.shape[-1])
        settings = {"strides": stride, "padding": pad, "dtype": self.dtype, **own}
        return Conv(width, size, name="stem", **settings)(x)

    def bn_stem(self, x: jax.Array, train: bool, kernel_size: int, stride: int = 1) -> jax.Array:
        """A BnLayer; with pre-activation a convolution, since the next layer normalises it."""
        if self.norm == "pre":
            return self.plain_stem(x, kernel_size, stride)
        return self.bn_layer(self.stem_features(), "stem", stride, kernel_size)(x, train)

    def bn_layer(self, features: int, name: str, stride: int = 1, kernel_size: int = 3) -> BnLayer:
        """A BnLayer with this network's settings."""
        settings = (self.norm, self.batch_norm, self.dtype, True, self.initializers)
        return BnLayer(features, stride, kernel_size, *settings, name=name)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, return_features: bool = False) -> Any:
        check_size(x, self.least_size())
        features = self.body(x, train)
        x = list(features.values())[-1]
        if self.norm == "pre":
            bn = self.batch_norm(use_running_average=not train, dtype=self.dtype, name="last_bn")
            x = features["last_bn"] = nn.relu(bn(x))
        x = features["pool"] = self.pool(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        logits = dense(x, self.num_classes, "out", self.dtype, self.initializers)
        return outputs(logits, features, return_features)


class MeanPooledNet(PooledNet):
    """PooledNet with the mean over the image for its maximum."""

    def pool(self, x: jax.Array) -> jax.Array:
        """`[batch, height, width, channel]` -> `[batch, channel]`."""
        return jnp.mean(x, axis=(1, 2))


class ConvBnNet(PooledNet):
    """A 5x5 stem with bias, then for each further size a stride-2 BnLayer; max pool, Dense.

    Subclasses put more layers behind each stride-2 one by overriding `extra_layers`.
    """

    layers: Sequence[int] = (10, 20, 40, 80, 160)
    initializers: Initializers = PYTORCH

    def stem(self, x: jax.Array, train: bool) -> jax.Array:
        """The first layer, at full size and without a non-linearity, as the lesson has it."""
        return self.plain_stem(x, kernel_size=5)

    def extra_layers(self, x: jax.Array, stage: int, train: bool) -> Features:
        """Outputs, by name and in order, of the layers that follow the stride-2 layer."""
        return {}

    def body(self, x: jax.Array, train: bool) -> Features:
        """The stem and the stages."""
        features: Features = {"stem": self.stem(x, train)}
        x = features["stem"]
        for stage, size in enumerate(self.layers[1:], 1):
            down = f"stage{stage}_down"
            x = features[down] = self.bn_layer(size, down, stride=2)(x, train)
            features |= self.extra_layers(x, stage, train)
            x = list(features.values())[-1]
        return features


class ConvBnNet2(ConvBnNet):
    """ConvBnNet made deeper: each stride-2 layer is followed by one of stride 1."""

    def extra_layers(self, x: jax.Array, stage: int, train: bool) -> Features:
        """One more BnLayer of the same size."""
        name = f"stage{stage}_same"
        return {name: self.bn_layer(x.shape[-1], name)(x, train)}
