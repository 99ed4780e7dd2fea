"""The lesson's residual networks, and one for a CPU; `convnet` says what they take and return."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from jaxlessons.models.convnet import ConvBnNet, Features


class Resnet(ConvBnNet):
    """ConvBnNet with residual layers, x + BnLayer(x), behind each stride-2 layer.

    He et al., Deep residual learning for image recognition (2015), in the lesson's short form:
    one convolution inside each residual layer, and nothing after the sum.
    """

    residual_layers: int = 2

    def extra_layers(self, x: jax.Array, stage: int, train: bool) -> Features:
        """The stage's residual layers."""
        features: Features = {}
        for i in range(1, self.residual_layers + 1):
            name = f"stage{stage}_res{i}"
            x = features[name] = x + self.bn_layer(x.shape[-1], name)(x, train)
        return features


class Resnet2(Resnet):
    """Resnet, wider, with a 7x7 BnLayer as its stem and dropout before the last layer."""

    layers: Sequence[int] = (16, 32, 64, 128, 256)
    dropout: float = 0.2

    def stem(self, x: jax.Array, train: bool) -> jax.Array:
        """A 7x7 BnLayer; padded by 3 to stay at 32x32 (the lesson padded by 1)."""
        return self.bn_layer(self.layers[0], "stem", kernel_size=7)(x, train)


class FastResnet(Resnet):
    """A residual network for a CPU: a stride-2 stem, and wide layers on small images.

    What costs time on a CPU is large images with few channels, which keep its matrix units idle:
    this one has 22 million multiplications and additions an image, Resnet2 52 million, and it
    trains on three times as many images a second.
    """

    layers: Sequence[int] = (32, 64, 128, 256)
    residual_layers: int = 1

    def stem(self, x: jax.Array, train: bool) -> jax.Array:
        """A 3x3 BnLayer that halves the image."""
        return self.bn_layer(self.layers[0], "stem", stride=2)(x, train)


class SmallResnet(FastResnet):
    """FastResnet at half its width, for comparisons of many runs: 292,954 parameters."""

    layers: Sequence[int] = (16, 32, 64, 128)
