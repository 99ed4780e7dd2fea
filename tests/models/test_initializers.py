"""The lesson's networks begin as PyTorch's do, and the others as flax's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlessons.models.bn_layer import BnLayer
from jaxlessons.models.convnet import ConvBnNet, ConvBnNet2, ConvNet, ConvNet2, SimpleNet
from jaxlessons.models.resnet import FastResnet, Resnet, Resnet2
from jaxlessons.train_state import make_create_state

IMAGES = jnp.zeros((1, 32, 32, 3))


def layers(network):
    """(name, kernel, bias or None) of each layer that multiplies."""
    create_state = make_create_state(network, optax.identity())
    params = create_state(jax.random.key(3), IMAGES).params
    for name, layer in params.items():
        layer = layer.get("conv", layer)
        yield name, np.asarray(layer["kernel"]), layer.get("bias")


@pytest.mark.parametrize(
    "network",
    [
        SimpleNet((300,)),
        ConvNet((60, 80)),
        ConvNet2((60, 80)),
        ConvBnNet((60, 80)),
        ConvBnNet((60, 80), norm="none"),
        ConvBnNet2((60, 80)),
        Resnet((60, 80)),
        Resnet2((60, 80)),
    ],
    ids=lambda network: f"{type(network).__name__}-{getattr(network, 'norm', '')}",
)
def test_a_network_of_the_lesson_is_uniform_within_the_root_of_fan_in(network):
    # PyTorch's Linear and Conv2d: kaiming_uniform_(a=sqrt(5)) for the kernel, and the same bound,
    # 1/sqrt(fan_in), for the bias.
    biases = []
    for name, kernel, bias in layers(network):
        bound = np.prod(kernel.shape[:-1]) ** -0.5
        assert 0.98 * bound < np.abs(kernel).max() <= bound * (1 + 1e-6), name
        # Of n uniform numbers the deviation is near bound / sqrt(3) to about 0.45 / sqrt(n).
        assert kernel.std() == pytest.approx(bound / 3**0.5, rel=2.5 / kernel.size**0.5), name
        if bias is not None:
            assert np.abs(bias).max() <= bound, name
            biases.append(np.asarray(bias) / bound)
    biases = np.concatenate(biases)
    assert biases.std() == pytest.approx(3**-0.5, rel=2.5 / biases.size**0.5)
    assert len(np.unique(biases)) == biases.size


@pytest.mark.parametrize("network", [FastResnet((32, 64)), BnLayer(64, norm="none")])
def test_the_others_have_three_times_the_variance_and_no_bias(network):
    for name, kernel, bias in layers(network):
        deviation = np.prod(kernel.shape[:-1]) ** -0.5
        assert kernel.std() == pytest.approx(deviation, rel=3.5 / kernel.size**0.5), name
        assert bias is None or not np.any(bias), name
