"""The lesson's residual networks, and one for a CPU; `convnet` says what they take and return."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from jaxlessons.models.convnet import ConvBnNet, Features
from jaxlessons.models.initializers import FLAX, Initializers


class Resnet(ConvBnNet):
    """ConvBnNet with residual layers, x + BnLayer(x), behind each stride-2 layer.

    He et al., Deep residual learning for image recognition (2015), in the lesson's short form:
    one convolution inside each residual layer, and nothing after the sum. residual=False leaves
    the sum out.
    """

    residual_layers: int = 2
    residual: bool = True

    def extra_layers(self, x: jax.Array, stage: int, train: bool) -> Features:
        """The stage's residual layers."""
        features: Features = {}
        for i in range(1, self.residual_layers + 1):
            name = f"stage{stage}_res{i}"
            change = self.bn_layer(x.shape[-1], name)(x, train)
            x = features[name] = x + change if self.residual else change
        return features


class Resnet2(Resnet):
    """Resnet, wider, with a 7x7 BnLayer as its stem and dropout before the last layer."""

    layers: Sequence[int] = (16, 32, 64, 128, 256)
    dropout: float = 0.2

    def stem(self, x: jax.Array, train: bool) -> jax.Array:
        """A 7x7 BnLayer; padded by 3 to stay at 32x32 (the lesson padded by 1)."""
        return self.bn_stem(x, train, kernel_size=7)


class FastResnet(Resnet):
    """A residual network for a CPU: a stride-2 stem, and wide layers on small images.

    What costs time on a CPU is large images with few channels, which keep its matrix units idle:
    this one has 22 million multiplications and additions an image, Resnet2 52 million, and it
    trains on nearly three times as many images a second.
    """

    layers: Sequence[int] = (32, 64, 128, 256)
    residual_layers: int = 1
    stem_size: int = 3
    initializers: Initializers = FLAX  # its settings were chosen with these

    def stem(self, x: jax.Array, train: bool) -> jax.Array:
        """A BnLayer that halves the image."""
        return self.bn_stem(x, train, self.stem_size, stride=2)


class SmallResnet(FastResnet):
    """FastResnet at half its width, for comparisons of many runs: 292,954 parameters."""

    layers: Sequence[int] = (16, 32, 64, 128)
