"""VGG16's convolutions, with a head of class maps; layers are named as in Keras.

Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition (2014):
blocks of 3x3 convolutions, each followed by a ReLU, and 2x2 pooling behind every block. Each layer
is a submodule of its name, so that `features["block5_conv3"]` and `cam.grad_cam`'s layer
"block5_conv3" are the same: the convolution's output after its ReLU.
"""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlessons.models.conv import conv_general_dilated
from jaxlessons.models.convnet import Features, outputs

# Convolutions of each block, and their channels.
BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))

# The mean of the training images, in the order blue, green, red.
MEAN = (103.939, 116.779, 123.68)


def _layers() -> dict[str, int]:
    layers: dict[str, int] = {}
    for block, (convolutions, channels) in enumerate(BLOCKS, 1):
        layers |= {f"block{block}_conv{i}": channels for i in range(1, convolutions + 1)}
        layers[f"block{block}_pool"] = channels
    return layers


# Name -> channels of its output, in the order of the forward pass.
LAYERS = _layers()


def kernel_shapes() -> dict[str, tuple[int, int, int, int]]:
    """Name -> (height, width, in, out) of each convolution's kernel, in order."""
    shapes, inputs = {}, 3
    for name, channels in LAYERS.items():
        if "conv" in name:
            shapes[name] = (3, 3, inputs, channels)
        inputs = channels
    return shapes


def preprocess(images: jax.Array, mean: tuple[float, ...] = MEAN) -> jax.Array:
    """RGB 0..255 `[..., 3]` of any type -> float32 blue, green, red minus `mean`.

    mean: in the order blue, green, red; `weights.vgg16()` says which its parameters want.
    """
    shift = jnp.asarray(mean, jnp.float32).reshape((1,) * (images.ndim - 1) + (3,))
    return jnp.asarray(images, jnp.float32)[..., ::-1] - shift


class ConvRelu(nn.Module):
    """relu(x * kernel + bias), a 3x3 convolution that keeps the image's size; the Keras layer."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        x = conv_general_dilated(
            x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return nn.relu(x + bias.reshape(1, 1, 1, -1))


class Pool(nn.Module):
    """The maximum or the average over windows of 2x2; an odd last row or column is dropped."""

    kind: Literal["max", "avg"] = "max"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if self.kind == "avg":
            return nn.avg_pool(x, (2, 2), strides=(2, 2))
        # Of four slices, not nn.max_pool, whose gradient is a scatter: on a CPU 7 times as slow.
        height, width = (side // 2 * 2 for side in x.shape[1:3])
        rows = jnp.maximum(x[:, 0:height:2, :width], x[:, 1:height:2, :width])
        return jnp.maximum(rows[:, :, 0::2], rows[:, :, 1::2])


class VGG16(nn.Module):
    """The layers from `first` to `last`, without the dense ones.

    Images `[batch, height, width, 3]` from `preprocess` -> the output of `last`; with
    `return_features=True` (output, features), where features maps each layer's name to its output.
    Under jit what isn't used of them costs nothing. With another `first` the input is the output
    of the layer before it. pool: "avg" is smoother, as Gatys et al. (2015) liked for style.
    """

    last: str = "block5_pool"
    first: str = "block1_conv1"
    pool: Literal["max", "avg"] = "max"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, return_features: bool = False) -> Any:
        features: Features = {}
        for name in self.layer_names():
            if name.endswith("pool"):
                layer: nn.Module = Pool(self.pool, name=name)
            else:
                layer = ConvRelu(LAYERS[name], self.dtype, name=name)
            x = features[name] = layer(x)
        return (x, features) if return_features else x

    def layer_names(self) -> list[str]:
        """From `first` to `last`; ValueError where these are not layers in that order."""
        names = list(LAYERS)
        for field, name in (("first", self.first), ("last", self.last)):
            if name not in names:
                raise ValueError(f"{field} is {name!r}: it must be one of {', '.join(names)}.")
        if self.pool not in ("max", "avg"):
            raise ValueError(f"pool is {self.pool!r}: it must be 'max' or 'avg'.")
        found = names[names.index(self.first) : names.index(self.last) + 1]
        if not found:
            raise ValueError(f"first is {self.first!r}, which comes after last, {self.last!r}.")
        return found


class ClassMaps(nn.Module):
    """The lesson's head: a 3x3 convolution to one channel a class, then their means as logits.

    Features `[batch, height, width, channel]` -> logits `[batch, num_classes]`; with
    `return_features=True` also {"class_maps": the convolution's output, "out": logits}. There is
    no dense layer: the class's channel is its class activation map (Lin et al., Network in
    network, 2013; Zhou et al., Learning deep features for discriminative localization, 2015).
    """

    num_classes: int
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, return_features: bool = False) -> Any:
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        conv = nn.Conv(self.num_classes, (3, 3), padding=1, dtype=self.dtype, name="class_maps")
        maps = conv(x).astype(jnp.float32)
        return outputs(jnp.mean(maps, axis=(1, 2)), {"class_maps": maps}, return_features)


class VGG16Classifier(nn.Module):
    """VGG16 as `trunk`, ClassMaps as `head`: inputs as VGG16 takes them -> logits.

    With `return_features=True` (logits, features of both by name).
    """

    num_classes: int
    last: str = "block5_pool"
    first: str = "block1_conv1"
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, return_features: bool = False) -> Any:
        trunk = VGG16(self.last, self.first, dtype=self.dtype, name="trunk")
        head = ClassMaps(self.num_classes, self.dropout, self.dtype, name="head")
        x, features = trunk(x, train, return_features=True)
        logits, maps = head(x, train, return_features=True)
        return (logits, features | maps) if return_features else logits
