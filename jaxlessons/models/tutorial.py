"""The small network in which the tutorial tries out its modules, for 28x28 grey images.

Kim, PyTorch zero to all, lessons 10 and 11, https://github.com/hunkim/PyTorchZeroToAll. It takes
and returns what `convnet` says, for images of any number of channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlessons.models.conv import Conv
from jaxlessons.models.convnet import Features, check_size, outputs
from jaxlessons.models.vgg import Pool


class TutorialNet(nn.Module):
    """For each of `layers` a 5x5 convolution, 2x2 max pool, ReLU and a `block`; then one Dense.

    The convolutions don't pad: 28 -> 24 -> 12 -> 8 -> 4. The features are flattened for the Dense
    in the order height, width, channel, where PyTorch has channel, height, width.
    """

    layers: Sequence[int] = ()
    num_classes: int = 10
    dtype: Any = jnp.float32

    def block(self, number: int, x: jax.Array) -> Features:
        """{name: output} of the block behind the convolution of this number."""
        raise NotImplementedError

    def least_size(self) -> int:
        """The least height and width of an image: with two layers 16."""
        size = 1
        for _ in self.layers:
            size = 2 * size + 4
        return size

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, return_features: bool = False) -> Any:
        check_size(x, self.least_size())
        features: Features = {}
        for number, size in enumerate(self.layers, 1):
            name = f"conv{number}"
            conv = Conv(size, (5, 5), padding=((0, 0), (0, 0)), dtype=self.dtype, name=name)
            features[name] = nn.relu(Pool()(conv(x)))
            features |= self.block(number, features[name])
            x = list(features.values())[-1]
        x = features["flat"] = x.reshape(x.shape[0], -1)
        logits = nn.Dense(self.num_classes, dtype=self.dtype, name="out")(x)
        return outputs(logits, features, return_features)
