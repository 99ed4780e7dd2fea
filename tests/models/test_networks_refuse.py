"""Images that a network can't take, and settings that make none, end in one sentence."""

import re

import jax
import jax.numpy as jnp
import pytest

from jaxlessons.errors import UserError
from jaxlessons.models.branches import Branch
from jaxlessons.models.convnet import ConvBnNet, ConvNet, ConvNet2, SimpleNet
from jaxlessons.models.inception import (
    GoogLeNet,
    Inception,
    InceptionResidual,
    InceptionResnet,
    TutorialInceptionNet,
    branch,
)
from jaxlessons.models.residual import BlockResnet, ResNet18, TutorialResidualNet


def shapes(network, *shape):
    return jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *shape)))


@pytest.mark.parametrize(
    ("network", "least"),
    [
        (TutorialInceptionNet(), 16),
        (TutorialResidualNet(), 16),
        (GoogLeNet(width=0.1), 8),
        (ConvNet(), 15),
        (ConvNet((4, 4)), 7),
        # As their convolutions pad, a pixel is enough.
        (ConvNet2((4, 4)), 1),
        (SimpleNet(), 1),
        (ConvBnNet((4, 4)), 1),
        (BlockResnet((4, 8), blocks=(1, 1)), 1),
        (ResNet18((4, 8), 10, blocks=(1, 1)), 1),
        (InceptionResnet(width=0.1, blocks=(1, 1, 1)), 1),
    ],
)
def test_too_small_an_image_is_refused_with_the_least_size(network, least):
    with pytest.raises(UserError) as told:
        shapes(network, least - 1, 40, 3)
    size = f"{least} x {least}"
    expected = f"The images are {least - 1} x 40: this network takes {size} or more."
    assert told.value.args == (expected,)
    made = jax.eval_shape(
        network.init_with_output, jax.random.key(0), jnp.zeros((1, least, least, 3))
    )
    assert made[0].shape == (1, 10)


@pytest.mark.parametrize(
    "network",
    [
        TutorialInceptionNet(),
        GoogLeNet(width=0.1),
        InceptionResnet(width=0.1),
        BlockResnet(),
        ResNet18(),
        ConvBnNet(),
        ConvNet(),
        ConvNet2(),
        SimpleNet(),
    ],
    ids=lambda network: type(network).__name__,
)
@pytest.mark.parametrize("shape", [(28, 28, 1), (5, 28, 28), (28, 28), (1, 5, 28, 28, 1)])
def test_images_without_a_batch_or_a_channel_are_refused(network, shape):
    with pytest.raises(UserError) as told:
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(shape))
    expected = f"The images are of shape {list(shape)}: give them as "
    assert told.value.args == (expected + "[batch, height, width, channel].",)


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (Inception((branch("b", (4, 1), (4, 2)),)), "kernel_size is (2, 2): its sides must be odd"),
        (Inception((Branch("b", ((4, (3, 4)),)),)), "kernel_size is (3, 4): its sides must be odd"),
        (Inception((branch("b", (4, 0)),)), "kernel_size is (0, 0): its sides must be odd"),
        (
            Inception((branch("b", (4, 1), pool="mean"),)),
            "pool is 'mean': it must be 'none', 'avg' or 'max'.",
        ),
        (Inception(()), "branches is empty: an Inception module has one or more."),
        (InceptionResidual(()), "branches is empty: an Inception module has one or more."),
        (GoogLeNet(width=0), "width is 0: it must be above 0."),
        (GoogLeNet(width=float("nan")), "width is nan: it must be above 0."),
        (InceptionResnet(width=-0.5), "width is -0.5: it must be above 0."),
        (InceptionResnet(width=float("inf")), "width is inf: it must be above 0."),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_a_sentence(network, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        shapes(network, 16, 16, 3)
