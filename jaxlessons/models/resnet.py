"""The lesson's two residual networks; what they take and return is said in `convnet`."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from jaxlessons.models.convnet import ConvBnNet, Features


class Resnet(ConvBnNet):
    """ConvBnNet with two residual layers, x + BnLayer(x), behind each stride-2 layer.

    He et al., Deep residual learning for image recognition (2015), in the lesson's short form:
    one convolution inside each residual layer, and nothing after the sum.
    """

    def extra_layers(self, x: jax.Array, stage: int, train: bool) -> Features:
        """The stage's two residual layers."""
        features: Features = {}
        for i in (1, 2):
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
